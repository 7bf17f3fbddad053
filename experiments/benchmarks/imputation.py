"""Hidden genes of held-out cells: the model beside means by label and nearest neighbours.

    python -m experiments.benchmarks.imputation RUN [--runs RUNS] [--cells 300] [--hidden 0.5]

In every cell a random share of the measured genes is hidden. Each method says, from the others and the cell's labels,
how likely each hidden count is (nats per hidden gene, lower is better) and what is to be expected. The correlation is
that of log1p expectation and log1p count over hidden genes, less each gene's mean within the label, so that knowing the
label or a gene's level earns nothing; it is averaged over labels by their cells.

- type mean x depth: negative binomial with the label's means and dispersions, scaled by the cell's visible counts
- 15 nearest neighbours: the mean of the training cells of the same label nearest on visible genes, scaled alike, with
  the same dispersions; one more neighbour is the label's mean, so that no expectation is zero

G genes, n cells
"""

import argparse
import functools
from typing import Any

import jax
import numpy as np
import scipy.sparse

from data_pipelines import condition_rows
from experiments.benchmarks.held_out_cells import HeldOutCells, run_options
from experiments.evaluation.cells import Cells
from experiments.evaluation.labels import labels_of
from experiments.evaluation.negative_binomial import DepthNB
from experiments.evaluation.pairing import paired_difference
from experiments.train import tokens_of
from lingshu_jax.diffusion.denoising import Compilable
from lingshu_jax.tokens import MASK, VOCAB_SIZE, decode_tokens

NEIGHBOURS = 15
_ROWS = 8
MODEL, TYPE_MEAN, NEAREST = "model", "type mean x depth", f"{NEIGHBOURS} nearest neighbours"


