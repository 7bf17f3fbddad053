"""Cells of a file, or of an AnnData in memory, as a run's model sees them: counts on its panel, and labels."""

# n cells, g genes of the file, G genes of the panel

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse

from data_pipelines.errors import InputError
from data_pipelines.ingestion.counts import raw_counts
from data_pipelines.ingestion.genes import GeneRules, Names, check_unique, id_column
from data_pipelines.ingestion.inputs import Input
from data_pipelines.ingestion.matrix import CsrMatrix, Matrix
from data_pipelines.ingestion.source import Source, check_source, open_source
from experiments.simulation.conditions import field_texts
from lingshu_jax.tokens import ABSENT, encode_counts
from lingshu_jax.vocabulary import GenePanel, LibrarySizeField, nearest

if TYPE_CHECKING:
    import anndata

    from experiments.load import LoadedRun

OWN = "own"
"""Said of the library size: that of the cell itself, over the genes that the file and the panel have."""
_BUDGET = 2**28


@dataclasses.dataclass(frozen=True, eq=False)
class MeasuredCells:
    """Counts of some cells on a panel."""

    counts: Any
    """CSR int32 (n, G); nothing where a gene was not measured."""
    measured: np.ndarray
    """bool (G,): panel genes that the file has."""
    obs: pd.DataFrame
    """The file's own table of cells."""
    dropped: tuple[str, ...]
    """Genes of the file that the panel lacks."""
    name: str
    """Of the file, for messages."""

    @property
    def n(self) -> int:
        return len(self.obs)

    def tokens(self, rows: np.ndarray, *, unmeasured: int = ABSENT) -> np.ndarray:
        """Tokens (b, G) int32 of some cells; `unmeasured` (ABSENT, or MASK to be drawn) where the file lacks a gene."""
        tokens = encode_counts(self.counts[rows].toarray()).astype(np.int32)
        tokens[:, ~self.measured] = unmeasured
        return tokens

    def said(self) -> str:
        """One line on how the file's genes fit the panel."""
        missing = int((~self.measured).sum())
        text = f"{self.name}: {self.n:,} cells, {int(self.measured.sum()):,} genes of the run's panel"
        text += f", {missing:,} of the panel missing" if missing else ""
        if self.dropped:
            some = ", ".join(self.dropped[:3]) + (", ..." if len(self.dropped) > 3 else "")
            text += f"; dropped {len(self.dropped):,} that the panel lacks ({some})"
        return text


def read_measured(
    cells: "anndata.AnnData | str | pathlib.Path",
    panel: GenePanel,
    *,
    layer: str | None = None,
    column: str | None = None,
) -> MeasuredCells:
    """Read cells; all their counts are held, sparse.

    Args:
        cells: h5ad file, zarr folder or 10x output, or an AnnData.
        panel: the run's genes; matched by id without version, in whichever column of var finds most.
        layer: where the raw counts are; None for X.
        column: column of var with the gene ids.

    Raises:
        InputError: the file cannot be read, holds no raw counts, or hardly a gene of the panel.
    """
    if isinstance(cells, str | pathlib.Path):
        source = open_source(Input(path=pathlib.Path(cells), layer=layer))
    else:
        source = _InMemory(cells, layer)
    with source:
        check_source(source)
        names, rules = Names(panel.genes, {}), GeneRules(column=column, option="--gene-column")
        chosen = id_column(source.genes, rules, names)
        ids = source.genes.ids[chosen]
        positions = names.match(ids, source.genes.used).positions
        check_unique(source.genes, ids, positions, rules)
        kept = np.flatnonzero(positions >= 0)
        if len(kept) < rules.min_mapped * min(len(ids), len(panel)):
            raise InputError(
                f"{source.name}: {len(kept)} of {len(ids)} genes are in the run's panel (column {chosen}: {ids[0]}, "
                f"...; the panel: {panel.genes[0]}, ...). Name the column of var with the panel's ids: "
                "--gene-column COLUMN."
            )
        to_panel = scipy.sparse.csr_matrix(
            (np.ones(len(kept), np.int32), (kept, positions[kept])), (len(ids), len(panel))
        )
        blocks = [
            raw_counts(block, first=first, where=source.where, slots=source.other_slots) @ to_panel
            for first, block in source.matrix.blocks(_BUDGET)
        ]
        counts: Any = scipy.sparse.vstack(blocks, format="csr").astype(np.int32)
        counts.sort_indices()
        measured = np.zeros(len(panel), bool)
        measured[positions[kept]] = True
        lacking = np.flatnonzero(source.genes.used & (positions < 0))
        obs = source.obs.copy()
        obs.index = obs.index.astype(str)
        return MeasuredCells(counts, measured, obs, tuple(ids[i] for i in lacking), source.name)


