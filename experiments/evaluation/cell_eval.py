"""The field's evaluator, cell-eval2, called on one context: predicted cells or pseudobulks beside real ones.

P perturbations, G genes
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from experiments.evaluation.labels import CONTROL

PACKAGES = ("cell-eval2", "pdex")
_COLUMN = "target"

V1_PSEUDOBULK = {"PDS": "discrimination_score_l1", "MAE": "mae", "Pearson-delta": "pearson_delta"}
"""The paper's name -> cell-eval's, of metrics that look at pseudobulks only."""
V1_DE = {
    "DES": "overlap_at_N",
    "Spearman #DEG": "de_spearman_sig",
    "Spearman LFC": "de_spearman_lfc_sig",
    "AUPRC": "pr_auc",
}
"""The same of metrics on tables of differential expression."""
VCC_EXPRESSION = {"PDS (cosine)": "pds_cosine", "expression MSE": "expr_mse_unbiased_capped_norm"}
VCC_DE = {
    "LFC error": "de_wilcoxon_lfc_nmae",
    "direction, fidelity": "de_wilcoxon_direction_fidelity_yield_raw",
    "direction, reach": "de_wilcoxon_direction_reach_raw",
    "DE overlap": "de_wilcoxon_sig_jaccard",
}
_RATIO = "expr_mse_unbiased_capped_norm"
_VCC_PARTS = ["expr_mse_unbiased_capped", "expr_distance_unbiased"]
"""Without a value of its own per perturbation, the MSE is a ratio of the sums of these."""
LOWER_IS_BETTER = frozenset({"MAE", "LFC error", "expression MSE"})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison: rows of all perturbations and of the control, genes in the same order."""

    values: Any
    """(n, G) CSR or array: log-normalised expression for v1, counts for vcc2026."""
    labels: np.ndarray
    """(n,) perturbation of each row, or CONTROL."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
    """Values of one method in one context."""

    by_perturbation: dict[str, dict[str, float]]
    """Metric -> perturbation -> value; NaN where undefined."""
    whole: dict[str, float]
    """Metric -> its value over all perturbations, as the evaluator averages it."""


def missing_packages() -> list[str]:
    """Packages that the evaluator needs and that are not installed."""
    modules = {"cell-eval2": "cell_eval2", "pdex": "pdex"}
    return [package for package in PACKAGES if importlib.util.find_spec(modules[package]) is None]


def versions() -> dict[str, str]:
    """Of the evaluator and of its engine for differential expression."""
    return {package: importlib.metadata.version(package) for package in PACKAGES}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CellEval:
    """cell-eval2 with everything fixed that a number depends on."""

    genes: tuple[str, ...]
    targets: Mapping[str, str | None]
    """Perturbation -> the gene it is, which PDS and the tables leave out; None where it is none."""
    cache: Path | None = None
    """Folder of the real sides' tables; each is found again by its content."""

    def v1(self, names: Mapping[str, str], predicted: Side, real: Side) -> Found:
        """Metrics of the 2025 challenge on log-normalised rows, each side against its own controls.

        Args:
            names: column -> the evaluator's name, of V1_PSEUDOBULK or V1_DE.
            predicted: prediction and its controls.
            real: truth and its controls, the same perturbations.
        """
        from cell_eval2 import EvalConfig

        return self._run(EvalConfig.v1(), list(names.values()), names, predicted, real)

    def vcc2026(self, names: Mapping[str, str], predicted: Side, real: Side) -> Found:
        """Metrics of the 2026 challenge on counts; controls are each side's own, not the truth's for both."""
        from cell_eval2 import EvalConfig

        wanted = [name for name in names.values() if name != _RATIO]
        if len(wanted) < len(names):
            wanted += [*_VCC_PARTS, _RATIO]
        config = dataclasses.replace(EvalConfig.from_preset("vcc2026"), control_source="pred")
        return self._run(config, wanted, names, predicted, real)

    def _run(self, config: Any, wanted: list[str], names: Mapping[str, str], predicted: Side, real: Side) -> Found:
        from cell_eval2 import compute_metrics

        config = dataclasses.replace(
            config,
            metrics=wanted,
            pert_col=_COLUMN,
            control=CONTROL,
            device="cpu",
            num_threads=os.cpu_count() or 1,
            target_gene_map=dict(self.targets),
            cache_real=None if self.cache is None else str(self.cache),
            cache_strict=True,
            de=dataclasses.replace(config.de, backend="pdex"),
        )
        with _quiet():
            table = compute_metrics(self._anndata(predicted), self._anndata(real), config=config)
            averages = _averages(table, wanted)
        by_metric: dict[str, dict[str, float]] = {}
        for perturbation, metric, value in table.iter_rows():
            by_metric.setdefault(metric, {})[perturbation] = float("nan") if value is None else float(value)
        whole = dict(zip(averages["metric"].to_list(), averages["mean"].to_list(), strict=True))
        return Found(
            by_perturbation={column: by_metric.get(name, {}) for column, name in names.items()},
            whole={column: float(whole.get(name, float("nan"))) for column, name in names.items()},
        )

    def _anndata(self, side: Side) -> Any:
        import anndata
        import pandas

        values = side.values
        values = scipy.sparse.csr_matrix(values, dtype=np.float32) if scipy.sparse.issparse(values) else values
        names = pandas.Index([f"row{i}" for i in range(len(side.labels))])
        obs = pandas.DataFrame({_COLUMN: pandas.Categorical(side.labels.astype(str))}, index=names)
        return anndata.AnnData(values, obs=obs, var=pandas.DataFrame(index=pandas.Index(self.genes)))


def _averages(table: Any, wanted: list[str]) -> Any:
    """Over perturbations; without the MSE's ratio where the real cells show no effect to divide by."""
    from cell_eval2 import aggregate_metrics

    try:
        return aggregate_metrics(table, metrics=wanted)
    except ValueError:
        if _RATIO not in wanted:
            raise
        return aggregate_metrics(table, metrics=[name for name in wanted if name != _RATIO])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the evaluator's progress bars, warnings on its own future, and thoughts on its settings."""
    previous = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(previous)
