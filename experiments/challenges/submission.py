"""Cells checked against a challenge's contract and written in its form, block by block."""

# n cells, g genes of the file, G genes of the list

import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

from data_pipelines.errors import InputError
from data_pipelines.ingestion.counts import raw_counts
from data_pipelines.ingestion.matrix import CsrMatrix
from data_pipelines.ingestion.source import Source
from data_pipelines.partial import unfinished
from experiments.challenges.contracts import CONTEXT, PERTURBATION, Contract
from experiments.simulation.output import UNS, Contents, is_zarr, stored_provenance, write_contents
from lingshu_jax.vocabulary import nearest

_BUDGET = 2**28


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """Which obs columns of the file hold what a challenge asks for; None takes what the file's provenance says."""

    perturbation: str | None = None
    context: str | None = None
    """Several, joined by '_', are separated by commas."""
    control: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Submission:
    """Cells of a file under a contract's names."""

    source: Source
    contract: Contract
    genes: tuple[str, ...]
    obs: pd.DataFrame
    """The contract's columns (n rows)."""
    controls: tuple[str, ...]
    kept: np.ndarray
    """int64 (m,): rows of the file that are handed in."""

    @classmethod
    def of(
        cls,
        source: Source,
        contract: Contract,
        genes: tuple[str, ...],
        columns: Columns,
        *,
        drop_controls: bool = False,
    ) -> "Submission":
        """Read the labels.

        Raises:
            InputError: a column is missing, or said neither by the file nor by `columns`.
        """
        told = stored_provenance(source.path)
        perturbation = columns.perturbation or told.get("perturbation") or PERTURBATION
        contexts = columns.context.split(",") if columns.context else told.get("contexts") or [CONTEXT]
        controls = (columns.control,) if columns.control else tuple(told.get("controls", ())) or ("non-targeting",)
        wanted = [perturbation, *(contexts if CONTEXT in contract.columns else [])]
        table = source.obs
        missing = [name for name in wanted if name not in table]
        if missing:
            raise InputError(
                f"{source.name} has no obs column {missing[0]!r} (present: {', '.join(map(str, table.columns))}). "
                "Say where the labels are: --perturbation COLUMN, --context COLUMN."
            )
        labels = {PERTURBATION: table[perturbation].astype(str).to_numpy()}
        if CONTEXT in contract.columns:
            labels[CONTEXT] = table[contexts].astype(str).agg("_".join, axis=1).to_numpy()
        obs = pd.DataFrame(labels, index=table.index.astype(str))
        kept = np.arange(len(obs))
        if drop_controls:
            kept = kept[~obs[PERTURBATION].isin(controls).to_numpy()]
        if contract.control is not None:  # its own name for controls
            obs.loc[obs[PERTURBATION].isin(controls), PERTURBATION] = contract.control
            controls = (contract.control,)
        return cls(source, contract, genes, obs, controls, kept)

    @property
    def kept_obs(self) -> pd.DataFrame:
        return self.obs.iloc[self.kept]

    @property
    def labelled(self) -> dict[str, Any]:
        """What the written cells' provenance says of their labels."""
        contexts = [CONTEXT] if CONTEXT in self.contract.columns else []
        return {"perturbation": PERTURBATION, "contexts": contexts, "controls": list(self.controls)}

    def faults(self) -> Iterator[str]:
        """What the labels and the gene list get wrong."""
        if not len(self.kept):
            yield "no cell is left to hand in."
            return
        yield from self.contract.faults(self.kept_obs, self.controls)
        if self.kept_obs.index.has_duplicates:
            yield "cell names occur more than once. Make obs_names unique."
        if len(self.genes) != self.contract.genes:
            yield f"--genes lists {len(self.genes):,} genes; {self.contract.name} has {self.contract.genes:,}."
        ids = set(self.ids)
        if len(ids) != len(self.ids):
            yield f"{self.source.name} has two genes of one name. Make var_names unique."
        lacking = [gene for gene in self.genes if gene not in ids]
        if lacking:
            near = nearest(lacking[0], list(ids))
            yield (
                f"{len(lacking):,} genes of the list are not in {self.source.name} ({lacking[0]}, ...; nearest: "
                f"{near}). Train on a panel that has them: lingshu ingest --genes.panel"
            )

    def matrix_faults(self, summary: "Summary") -> Iterator[str]:
        """What the counts get wrong."""
        largest = self.contract.largest_cell
        if largest is not None and summary.libraries.max() > largest:
            worst = self.kept_obs.index[int(summary.libraries.argmax())]
            yield f"cell {worst} has {summary.libraries.max():,.0f} counts; at most {largest:,} are taken."

    @property
    def ids(self) -> tuple[str, ...]:
        return self.source.genes.index

    def form_faults(self, summary: "Summary") -> Iterator[str]:
        """What the file's own form gets wrong; writing it anew mends it."""
        if self.source.matrix.entries > summary.entries and list(self.ids) == list(self.genes):
            yield "its matrix stores explicit zeros"
        if list(self.ids) != list(self.genes):
            yield "its genes are not those of the list in their order"
        if sorted(map(str, self.source.obs.columns)) != sorted(self.contract.columns):
            yield f"its obs columns are not {', '.join(self.contract.columns)} alone"
        if not isinstance(self.source.matrix, CsrMatrix):
            yield "its matrix is not CSR"

    def blocks(self) -> Iterator[Any]:
        """CSR int32 (b, G) of the kept cells, genes in the list's order, no explicit zeros."""
        place = {gene: i for i, gene in enumerate(self.ids)}
        columns = np.array([place[gene] for gene in self.genes])
        to_list = scipy.sparse.csr_matrix(
            (np.ones(len(columns), np.int32), (columns, np.arange(len(columns)))), (len(self.ids), len(columns))
        )
        keep = np.zeros(len(self.obs), bool)
        keep[self.kept] = True
        for first, block in self.source.matrix.blocks(_BUDGET):
            rows: Any = raw_counts(block, first=first, where=self.source.where, slots=self.source.other_slots)
            rows = (rows[keep[first : first + rows.shape[0]]] @ to_list).tocsr().astype(np.int32)
            rows.eliminate_zeros()
            rows.sort_indices()
            yield rows

    def summary(self) -> "Summary":
        """Read all counts once."""
        libraries, entries = [], 0
        for block in self.blocks():
            libraries.append(np.asarray(block.sum(1), np.int64).ravel())
            entries += block.nnz
        return Summary(np.concatenate(libraries), entries)

    def write(self, out: pathlib.Path, entries: int) -> None:
        """Write it: whole, or not at all."""
        told = stored_provenance(self.source.path)
        contents = Contents(
            obs=self.kept_obs.astype("category"),
            var=pd.DataFrame(index=pd.Index(self.genes)),
            blocks=self.blocks(),
            entries=entries,
            uns={UNS: json.dumps({**told, **self.labelled, "exported": self.contract.name})},
        )
        with unfinished(out, out.suffix if is_zarr(out) else ".h5ad") as partial:
            write_contents(contents, out, partial)


