"""One panel for all sources, and where each source's genes lie in it."""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse

from data_pipelines.errors import InputError
from data_pipelines.ingestion.counts import LARGEST_COUNT
from data_pipelines.ingestion.genes import GeneRules, GeneTable, Matched, Names, check_unique, id_column
from data_pipelines.ingestion.matrix import n_rows
from lingshu_jax.vocabulary import GenePanel

# G panel genes, g genes of one source

UNION, INTERSECTION = "union", "intersection"


@dataclasses.dataclass(frozen=True)
class Alignment:
    """Places one source's genes in the panel."""

    positions: np.ndarray
    """int32 (g,): panel position of each gene of the source; -1 for genes that the panel lacks."""
    n_genes: int
    """Genes of the panel."""
    column: str = "index"
    """Column of the gene table that was read."""
    by_case: int = 0
    """Genes that were found by ignoring case alone."""

    @property
    def measured(self) -> np.ndarray:
        """bool (G,): which panel genes the source measured."""
        mask = np.zeros(self.n_genes, bool)
        mask[self.positions[self.positions >= 0]] = True
        return mask

    def align(self, counts: scipy.sparse.csr_matrix, *, where: str) -> scipy.sparse.csr_matrix:
        """Counts (n, g) of the source as counts (n, G) of the panel, columns sorted, duplicates summed.

        Args:
            counts: int32, as `raw_counts` gives them.
            where: file and slot, for messages.

        Raises:
            InputError: a sum is too large for a count.
        """
        if np.array_equal(self.positions, np.arange(self.n_genes)):
            return counts
        places, values, indptr = self.positions[counts.indices], counts.data, counts.indptr
        if self._drops:
            kept = places >= 0
            indptr = np.concatenate([[0], np.cumsum(kept)])[indptr].astype(indptr.dtype)
            places, values = places[kept], values[kept]
        aligned = scipy.sparse.csr_matrix((values, places, indptr), shape=(n_rows(counts), self.n_genes))
        if self._sums:
            aligned.data = aligned.data.astype(np.int64)
        aligned.sum_duplicates()
        if self._sums and aligned.data.max(initial=0) > LARGEST_COUNT:
            raise InputError(
                f"{where}: the counts of columns that mean one gene sum to {aligned.data.max():,}, more than "
                f"{LARGEST_COUNT:,}. Pass raw UMI counts, or name a column of unique ids with --genes.column."
            )
        return aligned

    @functools.cached_property
    def _sums(self) -> bool:
        return bool((np.bincount(self.positions[self.positions >= 0]) > 1).any())

    @property
    def _drops(self) -> bool:
        return bool((self.positions < 0).any())

    def report(self) -> dict[str, Any]:
        """What became of the source's genes, as the store's manifest keeps it."""
        found = int((self.positions >= 0).sum())
        return {
            "gene_column": self.column,
            "genes": len(self.positions),
            "mapped": found,
            "mapped_by_case": self.by_case,
            "dropped": len(self.positions) - found,
            "missing": int(self.n_genes - self.measured.sum()),
        }


