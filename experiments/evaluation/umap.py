"""One layout of real and generated cells together, coloured by their labels and by marker genes.

n cells, G genes, M marker genes
"""

import dataclasses

import numpy as np

from data_pipelines.progress import Progress
from experiments.evaluation.cells import Cells
from experiments.evaluation.embedding import SCALE, joint_umap
from experiments.evaluation.labels import Labels
from experiments.evaluation.results import Colouring, Evaluation
from experiments.evaluation.sides import Sides

MARKERS = 4
"""Genes whose expression is shown."""
_NONE = -1
"""Code of a cell without the label."""


def with_umap(result: Evaluation, sides: Sides, progress: Progress) -> Evaluation:
    """Add the layout, the codes of labels (`umap_code_SIDE_i`) and expression of marker genes (`umap_marker_SIDE`)."""
    progress("joint UMAP", 0, 1)
    real, model = joint_umap(sides.real, sides.model, seed=sides.seed)
    progress("joint UMAP", 1, 1)
    arrays = {"umap_real": real, "umap_model": model}
    colourings = []
    for column, of_real, of_model in _labels(sides):
        names = tuple(sorted(set(of_real[: len(real)].tolist()) | set(of_model[: len(model)].tolist())))
        if len(names) < 2 and colourings:
            continue  # the picture before shows these cells already
        for side, labels, n in (("real", of_real, len(real)), ("model", of_model, len(model))):
            arrays[f"umap_code_{side}_{len(colourings)}"] = _coded(labels, n, names)
        colourings.append(Colouring(column=column, labels=names))
    genes = marker_genes(sides.real, sides.real_labels)
    for side, cells, n in (("real", sides.real, len(real)), ("model", sides.model, len(model))):
        shown = cells.take(np.arange(n)).log_expression(SCALE)[:, genes]
        arrays[f"umap_marker_{side}"] = shown.toarray().astype(np.float32)
    pictures = dataclasses.replace(
        result.pictures,
        umap=tuple(colourings),
        umap_markers=tuple(sides.store.panel.genes[gene] for gene in genes.tolist()),
    )
    return dataclasses.replace(result, pictures=pictures, arrays=result.arrays | arrays)


def _labels(sides: Sides) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """(column, real labels, generated labels) of the context and of the perturbation, where the store has them."""
    columns, real, model = sides.store.columns, sides.real_labels, sides.model_labels
    found = []
    if columns.context:
        found.append((" x ".join(columns.context), real.context, _EMPTY if model is None else model.context))
    if columns.perturbation:
        labels = _EMPTY if model is None else model.perturbation
        found.append((columns.perturbation, real.perturbation, labels))
    return found


_EMPTY = np.zeros(0, dtype="U1")


def _coded(labels: np.ndarray, n: int, names: tuple[str, ...]) -> np.ndarray:
    codes = {name: i for i, name in enumerate(names)}
    return np.array([codes[label] for label in labels[:n].tolist()]) if len(labels) else np.full(n, _NONE)


def marker_genes(cells: Cells, labels: Labels) -> np.ndarray:
    """(<= MARKERS,) genes that tell the contexts apart, one per context, the clearest first.

    A marker is the gene whose mean log expression in a context lies farthest above that of all other cells. In one
    context alone: the genes that vary most.
    """
    expression = cells.log_expression(SCALE)
    contexts = list(labels.contexts())
    if len(contexts) < 2:
        mean = np.asarray(expression.mean(0)).ravel()
        variance = np.asarray(expression.multiply(expression).mean(0)).ravel() - mean**2
        return np.argsort(-variance, kind="stable")[:MARKERS]
    total = np.asarray(expression.sum(0)).ravel()
    best: dict[int, float] = {}
    for context in contexts:
        inside = labels.context == context
        own = np.asarray(expression[np.flatnonzero(inside)].sum(0)).ravel()
        contrast = own / inside.sum() - (total - own) / (~inside).sum()
        gene = int(contrast.argmax())
        best[gene] = max(best.get(gene, -np.inf), float(contrast[gene]))
    return np.array(sorted(best, key=lambda gene: -best[gene])[:MARKERS])