@dataclasses.dataclass(frozen=True, eq=False)
class Summary:
    """Depth of a submission: its reference is scored by context at a median of 20,000 counts a cell (vcc2026)."""

    libraries: np.ndarray
    """int64 (m,)."""
    entries: int

    def __str__(self) -> str:
        spread = np.log(np.maximum(self.libraries, 1)).std()
        return f"median {np.median(self.libraries):,.0f} counts a cell, sd of log library size {spread:.2f}"


def read_gene_list(path: pathlib.Path) -> tuple[str, ...]:
    """Gene names in order: the first column of a csv, or a line each; a heading that says gene is left out.

    Raises:
        InputError: it cannot be read, is empty, or names a gene twice.
    """
    try:
        lines = [line.split(",")[0].strip().strip('"') for line in path.read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a list of genes ({error}). Pass the challenge's own.") from error
    lines = [line for line in lines if line]
    if lines and lines[0].lower() in ("gene", "genes", "gene_name", "gene_id", "gene_symbol", "index", "0"):
        lines = lines[1:]
    if not lines:
        raise InputError(f"{path} lists no gene. Pass the challenge's own list.")
    if len(set(lines)) != len(lines):
        raise InputError(f"{path} lists a gene twice. Pass the challenge's own list.")
    return tuple(lines)
