"""Labels of held-out cells by Bayes over a condition field: the model's bounds beside NB x depth per label.

    python -m experiments.benchmarks.label_recovery RUN --by cell_type [--runs RUNS] [--cells 300] [--draws 16]

Labels weigh equally on both sides; each method takes the one under which a cell is most likely.
"""

import numpy as np

from experiments.benchmarks.held_out_cells import HeldOutCells, run_options
from experiments.evaluation.cells import stored_cells


def labels_told(held_out: HeldOutCells, field: str, *, draws: int, seed: int) -> dict[str, np.ndarray]:
    """Method -> the label of each held-out cell (n,)."""
    model = held_out.run.score(held_out.anndata(held_out.rows), by=field, draws=draws, seed=seed)
    names = [column[2:-1] for column in model.columns if column.startswith("p(")]
    trained = held_out.labels(np.asarray(held_out.split.train), field)[: len(held_out.training.cells)]
    cells = stored_cells(held_out.store, held_out.rows, held_out.training.statistics.mean)
    nats = [held_out.training.fit_nb(np.flatnonzero(trained == name)).nats(cells) for name in names]
    return {
        "model": model["label"].to_numpy(dtype=str),
        "nb_depth per label": np.array(names)[np.argmin(nats, axis=0)],
    }


def main() -> None:
    """Print a row per method."""
    parser = run_options(__doc__, cells=300)
    parser.add_argument("--by", required=True, help="condition field to be told")
    parser.add_argument("--draws", type=int, default=16, help="noised copies of each cell, per label")
    options = parser.parse_args()
    held_out = HeldOutCells.read(options)
    if len(held_out.split.train) > len(held_out.training.cells):
        raise SystemExit("more training cells than the baseline reads: give it a smaller store.")
    truth = held_out.labels(held_out.rows, options.by)
    print(f"{len(truth):,} held-out cells")
    for name, labels in labels_told(held_out, options.by, draws=options.draws, seed=options.seed).items():
        print(f"{name:20} accuracy {(labels == truth).mean():.3f}")


if __name__ == "__main__":
    main()
