"""Cell representations: labels of held-out cells told by their 5 nearest training cells.

    python -m experiments.benchmarks.representation RUN --label cell_type [--runs RUNS]

RUN must not have been told the label. Beside its states stand 50 principal components of log1p expression (counts
scaled to 10,000 a cell), fitted on the training cells.
"""

import numpy as np

from experiments.benchmarks.held_out_cells import HeldOutCells, run_options
from experiments.evaluation.cells import stored_cells
from experiments.evaluation.extras import extra
from experiments.simulation.embedding import OBSM

COMPONENTS, NEIGHBOURS, SCALE = 50, 5, 1e4


def accuracies(held_out: HeldOutCells, label: str, seed: int) -> dict[str, float]:
    """Method -> share of held-out cells whose label is told."""
    train, test = np.asarray(held_out.split.train), held_out.rows
    truth = [held_out.labels(rows, label) for rows in (train, test)]
    points = {
        "model": [held_out.run.embed(held_out.anndata(rows)).obsm[OBSM] for rows in (train, test)],
        f"{COMPONENTS} principal components": _components(held_out, train, test, seed),
    }
    found = {}
    for name, (fitted, asked) in points.items():
        classifier = extra("sklearn.neighbors").KNeighborsClassifier(NEIGHBOURS).fit(fitted, truth[0])
        found[name] = float((classifier.predict(asked) == truth[1]).mean())
    return found


def _components(held_out: HeldOutCells, train: np.ndarray, test: np.ndarray, seed: int) -> list[np.ndarray]:
    mean = held_out.training.statistics.mean
    fitted, asked = (stored_cells(held_out.store, rows, mean).log_expression(SCALE) for rows in (train, test))
    reducer = extra("sklearn.decomposition").PCA(COMPONENTS, svd_solver="arpack", random_state=seed).fit(fitted)
    return [reducer.transform(fitted), reducer.transform(asked)]


def main() -> None:
    """Print a row per method."""
    parser = run_options(__doc__, cells=2_000)
    parser.add_argument("--label", required=True, help="obs column to be told")
    options = parser.parse_args()
    held_out = HeldOutCells.read(options)
    if options.label in held_out.run.plan.vocabulary.names:
        raise SystemExit(f"the run was told {options.label!r}: train one without it.")
    print(f"{len(held_out.rows):,} held-out cells, {len(held_out.split.train):,} training cells")
    for name, accuracy in accuracies(held_out, options.label, options.seed).items():
        print(f"{name:28} accuracy {accuracy:.3f} of {NEIGHBOURS} nearest neighbours")


if __name__ == "__main__":
    main()
