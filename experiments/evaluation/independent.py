"""The independent-genes baseline: every gene's own token histogram, nothing about other genes or depth.

n cells, G genes, V tokens
"""

import dataclasses

import numpy as np
import scipy.sparse

from experiments.evaluation.cells import Cells, Sparse
from lingshu_jax.tokens import VOCAB_SIZE, decode_tokens, encode_counts


@dataclasses.dataclass(frozen=True)
class IndependentGenes:
    """A proper likelihood: one categorical distribution over tokens per gene."""

    probability: np.ndarray
    """(G, V), rows sum to 1."""

    @classmethod
    def from_histogram(cls, histogram: np.ndarray) -> "IndependentGenes":
        """(H + 0.5 pool) / (n + 0.5), pool = (histogram over all genes + 1), normalised.

        Args:
            histogram: (G, V) tokens of the training cells that measured the gene.
        """
        pool = histogram.sum(0) + 1.0
        pool /= pool.sum()
        return cls((histogram + 0.5 * pool) / (histogram.sum(1, keepdims=True) + 0.5))

    def given(self, cells: Cells) -> "IndependentGenes":
        """The same, for a label with these training cells: (H_label + 20 P) / (n_label + 20)."""
        histogram = token_histogram(cells)
        return IndependentGenes((histogram + 20 * self.probability) / (histogram.sum(1, keepdims=True) + 20))

    def nats(self, cells: Cells) -> np.ndarray:
        """(n,) -log p of every cell; unmeasured genes contribute nothing."""
        zero = np.log(self.probability[:, 0])
        counts = cells.counts
        tokens = encode_counts(counts.data.astype(np.int64))
        excess = np.log(self.probability[counts.indices, tokens]) - zero[counts.indices]
        return -((cells.measured @ zero)[cells.source] + _row_sums(excess, counts))

    def sample(self, n: int, rng: np.random.Generator) -> Sparse:
        """(n, G) counts, every gene drawn on its own."""
        genes = len(self.probability)
        # Gene g's distribution function, shifted by g: one search finds the token for all genes together.
        steps = (np.minimum(np.cumsum(self.probability, 1), 1.0) + np.arange(genes)[:, None]).ravel()
        blocks = []
        for start in range(0, n, 256):
            uniform = rng.random((min(256, n - start), genes))
            cell, gene = np.nonzero(uniform > self.probability[:, 0])
            place = np.searchsorted(steps, gene + uniform[cell, gene], side="left")
            tokens = np.minimum(place - gene * VOCAB_SIZE, VOCAB_SIZE - 1)
            counts = decode_tokens(np.maximum(tokens, 0), rng=rng)
            blocks.append(scipy.sparse.csr_matrix((counts, (cell, gene)), shape=uniform.shape, dtype=np.int64))
        return scipy.sparse.vstack(blocks, format="csr") if blocks else scipy.sparse.csr_matrix((0, genes), dtype=int)


def token_histogram(cells: Cells) -> np.ndarray:
    """(G, V) tokens of the cells that measured the gene, zeros included."""
    genes = cells.counts.shape[1]
    flat = cells.counts.indices.astype(np.int64) * VOCAB_SIZE + encode_counts(cells.counts.data.astype(np.int64))
    histogram = np.bincount(flat, minlength=genes * VOCAB_SIZE).reshape(genes, VOCAB_SIZE).astype(np.float64)
    histogram[:, 0] += cells.times_measured - histogram.sum(1)
    return histogram


def _row_sums(values: np.ndarray, like: Sparse) -> np.ndarray:
    return np.asarray(scipy.sparse.csr_matrix((values, like.indices, like.indptr), shape=like.shape).sum(1)).ravel()