def labels_of_cells(cells: MeasuredCells, run: "LoadedRun", given: Mapping[str, str]) -> pd.DataFrame:
    """The model's condition fields of every cell as text (n rows): from obs, or one value for all cells from `given`.

    Numbers may be in neither. The library size is never read from obs: it is left out, or a number, or OWN.

    Raises:
        InputError: a field is neither, a number is none, or `given` names none of the model's fields.
    """
    names = run.plan.vocabulary.names
    unknown = [name for name in given if name not in names]
    if unknown:
        raise InputError(
            f"the model has no condition field {unknown[0]!r} (nearest: {nearest(unknown[0], names)}); "
            f"it takes: {', '.join(names) or 'none'}."
        )
    columns = {}
    for field in run.plan.vocabulary.fields:
        values = _values_in(field, cells, given.get(field.name))
        columns[field.name] = field_texts(field, [values] * cells.n if isinstance(values, str) else values)
    return pd.DataFrame(columns, index=cells.obs.index)


@functools.singledispatch
def _values_in(field: Any, cells: MeasuredCells, given: str | None) -> Any:
    """One text for all cells, or a column."""
    if given is not None:
        return str(given)
    if field.name in cells.obs:
        return cells.obs[field.name].to_numpy()
    if field.optional:
        return ""
    present = ", ".join(map(str, cells.obs.columns)) or "none"
    raise InputError(
        f"{cells.name} has no obs column {field.name!r} (present: {present}), a condition of the model. "
        f"Say what it is for all cells: --condition.{field.name} VALUE"
    )


@_values_in.register
def _(field: LibrarySizeField, cells: MeasuredCells, given: str | None) -> Any:
    if given == OWN:
        totals = np.asarray(cells.counts.sum(axis=1), np.float64).ravel()
        return np.log(np.maximum(totals, 1.0)).round(6)
    return "" if given is None else str(given)


def panel_genes(path: pathlib.Path, panel: GenePanel) -> np.ndarray:
    """bool (G,): the genes that a text file lists, one a line.

    Raises:
        InputError: the file is not there, is empty, or names a gene that the panel lacks.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of genes ({error}). Write one gene a line.") from error
    return gene_mask([line for line in lines if line], panel, where=str(path))


def gene_mask(genes: Any, panel: GenePanel, *, where: str = "the genes") -> np.ndarray:
    """bool (G,): these genes.

    Raises:
        InputError: there is none, or one that the panel lacks.
    """
    genes = [str(gene) for gene in genes]
    if not genes:
        raise InputError(f"{where}: no gene is listed. Name at least one of the run's panel.")
    names, mask = Names(panel.genes, {}), np.zeros(len(panel), bool)
    for gene in genes:
        place, _ = names.find(gene)
        if place < 0:
            near = nearest(gene, panel.genes)
            raise InputError(f"{where}: gene {gene!r} is not in the run's panel (nearest: {near}).")
        mask[place] = True
    return mask


class _InMemory(Source):
    """An AnnData as a source."""

    def __init__(self, cells: "anndata.AnnData", layer: str | None) -> None:
        super().__init__(Input(path=pathlib.Path("the AnnData"), layer=layer))
        self._cells = cells

    @property
    def where(self) -> str:
        return f"the AnnData ({self.input.layer or 'X'})"

    def read_matrix(self) -> Matrix:
        layer = self.input.layer
        stored: Any = self._cells.X if layer is None else self._cells.layers.get(layer)
        if stored is None:
            raise InputError(f"{self.where}: there is no such matrix. Choose with layer=...")
        rows: Any = scipy.sparse.csr_matrix(stored[:] if not isinstance(stored, np.ndarray) else stored)
        rows.sum_duplicates()
        return CsrMatrix(rows.data, rows.indices, rows.indptr, rows.shape, self.where)

    def read_obs(self) -> Any:
        return self._cells.obs

    def read_var(self) -> Any:
        return self._cells.var