def build_panel(
    tables: Sequence[GeneTable], choice: "str | GenePanel", rules: GeneRules
) -> tuple[GenePanel, list[Alignment]]:
    """The panel of several sources.

    Args:
        tables: each source's genes.
        choice: 'union': the first source's genes in order, then what each next one adds; 'intersection': the first
            source's genes that all others have too; or a given panel.
        rules: how ids are compared.

    Raises:
        InputError: two columns of a source mean one gene, or too few genes agree.
    """
    if isinstance(choice, GenePanel):
        names = Names(choice.genes, rules.aliases)
        return choice, [_aligned(table, names, rules) for table in tables]
    names = Names((), rules.aliases)
    found = []
    for table in tables:
        column = id_column(table, rules, names)
        ids = table.ids[column]
        if not names.genes:
            matched = Matched(_added(names, ids, table.used, np.full(len(ids), -1, np.int32)), 0)
        else:
            matched = names.match(ids, table.used)
            _check_enough(table, ids, matched, names, rules)
            if choice == UNION:
                matched = dataclasses.replace(matched, positions=_added(names, ids, table.used, matched.positions))
        check_unique(table, ids, matched.positions, rules)
        found.append((column, matched))
    kept = np.arange(len(names.genes), dtype=np.int32)
    if choice == INTERSECTION:
        everywhere = np.logical_and.reduce([np.isin(kept, matched.positions) for _, matched in found])
        kept = np.where(everywhere, np.cumsum(everywhere) - 1, -1).astype(np.int32)
    genes = tuple(gene for gene, place in zip(names.genes, kept, strict=True) if place >= 0)
    if not genes:
        inputs = ", ".join(table.name for table in tables)
        if names.genes:
            raise InputError(f"no gene is in all of {inputs}. Take their union with --genes.panel union.")
        raise InputError(f"no feature of {inputs} is a gene (column feature_types). Pass 'Gene Expression' features.")
    panel = GenePanel(genes)
    to_panel = np.append(kept, np.int32(-1))  # position -1 stays -1
    return panel, [Alignment(to_panel[m.positions], len(panel), column, m.by_case) for column, m in found]


def read_panel(path: str | pathlib.Path) -> GenePanel:
    """The genes of a csv, tsv or text file: its first column, in order; a header 'gene' or 'gene_id' is skipped.

    Raises:
        InputError: there is no such file, it has no gene, or lists one twice.
    """
    path = pathlib.Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error}). Pass a text file with one gene per line.") from error
    genes = [line.replace("\t", ",").split(",")[0].strip().strip('"') for line in lines if line.strip()]
    if genes and genes[0].lower() in ("gene", "genes", "gene_id", "gene_ids", "gene_name", "symbol", "ensembl_id"):
        genes = genes[1:]
    if not genes or "" in genes:
        raise InputError(f"{path} has {'a line without a gene' if genes else 'no genes'}. List one gene per line.")
    if len(set(genes)) < len(genes):
        twice = next(gene for gene in genes if genes.count(gene) > 1)
        raise InputError(f"{path} lists {twice!r} twice. List every gene once.")
    return GenePanel(tuple(genes))


def _aligned(table: GeneTable, names: Names, rules: GeneRules) -> Alignment:
    column = id_column(table, rules, names)
    matched = names.match(table.ids[column], table.used)
    _check_enough(table, table.ids[column], matched, names, rules)
    check_unique(table, table.ids[column], matched.positions, rules)
    return Alignment(matched.positions, len(names.genes), column, matched.by_case)


def _added(names: Names, ids: Sequence[str], used: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Positions with every gene that was not found added to the names; repeated ids share one."""
    new: dict[str, int] = {}
    result = positions.copy()
    for place, gene in enumerate(ids):
        if used[place] and result[place] < 0:
            if gene not in new:
                new[gene] = names.add(gene)
            result[place] = new[gene]
    return result


def _check_enough(table: GeneTable, ids: Sequence[str], matched: Matched, names: Names, rules: GeneRules) -> None:
    found = int((matched.positions >= 0).sum())
    possible = max(1, min(int(table.used.sum()), len(names.genes)))
    examples = f"({ids[0]}, ... against {names.genes[0]}, ...)"
    if not found:
        raise InputError(
            f"{table.name} has no gene in common with the panel {examples}. "
            "Use the same gene ids in all files: all symbols or all Ensembl ids, of one species."
        )
    if found < rules.min_mapped * possible:
        raise InputError(
            f"{table.name}: only {found:,} of {possible:,} possible genes are in the panel {examples}. Name the column "
            "of the ids with --genes.column, give --genes.aliases, or accept it with a lower --genes.min-mapped."
        )
    if matched.by_case > found / 2 and not rules.ignore_case:
        raise InputError(
            f"{table.name}: {matched.by_case:,} of {found:,} genes agree with the panel in all but case {examples}. "
            "If it is the same species, pass --genes.ignore-case; if not, ingest it on its own."
        )
