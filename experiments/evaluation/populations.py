"""Whole populations of cells compared: distribution metrics, library sizes, zero fractions.

n cells, G genes. Every table has the model, samples of the likelihood baselines, and two halves of the real cells.
"""

import numpy as np

from data_pipelines.progress import Progress, silent
from experiments.evaluation.cells import Cells, Sparse, all_measured
from experiments.evaluation.cloud import joint_components
from experiments.evaluation.labels import Labels
from experiments.evaluation.likelihood import TrainingSide, sample_nb_per_label
from experiments.evaluation.results import MetricRow
from lingshu_jax.evaluation import (
    correlation_error,
    ilisi,
    ks_distance,
    mean_pearson,
    mean_spearman,
    mmd,
    sinkhorn_wasserstein,
)

MODEL = "model"
REAL = "real"
REPLICATE = "real vs real"
MOST_CELLS = 4_000
"""Cells a side of the tables of library sizes and zero fractions."""
MOST_POINTS = 2_000
"""Cells a side of the distribution metrics."""
SCALE = 1e4
"""Counts per cell before log1p."""
VARIABLE_GENES = 100
"""Most variable genes of the real cells, for gene-gene correlations."""


def baseline_samples(training: TrainingSide, labels: Labels, rng: np.random.Generator) -> dict[str, Cells]:
    """As many cells as there are labels from each likelihood baseline; 'per label' ones carry these labels."""
    n = len(labels)
    samples = {
        "independent genes": all_measured(training.independent.sample(n, rng)),
        "nb_depth": all_measured(training.nb.sample(n, rng)),
    }
    if training.labelled:
        samples["nb_depth per label"] = all_measured(sample_nb_per_label(training, labels, rng))
    return samples


def distribution_table(
    real: Cells, others: dict[str, Cells], *, rng: np.random.Generator, seed: int, progress: Progress = silent
) -> tuple[MetricRow, ...]:
    """Every method against one half of the real cells, at equal n; the other half is the row `real vs real`.

    Args:
        real: n real cells.
        others: method -> at least n/2 cells in random order.
        rng: halves the real cells.
        seed: of the principal components.
        progress: told after each method.
    """
    order = rng.permutation(len(real))
    n = min(len(real) // 2, MOST_POINTS, *(len(cells) for cells in others.values()))
    if n < 10:
        return ()
    reference = real.take(order[:n]).log_expression(SCALE)
    sides = {name: cells.take(np.arange(n)) for name, cells in others.items()}
    sides[REPLICATE] = real.take(order[n : 2 * n])
    variable = _most_variable(reference)
    rows = []
    for name, cells in sides.items():
        progress("distribution metrics", len(rows), len(sides))
        expression = cells.log_expression(SCALE)
        rows.append(MetricRow(name=name, n=n, values=_distances(expression, reference, variable, seed)))
    progress("distribution metrics", len(sides), len(sides))
    return tuple(rows)


def cell_table(real: Cells, others: dict[str, Cells], rng: np.random.Generator) -> tuple[MetricRow, ...]:
    """Library sizes and zero fractions: the real cells, every method, and one real half against the other."""
    order = rng.permutation(len(real))
    half = len(real) // 2
    rows = [MetricRow(name=REAL, n=len(real), values=_cell_values(real, None))]
    rows += [MetricRow(name=name, n=len(cells), values=_cell_values(cells, real)) for name, cells in others.items()]
    if half:
        first, second = real.take(order[:half]), real.take(order[half:])
        rows.append(MetricRow(name=REPLICATE, n=half, values=_cell_values(first, second)))
    return tuple(rows)


def _distances(expression: Sparse, reference: Sparse, variable: np.ndarray, seed: int) -> dict[str, float | None]:
    points, reference_points = joint_components([expression, reference], seed=seed)
    return {
        "pearson_means": mean_pearson(expression, reference),
        "spearman_means": mean_spearman(expression, reference),
        "mmd": mmd(points, reference_points),
        "w1_sinkhorn": sinkhorn_wasserstein(points, reference_points),
        "ilisi": ilisi(points, reference_points),
        "correlation_error": correlation_error(expression[:, variable].toarray(), reference[:, variable].toarray()),
    }


def _cell_values(cells: Cells, reference: Cells | None) -> dict[str, float | None]:
    library, zeros = cells.libraries, cells.zero_fractions
    quartiles = np.quantile(library, [0.25, 0.75])
    return {
        "library_median": float(np.median(library)),
        "library_log_sd": float(np.log(np.maximum(library, 1)).std()),
        "library_iqr": float(quartiles[1] - quartiles[0]),
        "library_ks": None if reference is None else ks_distance(library, reference.libraries),
        "zero_median": float(np.median(zeros)),
        "zero_sd": float(zeros.std()),
        "zero_ks": None if reference is None else ks_distance(zeros, reference.zero_fractions),
    }


def _most_variable(expression: Sparse) -> np.ndarray:
    mean = np.asarray(expression.mean(0)).ravel()
    variance = np.asarray(expression.multiply(expression).mean(0)).ravel() - mean**2
    return np.sort(np.argsort(-variance, kind="stable")[:VARIABLE_GENES])
