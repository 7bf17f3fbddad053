"""Genes that cells were told before they were drawn: shown, and left out of every score once."""

import json

import numpy as np
import pytest
import scipy.sparse

from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.injected import Injected
from experiments.evaluation.report import write_report

TOLD = 40


@pytest.fixture(scope="module")
def told(screen):
    """Copies of training controls that know the true counts of some strongly moved genes, and nothing else."""
    cells, store = screen.oracle[screen.oracle.obs["target_gene"] != "non-targeting"].copy(), screen.store
    obs, rng = store.obs.iloc[screen.split.train], np.random.default_rng(0)
    truth = store.planted_truth
    effects = np.abs(truth["log2_fold_change"]) * np.log1p(truth["baseline_mean"])[:, None]
    copied, conditions = scipy.sparse.lil_matrix(cells.shape, dtype=np.int32), []
    labels = cells.obs[["cell_line", "target_gene"]].astype(str)
    for (context, target), group in labels.groupby(["cell_line", "target_gene"]).indices.items():
        same = ((obs["cell_line"] == context) & (obs["target_gene"] == "non-targeting")).to_numpy()
        strength = effects[list(truth["contexts"]).index(context), list(truth["perturbations"]).index(target)]
        genes = np.sort(np.argsort(-strength)[:TOLD])
        block = store.counts(rng.choice(screen.split.train[same], len(group))).toarray()
        block[:, genes] = cells.X[group][:, genes].toarray()
        copied[group] = block
        conditions.append({"labels": {"cell_line": context, "target_gene": target}, "genes": genes.tolist()})
    cells.X = scipy.sparse.csr_matrix(copied)
    cells.uns["lingshu"] = json.dumps({"injected": {"genes": list(store.panel.genes), "conditions": conditions}})
    return cells


@pytest.fixture(scope="module")
def found(screen, told):
    data = {"store": screen.store, "split": screen.split, "statistics": screen.statistics}
    return evaluate(**data, generated=told, embedding=False)


def test_what_was_told_is_worth_nothing_without_it(found):
    with_them, without = ({row.name: row for row in rows} for rows in (found.effects.rows, found.injected.effects))
    assert with_them["model"].metrics["pearson_delta"].value > 0.4
    assert abs(without["model"].metrics["pearson_delta"].value) < 0.2
    assert with_them.keys() == without.keys() and without["mean_effect"].metrics["pearson_delta"].value > 0.2
    for metric in ("pds", "energy_distance"):
        assert with_them["model"].metrics[metric].value != without["model"].metrics[metric].value
    planted, hidden = ({row.name: row for row in rows} for rows in (found.planted, found.injected.planted))
    assert hidden["model"].effects < planted["model"].effects
    assert hidden["model"].share.value < planted["model"].share.value - 0.1


def test_injected_genes_are_shown_against_controls(found, told):
    assert sum(gene.conditions for gene in found.injected.genes) == TOLD * 12
    counts = [gene.conditions for gene in found.injected.genes]
    assert counts == sorted(counts, reverse=True)
    moved = np.array([[gene.generated - gene.control, gene.real - gene.control] for gene in found.injected.genes])
    assert np.corrcoef(moved.T)[0, 1] > 0.8  # they were told the truth
    assert any("genes were injected before cells were drawn" in note for note in found.notes)
    assert any(line.startswith("effects without injected genes, model: pearson_delta") for line in found.headline())


def test_the_report_has_both_tables(found, tmp_path):
    found.save(tmp_path / "evaluation")
    page = write_report(tmp_path, [tmp_path / "evaluation"], tmp_path / "report.html").read_text()
    assert "<h3>Injected genes</h3>" in page and page.count("<th>without injected genes</th>") == 2
    assert found.injected.genes[0].gene in page


def test_without_injection_there_is_no_such_table(screen):
    assert Injected.of({}, screen.store.columns, screen.store.panel.genes) is None
    assert Injected.of({"injected": {}}, screen.store.columns, screen.store.panel.genes) is None
