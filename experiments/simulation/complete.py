"""Cells drawn around what is known of them: completed ones, and the same cell under another perturbation."""

# n cells, B cells of a block, G genes

import dataclasses
import functools
import hashlib
import json
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse

from data_pipelines.errors import InputError
from data_pipelines.progress import Progress
from experiments.config_json import to_json
from experiments.simulation.conditions import Unseen, as_obs, check_guidance, digests, vocabulary_rows
from experiments.simulation.keys import cell_keys, check_seed, drawn_counts, kept_at_random
from experiments.simulation.measured import MeasuredCells, labels_of_cells
from experiments.simulation.provenance import run_provenance
from experiments.simulation.request import STAGE, Request
from lingshu_jax.diffusion import SamplerConfig
from lingshu_jax.tokens import MASK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from experiments.load import LoadedRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class Known:
    """Which genes of a cell keep their value; the others are drawn."""

    genes: np.ndarray | None = None
    """bool (G,): these; None for all."""
    share: float | None = None
    """A random share of them in each cell, by the cell's own key; None for all of them."""

    def __post_init__(self) -> None:
        if self.share is not None and not (isinstance(self.share, Real) and 0 <= self.share <= 1):
            raise InputError(f"a share of genes must lie in 0..1, got {self.share!r}.")

    def of(self, keys: Any, measured: np.ndarray) -> np.ndarray:
        """bool (B, G)."""
        genes = measured if self.genes is None else measured & self.genes
        known = np.broadcast_to(genes, (len(keys), len(genes)))
        return known if self.share is None else known & kept_at_random(keys, len(genes), self.share)

    def to_json(self) -> dict[str, Any]:
        listed = None if self.genes is None else hashlib.blake2b(self.genes.tobytes(), digest_size=8).hexdigest()
        return {"genes": listed, "share": self.share}


