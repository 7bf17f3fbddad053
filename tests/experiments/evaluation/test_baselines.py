"""Effect baselines on pseudobulks that are written down by hand."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from data_pipelines.columns import Columns
from experiments.evaluation.baselines import (
    Additive,
    ContextMean,
    MeanEffect,
    NoChange,
    PerturbationTransfer,
    RidgeContexts,
    SampledMeanEffect,
    TrainingMean,
    TransferWithin,
    fit_baselines,
)
from experiments.evaluation.cells import Cells, all_measured
from experiments.evaluation.labels import CONTROL, labels_of, labels_of_contexts
from experiments.evaluation.training_effects import TrainingEffects

GENES = 5
CONTEXT = {"a": np.arange(GENES) + 1.0, "b": np.arange(GENES)[::-1] + 2.0}
EFFECT = {"p": np.array([1.0, 0, 0, -1, 0]), "q": np.array([0, 2.0, 0, 0, -1]), "r": np.array([0, 0, 3.0, 1, 0])}


@pytest.fixture
def training() -> TrainingEffects:
    """Additive effects; (b, r) is held out."""
    keys = [(c, p) for c in CONTEXT for p in (CONTROL, *EFFECT) if (c, p) != ("b", "r")]
    mean = np.stack([CONTEXT[c] + (EFFECT[p] if p != CONTROL else 0) for c, p in keys])
    return TrainingEffects(
        target_sum=100.0,
        index={key: i for i, key in enumerate(keys)},
        mean=mean,
        cells=np.full(len(keys), 40),
        controls={c: _cells_at(CONTEXT[c]) for c in CONTEXT},
        genes=tuple("pqrst"),
    )


def _cells_at(log_mean: np.ndarray) -> Cells:
    """Thirty cells whose expression at 100 counts is `log_mean` each, as far as whole counts can say it."""
    counts = np.round(np.tile(np.expm1(log_mean), (30, 1)) * 100).astype(np.int64)
    return dataclasses.replace(all_measured(scipy.sparse.csr_matrix(counts)), share=counts[:1].sum(1) / 1e4)


def predicted(baseline, context: str = "b", perturbation: str = "r") -> np.ndarray:
    found = baseline.predict(context, perturbation, 50, np.random.default_rng(0))
    assert found is not None
    return found


def test_transfer_and_additive_complete_an_additive_screen_exactly(training) -> None:
    truth = CONTEXT["b"] + EFFECT["r"]
    np.testing.assert_allclose(predicted(PerturbationTransfer.fit(training)), truth)
    np.testing.assert_allclose(predicted(Additive.fit(training)), truth, atol=1e-9)


def test_transfer_never_looks_at_the_context_itself(training) -> None:
    training.mean[training.index["a", "r"]] += 7
    np.testing.assert_allclose(predicted(PerturbationTransfer.fit(training), "a", "p"), CONTEXT["a"] + EFFECT["p"])
    assert PerturbationTransfer.fit(training).predict("a", "r", 50, np.random.default_rng(0)) is None


def test_transfer_within_a_column_asks_contexts_with_the_same_label_alone(training) -> None:
    assert not TransferWithin.fit_all(training)  # one context column: no two contexts share its label
    types = {f"d{donor} | {kind}": (f"d{donor}", kind) for donor in range(3) for kind in ("B", "T")}
    effect = {"B": EFFECT["p"], "T": EFFECT["q"]}
    keys = [(context, p) for context in types for p in (CONTROL, "stim") if (context, p) != ("d2 | B", "stim")]
    mean = np.stack([CONTEXT["a"] + (effect[types[c][1]] if p == "stim" else 0) for c, p in keys])
    mean[keys.index(("d0 | B", "stim"))] += 1.0
    two = dataclasses.replace(
        training,
        index={key: i for i, key in enumerate(keys)},
        mean=mean,
        context_columns=("donor", "cell_type"),
        context_labels=types,
    )
    within = {baseline.name: baseline for baseline in fit_baselines(two) if isinstance(baseline, TransferWithin)}
    assert list(within) == ["perturbation_transfer (same donor)", "perturbation_transfer (same cell_type)"]
    same_type, same_donor = reversed(within.values())
    np.testing.assert_allclose(predicted(same_type, "d2 | B", "stim"), CONTEXT["a"] + EFFECT["p"] + 0.5)
    np.testing.assert_allclose(predicted(same_donor, "d2 | B", "stim"), CONTEXT["a"] + EFFECT["q"])
    np.testing.assert_allclose(predicted(same_type, "d0 | B", "stim"), CONTEXT["a"] + EFFECT["p"])  # d1 alone
    assert same_type.predict("d9 | B", "stim", 50, np.random.default_rng(0)) is None


def test_ridge_over_contexts_follows_an_effect_that_grows_with_the_control() -> None:
    contexts, slope = ("a", "b", "c", "d"), np.array([0, 0.5, -0.5, 0, 1.0])
    along = dict(zip(contexts, (0.0, 1.0, 2.0, 4.0), strict=True))
    control = {c: CONTEXT["a"] + along[c] * np.array([1.0, 0, 0, 0, 0]) for c in contexts}
    keys = [(c, p) for c in contexts for p in (CONTROL, "p") if (c, p) != ("d", "p")]
    mean = np.stack([control[c] + (along[c] * slope if p == "p" else 0) for c, p in keys])
    screen = TrainingEffects(
        target_sum=100.0,
        index={key: i for i, key in enumerate(keys)},
        mean=mean,
        cells=np.full(len(keys), 40),
        controls={c: _cells_at(control[c]) for c in contexts},
        genes=tuple("pqrst"),
    )
    truth = control["d"] + along["d"] * slope
    by_ridge, by_mean = predicted(RidgeContexts.fit(screen), "d", "p"), predicted(MeanEffect.fit(screen), "d", "p")
    assert np.abs(by_ridge - truth).max() < 0.3 < np.abs(by_mean - truth).max()
    assert RidgeContexts.fit(screen).predict("d", "q", 50, np.random.default_rng(0)) is None


def test_labels_of_contexts_are_those_that_cells_are_named_by() -> None:
    obs = pd.DataFrame({"donor": ["d | 1", "d2", "d2"], "type": ["B", "T", "T"], "target": ["ctrl", "p", "ctrl"]})
    columns = Columns(context=("donor", "type"), perturbation="target", control=("ctrl",))
    labels = labels_of(obs, columns)
    assert labels is not None
    assert set(labels_of_contexts(obs, columns)) == set(labels.contexts())
    assert labels_of_contexts(obs, columns)["d | 1 | B"] == ("d | 1", "B")
    assert labels_of_contexts(obs, Columns()) == {}


def test_mean_effect_is_one_delta_for_all_and_weighs_contexts_equally(training) -> None:
    in_a, in_b = sum(EFFECT.values()) / 3, (EFFECT["p"] + EFFECT["q"]) / 2
    expected = (in_a + in_b) / 2
    np.testing.assert_allclose(predicted(MeanEffect.fit(training)) - CONTEXT["b"], expected)
    np.testing.assert_allclose(predicted(MeanEffect.fit(training), "a", "p") - CONTEXT["a"], expected)
    np.testing.assert_allclose(predicted(SampledMeanEffect.fit(training)) - CONTEXT["b"], expected, atol=0.01)


def test_context_mean_no_change_and_training_mean(training) -> None:
    np.testing.assert_allclose(predicted(ContextMean.fit(training)), CONTEXT["b"] + (EFFECT["p"] + EFFECT["q"]) / 2)
    np.testing.assert_allclose(predicted(NoChange.fit(training)), CONTEXT["b"], atol=0.01)
    np.testing.assert_allclose(predicted(TrainingMean.fit(training), "a", "r"), CONTEXT["a"] + EFFECT["r"])


def test_baselines_say_when_they_do_not_apply(training) -> None:
    rng = np.random.default_rng(0)
    answers = {baseline.name: baseline.predict("nowhere", "r", 10, rng) for baseline in fit_baselines(training)}
    assert set(answers.values()) == {None}
    assert TrainingMean.fit(training).predict("b", "r", 10, rng) is None
    assert Additive.fit(training).predict("b", "unseen", 10, rng) is None


def test_training_pseudobulks_are_those_of_the_training_cells_only(screen) -> None:
    training = TrainingEffects.read(screen.store, screen.split, screen.statistics)
    obs = screen.store.obs.iloc[screen.split.train]
    context, target = obs["cell_line"].astype(str), obs["target_gene"].astype(str)
    key = next(key for key in training.index if key[0] == "line_A" and key[1] != CONTROL)
    rows = screen.split.train[((context == key[0]) & (target == key[1])).to_numpy()]
    counts = screen.store.counts(rows).toarray()
    expected = np.log1p(counts * training.target_sum / counts.sum(1, keepdims=True)).mean(0)
    np.testing.assert_allclose(training.pseudobulk(*key), expected, rtol=1e-9)
    assert training.n_cells(*key) == len(rows)
    test = screen.store.obs.iloc[screen.split.test].astype(str)
    held_out = set(zip(test["cell_line"], test["target_gene"], strict=True))
    assert not {key for key in training.index if key[1] != CONTROL} & held_out
