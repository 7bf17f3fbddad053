"""Labels and marker genes of the joint layout."""

import numpy as np
import scipy.sparse

from experiments.evaluation.cells import all_measured
from experiments.evaluation.figures import LABEL_COLOURS, MODEL_COLOUR
from experiments.evaluation.labels import CONTROL, Labels
from experiments.evaluation.results import Colouring
from experiments.evaluation.umap import MARKERS, marker_genes
from experiments.evaluation.umap_pictures import legend_of, point_colours


def labels(contexts: list[str]) -> Labels:
    return Labels(context=np.array(contexts), perturbation=np.full(len(contexts), CONTROL))


def test_markers_tell_the_contexts_apart():
    rng = np.random.default_rng(0)
    contexts = np.repeat(["a", "b", "c"], 30)
    rates = np.full((90, 12), 2.0)
    rates[contexts == "a", 3], rates[contexts == "b", 7], rates[contexts == "c", 9] = 12, 60, 25
    cells = all_measured(scipy.sparse.csr_matrix(rng.poisson(rates)))
    assert set(marker_genes(cells, labels(contexts.tolist())).tolist()) == {3, 7, 9}


def test_one_context_shows_the_genes_that_vary_most():
    rng = np.random.default_rng(0)
    counts = rng.poisson(3.0, (60, 40))
    counts[:30, 5] = 0
    counts[30:, 5] = 30
    found = marker_genes(all_measured(scipy.sparse.csr_matrix(counts)), labels(["all"] * 60))
    assert len(found) == MARKERS and found[0] == 5


def test_controls_are_grey_and_too_many_labels_are_one_colour():
    names = (CONTROL, "A", "B")
    assert [colour for _, colour in legend_of(Colouring(column="target", labels=names))][1:] == list(LABEL_COLOURS[:2])
    first, unknown = point_colours(np.array([1, -1]), names, "model")
    assert (first, unknown) == (LABEL_COLOURS[0], MODEL_COLOUR)
    many = tuple(f"P{i}" for i in range(99))
    assert legend_of(Colouring(column="target", labels=many)) == []
    assert set(point_colours(np.arange(99), many, "model")) == {MODEL_COLOUR}