@dataclasses.dataclass(frozen=True, eq=False)
class CompletionRequest(Request):
    """Cells of a file with some of their genes kept and the others drawn, under these labels."""

    run: "LoadedRun"
    cells: MeasuredCells
    labels: pd.DataFrame
    """A column per condition field (n rows): what the genes are drawn under."""
    rows: "Mapping[str, np.ndarray]"
    """Vocabulary rows (n,) or (n, M), or numbers (n,), by field."""
    known: Known
    sampler: SamplerConfig
    seed: int
    more: dict[str, Any]
    """For the provenance: what was asked for."""
    columns: pd.DataFrame
    """More columns of obs (n rows)."""
    draws: int = 0
    """0 draws each cell once; k averages k draws: expectations instead of counts."""

    @classmethod
    def make(
        cls,
        run: "LoadedRun",
        cells: MeasuredCells,
        labels: pd.DataFrame,
        known: Known,
        sampler: SamplerConfig,
        seed: int,
        *,
        more: dict[str, Any],
        unseen: Unseen = "error",
        columns: pd.DataFrame | None = None,
        draws: int = 0,
    ) -> "CompletionRequest":
        """Check what can be wrong.

        Raises:
            InputError: a label is unknown, guidance is impossible, or the number of draws is none.
        """
        check_seed(seed)
        if not isinstance(draws, Integral) or draws < 0:
            raise InputError(f"an expectation needs at least 1 draw, got {draws}.")
        check_guidance(labels, sampler, run)
        rows = vocabulary_rows(labels, unseen, run)
        added: Any = cells.obs[[]] if columns is None else columns
        return cls(run, cells, labels, rows, known, sampler, seed, {**more, "unseen": unseen}, added, draws)

    @property
    def dtype(self) -> Any:  # type: ignore[override]
        return np.float32 if self.draws else np.int32

    @property
    def n_cells(self) -> int:
        return self.cells.n

    @property
    def description(self) -> str:
        kind = f"means of {self.draws} draws" if self.draws else "drawn"
        return f"{kind} where not known"

    @property
    def provenance(self) -> dict[str, Any]:
        return {
            **run_provenance(self.run, self.seed),
            "sampler": to_json(self.sampler),
            **self.more,
            "known": self.known.to_json(),
            "draws": self.draws,
        }

    @property
    def contents(self) -> list[Any]:
        parts = (self.cells.counts.data, self.cells.counts.indices, self.cells.counts.indptr, self.cells.measured)
        whole = hashlib.blake2b(digest_size=16)
        for part in parts:
            whole.update(np.ascontiguousarray(part).tobytes())
        table: Any = self.obs(0, self.n_cells).astype(str)
        whole.update(pd.util.hash_pandas_object(table).to_numpy().tobytes())
        return [whole.hexdigest(), table.columns.tolist(), self.labels.to_dict("list")]

    @functools.cached_property
    def _names(self) -> list[Any]:
        """Names of the cells, the second and further ones of a name numbered: cells of one name are drawn apart."""
        again = self.cells.obs.groupby(level=0, observed=True, sort=False).cumcount().tolist()
        names = self.cells.obs.index.tolist()
        return [f"{name}\x1f{times}" if times else name for name, times in zip(names, again, strict=True)]

    def obs(self, first: int, last: int) -> pd.DataFrame:
        kept = self.cells.obs.drop(columns=[*self.labels.columns, *self.columns.columns], errors="ignore")
        told = as_obs(self.labels, self.run.plan.vocabulary)
        return pd.concat([told, self.columns, kept], axis=1).iloc[first:last]

    def draw(self, first: int, last: int, progress: Progress) -> Any:
        rows = np.arange(first, last)
        names = self._names[first:last]
        texts = [
            json.dumps([name, *labels])
            for name, labels in zip(names, self.labels.iloc[first:last].to_numpy(dtype=object), strict=True)
        ]
        who = digests(texts)
        tokens = self.cells.tokens(rows, unmeasured=MASK)
        # What is kept does not depend on the label: two perturbations are compared on the same genes.
        named = cell_keys(self.seed, digests(map(str, names)), np.zeros(len(rows), int))
        known = self.known.of(named, self.cells.measured)
        start = np.where(known, tokens, MASK)
        measured = self.cells.counts[rows].toarray()
        total = max(1, self.draws)
        mean = np.zeros(measured.shape, np.float32 if self.draws else np.int32)
        for draw in range(total):
            keys = cell_keys(self.seed, who, np.full(len(rows), draw))
            mean += self._draw(start, rows, keys, self._told(progress, first, draw)).toarray()
        if self.draws:
            mean /= total
        return scipy.sparse.csr_matrix(np.where(known, measured, mean).astype(self.dtype))

    def _draw(self, start: np.ndarray, rows: np.ndarray, keys: Any, told: Any) -> Any:
        from lingshu_jax.diffusion import sample

        fields = {name: values[rows] for name, values in self.rows.items()}
        tokens = sample(self.run.model, fields or len(rows), self.sampler, keys, fixed=start, progress=told)
        return drawn_counts(tokens, keys)

    def _told(self, progress: Progress, first: int, draw: int) -> Any:
        total = max(1, self.draws)

        def told(done: int, cells: int) -> None:
            progress(STAGE, first + (draw * cells + done) // total, self.n_cells)

        return told


def impute_request(
    run: "LoadedRun",
    cells: MeasuredCells,
    given: "Mapping[str, str]",
    *,
    hidden: np.ndarray | None,
    hidden_share: float | None,
    expectation: int,
    sampler: SamplerConfig,
    seed: int,
    unseen: Unseen = "error",
) -> CompletionRequest:
    """Cells with the genes that are missing or hidden drawn, or replaced by the mean over `expectation` draws.

    Args:
        run: the run.
        cells: partly measured cells.
        given: labels for all cells, by field, where obs does not have them.
        hidden: bool (G,), measured genes that count as unknown.
        hidden_share: a random share of each cell's measured genes that counts as unknown.
        expectation: 0 draws counts; k takes means of k draws.
        sampler: how the genes are drawn.
        seed: of all draws.
        unseen: what to do with labels without training cells.

    Raises:
        InputError: see `labels_of_cells` and `CompletionRequest.make`.
    """
    if hidden_share is not None and not (isinstance(hidden_share, Real) and 0 <= hidden_share <= 1):
        raise InputError(f"the share of hidden genes must lie in 0..1, got {hidden_share!r}.")
    known = Known(
        genes=None if hidden is None else ~hidden, share=None if hidden_share is None else round(1 - hidden_share, 12)
    )
    labels = labels_of_cells(cells, run, given)
    more = {"operation": "impute", "measured_genes": int(cells.measured.sum())}
    return CompletionRequest.make(run, cells, labels, known, sampler, seed, more=more, unseen=unseen, draws=expectation)


def counterfactual_request(
    run: "LoadedRun",
    cells: MeasuredCells,
    perturbation: str,
    given: "Mapping[str, str]",
    *,
    kept: np.ndarray | None,
    kept_share: float | None,
    sampler: SamplerConfig,
    seed: int,
    unseen: Unseen = "error",
) -> CompletionRequest:
    """The same cells under another perturbation, with some of their genes kept.

    Args:
        run: the run.
        cells: the cells as they were measured.
        perturbation: the new label.
        given: labels for all cells, by field, where obs does not have them.
        kept: bool (G,), genes that keep their counts.
        kept_share: a random share of each cell's measured genes (of `kept`, where given) that keeps its counts.
        sampler: how the other genes are drawn.
        seed: of all draws.
        unseen: what to do with labels without training cells.

    Raises:
        InputError: the model has no perturbation, or see `labels_of_cells` and `CompletionRequest.make`.
    """
    field = run.plan.vocabulary.perturbation
    if field is None:
        raise InputError("a counterfactual needs a perturbation field, and this model has none.")
    if kept is None and kept_share is None:
        raise InputError("say what stays as it is: --keep genes.txt or --keep-share 0.3.")
    known = Known(genes=kept, share=kept_share)
    # The label that the cells had is not needed to draw: unknown is as good.
    had = {field.name: given.get(field.name, "")} if field.name not in cells.obs else {}
    labels = labels_of_cells(cells, run, {**given, **had})
    original = pd.DataFrame({f"original_{field.name}": labels[field.name].astype("category")})
    labels = labels.assign(**{field.name: str(perturbation)})
    more = {"operation": "counterfactual", "to": perturbation}
    return CompletionRequest.make(run, cells, labels, known, sampler, seed, more=more, unseen=unseen, columns=original)
