"""Shares of a label among real and generated cells, told by one classifier fitted on training cells."""

import numpy as np

from experiments.evaluation.cells import Cells
from experiments.evaluation.extras import extra
from experiments.evaluation.likelihood import TrainingSide
from experiments.evaluation.results import Composition

SCALE = 1e4
TRAINING_CELLS = 4_000
MOST_LABELS = 40
"""With more labels than this no shares are given."""


def compare_composition(
    training: TrainingSide,
    sides: dict[str, tuple[Cells, np.ndarray | None]],
    *,
    column: str,
    seed: int,
) -> Composition | None:
    """Classify all sides alike and give each one's shares per label.

    Logistic regression on 30 components of log1p expression, fitted on training cells. Real cells are classified too,
    so that the classifier's own mistakes show on both sides.

    Args:
        training: training cells with their labels.
        sides: method -> cells and the labels they carry (contexts), or None.
        column: name of the label, for the table.
        seed: of the choice of training cells and of the components.

    Returns:
        Shares and accuracies; None where training cells have one label, or too many.
    """
    labels = tuple(training.labels.contexts())
    if not 2 <= len(labels) <= MOST_LABELS:
        return None
    rng = np.random.default_rng(seed)
    kept = np.sort(rng.permutation(len(training.cells))[:TRAINING_CELLS])
    expression = training.cells.take(kept).log_expression(SCALE)
    reducer = extra("sklearn.decomposition").TruncatedSVD(min(30, min(expression.shape) - 1), random_state=seed)
    classifier = extra("sklearn.linear_model").LogisticRegression(max_iter=500)
    pipeline = extra("sklearn.pipeline").make_pipeline(
        reducer, extra("sklearn.preprocessing").StandardScaler(), classifier
    )
    pipeline.fit(expression, training.labels.context[kept])
    shares: dict[str, tuple[float, ...]] = {}
    accuracy: dict[str, float | None] = {}
    for name, (cells, carried) in sides.items():
        found = pipeline.predict(cells.log_expression(SCALE))
        shares[name] = tuple(float((found == label).mean()) for label in labels)
        accuracy[name] = None if carried is None else float((found == carried).mean())
    return Composition(column=column, labels=labels, shares=shares, accuracy=accuracy)