def compare(held_out: HeldOutCells, share: float, seed: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Method -> nats per hidden gene (n,), and expected counts (n, G)."""
    tokens = tokens_of(held_out.store, held_out.rows)
    hidden = hidden_genes(tokens, share, seed)
    nats, expected = _of_model(held_out, tokens, hidden)
    found = {MODEL: (nats / hidden.sum(1), expected)}
    return found | _of_baselines(held_out, tokens, hidden)


def hidden_genes(tokens: np.ndarray, share: float, seed: int) -> np.ndarray:
    """bool (n, G): a random share of each cell's measured genes."""
    return (np.random.default_rng(seed).random(tokens.shape) < share) & (tokens < VOCAB_SIZE)


def within_labels(expected: np.ndarray, counts: np.ndarray, hidden: np.ndarray, labels: np.ndarray) -> float:
    """Mean over labels, by their cells, of the correlation of log1p values at hidden genes less gene means."""
    total = 0.0
    for label in np.unique(labels):
        cells = np.flatnonzero(labels == label)
        mask = hidden[cells]
        mine, real = (_less_gene_means(np.log1p(values[cells]), mask)[mask] for values in (expected, counts))
        spread = np.sqrt((mine**2).sum() * (real**2).sum())
        total += len(cells) * float(mine @ real / spread) if spread > 0 else 0.0
    return total / len(labels)


def _less_gene_means(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    return values - (values * mask).sum(0) / np.maximum(mask.sum(0), 1)


@functools.partial(jax.jit, static_argnums=0)
def _predict(structure: Any, arrays: Any, noised: Any, conditions: Any, tokens: Any) -> tuple[Any, Any]:
    model = structure.merge(arrays)
    return model.token_nll(noised, conditions, tokens), model.expected_counts(noised, conditions)


def _of_model(held_out: HeldOutCells, tokens: np.ndarray, hidden: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    parts = Compilable.of(held_out.run.model)
    conditions = condition_rows(held_out.store, held_out.rows, held_out.run.plan.vocabulary)
    noised = np.where(hidden, MASK, tokens)
    nats, expected = np.empty(len(tokens)), np.empty(tokens.shape, np.float32)
    for first in range(0, len(tokens), _ROWS):
        part = np.minimum(np.arange(first, first + _ROWS), len(tokens) - 1)
        labels = {name: rows[part] for name, rows in conditions.items()}
        batch = (noised[part].astype(np.int32), labels, tokens[part].astype(np.int32))
        nll, mean = (np.asarray(x) for x in _predict(parts.structure, parts.arrays, *batch))
        nats[part], expected[part] = (nll * hidden[part]).sum(1), mean
    return nats, expected


def _of_baselines(
    held_out: HeldOutCells, tokens: np.ndarray, hidden: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    training, counts = held_out.training, decode_tokens(np.where(tokens < VOCAB_SIZE, tokens, 0))
    visible = ~hidden & (tokens < VOCAB_SIZE)
    labels = labels_of(held_out.store.obs.iloc[held_out.rows], held_out.store.columns)
    assert labels is not None  # a store holds its own columns
    found = {name: (np.empty(len(tokens)), np.empty(tokens.shape)) for name in (TYPE_MEAN, NEAREST)}
    for members, same in training.groups(labels):
        group = np.arange(len(training.cells)) if same is None else same
        fitted, reference = training.fit_nb(group), training.cells.take(group).counts.toarray()
        for cell in members:
            seen = visible[cell]
            library = counts[cell, seen].sum()
            means = {
                TYPE_MEAN: fitted.mean * (library / fitted.mean[seen].sum()),
                NEAREST: _neighbour_mean(reference, counts[cell], seen, fitted.mean),
            }
            for name, mean in means.items():
                nats, expected = found[name]
                nats[cell] = _nats(counts[cell], hidden[cell], mean, fitted.dispersion) / hidden[cell].sum()
                expected[cell] = mean
    return found


def _neighbour_mean(reference: np.ndarray, counts: np.ndarray, seen: np.ndarray, label_mean: np.ndarray) -> np.ndarray:
    """(G,) mean of the nearest cells and of the label, each scaled to the cell's visible counts."""

    def scaled(rows: np.ndarray) -> np.ndarray:
        return rows / np.maximum(rows[..., seen].sum(-1, keepdims=True), 1e-9)

    near, own = np.log1p(1e4 * scaled(reference)[:, seen]), np.log1p(1e4 * scaled(counts[None])[:, seen])
    nearest = np.argsort(((near - own) ** 2).sum(1), kind="stable")[:NEIGHBOURS]
    together = np.concatenate([scaled(reference[nearest]), scaled(label_mean[None])])
    return np.maximum(together.mean(0) * counts[seen].sum(), 1e-9)


def _nats(counts: np.ndarray, hidden: np.ndarray, mean: np.ndarray, dispersion: np.ndarray) -> float:
    """-log p of the hidden counts under negative binomials with these means."""
    cell = Cells(
        counts=scipy.sparse.csr_matrix(np.where(hidden, counts, 0)[None]),
        source=np.zeros(1, int),
        measured=hidden[None],
        share=np.ones(1),
    )
    return float(DepthNB(np.maximum(mean, 1e-9), dispersion, np.ones(1)).nats(cell)[0])


def main() -> None:
    """Print a row per method, and the model's differences from the others."""
    parser = run_options(__doc__, cells=300)
    parser.add_argument("--hidden", type=float, default=0.5, help="share of each cell's measured genes")
    options: argparse.Namespace = parser.parse_args()
    held_out = HeldOutCells.read(options)
    tokens = tokens_of(held_out.store, held_out.rows)
    counts, hidden = (
        decode_tokens(np.minimum(tokens, VOCAB_SIZE - 1)),
        hidden_genes(tokens, options.hidden, options.seed),
    )
    labels = labels_of(held_out.store.obs.iloc[held_out.rows], held_out.store.columns)
    assert labels is not None  # a store holds its own columns
    names = np.array([" ".join(pair) for pair in zip(labels.context, labels.perturbation, strict=True)])
    found = compare(held_out, options.hidden, options.seed)
    mine = found[MODEL][0]
    print(f"{len(tokens):,} held-out cells, {options.hidden:.0%} of {tokens.shape[1]:,} genes hidden")
    for name, (nats, expected) in found.items():
        difference = paired_difference(mine, nats) if name != MODEL else None
        paired = (
            ""
            if difference is None
            else f"  model minus this {difference.value:+.4f} [{difference.low:.4f}, {difference.high:.4f}]"
        )
        print(f"{name:24} {nats.mean():.4f} nats  r {within_labels(expected, counts, hidden, names):.3f}{paired}")


if __name__ == "__main__":
    main()
