"""The union of the files' genes: one panel, and where each file's genes lie in it."""

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np
import scipy.sparse

from data_pipelines.errors import InputError
from data_pipelines.ingestion.matrix import n_rows
from lingshu_jax.vocabulary import GenePanel

# G panel genes, g genes of one source


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Places one source's genes in the panel."""

    positions: np.ndarray
    """int32 (g,): panel position of each gene of the source."""
    n_genes: int
    """Genes of the panel."""

    @property
    def measured(self) -> np.ndarray:
        """bool (G,): which panel genes the source measured."""
        mask = np.zeros(self.n_genes, bool)
        mask[self.positions] = True
        return mask

    def align(self, counts: scipy.sparse.csr_matrix) -> scipy.sparse.csr_matrix:
        """Counts (n, g) of the source as counts (n, G) of the panel, columns sorted."""
        aligned = scipy.sparse.csr_matrix(
            (counts.data, self.positions[counts.indices], counts.indptr), shape=(n_rows(counts), self.n_genes)
        )
        aligned.sort_indices()
        return aligned


def union_panel(names: Sequence[str], genes: Sequence[tuple[str, ...]]) -> tuple[GenePanel, list[Alignment]]:
    """The panel of several sources: the first one's genes in order, then what each next one adds.

    Args:
        names: the sources' names, for messages.
        genes: each source's gene ids in the order of its columns.

    Raises:
        InputError: a source lists a gene twice, or shares no gene with the sources before it.
    """
    panel: dict[str, int] = {}
    alignments = []
    for name, ids in zip(names, genes, strict=True):
        twice = duplicates(ids)
        if twice:
            some = ", ".join(twice[:3]) + (", ..." if len(twice) > 3 else "")
            raise InputError(
                f"{name} has {len(twice)} duplicate gene names ({some}). Make them unique first, "
                "e.g. adata.var_names = adata.var['gene_ids'], or adata.var_names_make_unique()."
            )
        if panel and not any(gene in panel for gene in ids):
            raise InputError(
                f"{name} has no gene in common with {names[0]} ({ids[0]}, ... against {next(iter(panel))}, ...). "
                "Use the same gene ids in all files: all symbols or all Ensembl ids, of one species."
            )
        for gene in ids:
            panel.setdefault(gene, len(panel))
        alignments.append(np.array([panel[gene] for gene in ids], np.int32))
    return GenePanel(tuple(panel)), [Alignment(positions, len(panel)) for positions in alignments]


def duplicates(genes: Sequence[str]) -> list[str]:
    """Names that occur more than once, in order of first occurrence."""
    return [gene for gene, count in Counter(genes).items() if count > 1]
