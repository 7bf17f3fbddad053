"""A request for cells: what is drawn, cell by cell, in blocks of any size with the same result."""

# N cells of a request, B cells of a block, C conditions, G genes

import abc
import dataclasses
import functools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from data_pipelines.progress import Progress
from experiments.config_json import to_json
from experiments.simulation.conditions import (
    N_CELLS,
    Unseen,
    as_obs,
    check_conditions,
    check_guidance,
    condition_digests,
    vocabulary_rows,
)
from experiments.simulation.injection import Injection, inject
from experiments.simulation.keys import cell_keys, drawn_counts
from experiments.simulation.provenance import run_provenance
from experiments.simulation.unseen import UnseenEffects, unseen_effects
from lingshu_jax.diffusion import SamplerConfig
from lingshu_jax.vocabulary import content_hash

if TYPE_CHECKING:
    import anndata

    from experiments.load import LoadedRun
    from experiments.prior import Prior

STAGE = "sample"
_PASSES, _CELLS = 4, 512


class Request(abc.ABC):
    """Cells that can be drawn in any blocks: a row depends on the request and its place alone."""

    run: "LoadedRun"
    sampler: SamplerConfig
    dtype: Any = np.int32
    """Of the values: whole counts, or float32 for expectations."""

    @property
    @abc.abstractmethod
    def n_cells(self) -> int:
        """N."""

    @property
    @abc.abstractmethod
    def description(self) -> str:
        """A few words on what the cells are of."""

    @property
    @abc.abstractmethod
    def provenance(self) -> dict[str, Any]:
        """What goes into uns['lingshu']."""

    @property
    @abc.abstractmethod
    def contents(self) -> list[Any]:
        """JSON-serialisable: with the provenance, everything that the cells depend on."""

    @abc.abstractmethod
    def obs(self, first: int, last: int) -> pd.DataFrame:
        """The cells first..last, one row each."""

    @abc.abstractmethod
    def draw(self, first: int, last: int, progress: Progress) -> Any:
        """The counts of cells first..last: CSR (B, G). `progress` is told of the request as a whole."""

    @property
    def remarks(self) -> dict[str, Any]:
        """What goes into uns['lingshu'] beside the provenance: computed from the request, and no part of its hash."""
        return {}

    @property
    def hash(self) -> str:
        """Names the request: another one has another hash."""
        return content_hash([self.provenance, self.contents, self.n_cells, self.run.plan.panel.hash])

    @property
    def var(self) -> pd.DataFrame:
        """The genes of the run's panel."""
        return pd.DataFrame(index=pd.Index(self.run.plan.panel.genes))

    @property
    def block(self) -> int:
        """Cells drawn in one go: whole forward passes on the devices here, a few of them."""
        import jax

        rows = self.sampler.cells_per_device * len(jax.local_devices())
        return rows * max(_PASSES, -(-_CELLS // rows))

    def anndata(self, progress: Progress) -> "anndata.AnnData":
        """All cells in memory."""
        import anndata
        import scipy.sparse

        bounds = range(0, self.n_cells, self.block)
        parts = [self.draw(first, min(first + self.block, self.n_cells), progress) for first in bounds]
        cells = anndata.AnnData(X=scipy.sparse.vstack(parts, format="csr"), obs=self.obs(0, self.n_cells), var=self.var)
        cells.uns["lingshu"] = json.dumps(self.provenance | self.remarks)
        return cells


@dataclasses.dataclass(frozen=True, eq=False)
class SampleRequest(Request):
    """Cells for a table of conditions, one condition after the other."""

    run: "LoadedRun"
    table: pd.DataFrame
    """Of `check_conditions`."""
    sampler: SamplerConfig
    seed: int
    unseen: Unseen
    rows: dict[str, np.ndarray]
    """Vocabulary rows (C,) or (C, M), or numbers (C,), by field."""
    injection: Injection

    @classmethod
    def make(
        cls,
        run: "LoadedRun",
        conditions: pd.DataFrame,
        sampler: SamplerConfig,
        seed: int,
        unseen: Unseen,
        prior: "Prior",
        store: Any,
        progress: Progress,
    ) -> "SampleRequest":
        """Check everything that can be wrong with a request.

        Raises:
            InputError: a column is missing, a label unknown, a number of cells no number, guidance or prior impossible.
        """
        table = check_conditions(conditions, run.plan.vocabulary)
        labels: Any = table[list(run.plan.vocabulary.names)]
        check_guidance(labels, sampler, run)
        rows = vocabulary_rows(labels, unseen, run)
        return cls(run, table, sampler, seed, unseen, rows, inject(run, prior, labels, store, progress))

    @property
    def labels(self) -> Any:
        """The conditions (C rows)."""
        return self.table[list(self.run.plan.vocabulary.names)]

    @property
    def n_cells(self) -> int:
        return int(self.table[N_CELLS].to_numpy().sum())

    @property
    def description(self) -> str:
        return f"{len(self.table)} conditions"

    @property
    def provenance(self) -> dict[str, Any]:
        return {
            **run_provenance(self.run, self.seed),
            "sampler": to_json(self.sampler),
            "unseen": self.unseen,
            "prior": self.injection.provenance,
            "given": [field.name for field in self.run.plan.vocabulary.numbers if self.labels[field.name].any()],
        }

    @functools.cached_property
    def unseen_effects(self) -> UnseenEffects | None:
        """How large the effects of perturbations without training cells are predicted to be; None without any."""
        return unseen_effects(self.run, self.labels, self.unseen)

    @property
    def remarks(self) -> dict[str, Any]:
        effects, injected = self.unseen_effects, self.injection.to_json()
        told = {"cells_per_condition": self.cells_per_condition}
        told |= {} if effects is None else {"unseen_effects": effects.to_json()}
        return told | ({"injected": injected} if injected else {})

    @property
    def cells_per_condition(self) -> int | list[int]:
        """Cells of each condition, or the fewest and the most."""
        numbers = self.table[N_CELLS].to_numpy()
        fewest, most = int(numbers.min()), int(numbers.max())
        return fewest if fewest == most else [fewest, most]

    @property
    def contents(self) -> list[Any]:
        return [self.table.to_dict("list"), self.injection.hash]

    def places(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Condition and replicate index of cells first..last: two int64 (B,)."""
        ends = np.cumsum(self.table[N_CELLS].to_numpy())
        cells = np.arange(first, last)
        condition = np.searchsorted(ends, cells, side="right")
        return condition, cells - np.concatenate([[0], ends])[condition]

    def obs(self, first: int, last: int) -> pd.DataFrame:
        condition, replicate = self.places(first, last)
        stems = ["_".join(filter(None, row)) or "cell" for row in self.labels.to_numpy(dtype=object)]
        names = [f"{stems[c]}_{i}" for c, i in zip(condition, replicate, strict=True)]
        return as_obs(self.labels, self.run.plan.vocabulary).iloc[condition].set_axis(names, axis=0)

    def draw(self, first: int, last: int, progress: Progress) -> Any:
        from lingshu_jax.diffusion import sample

        condition, replicate = self.places(first, last)
        keys = cell_keys(self.seed, condition_digests(self.labels)[condition], replicate)
        tokens = sample(
            self.run.model,
            {name: rows[condition] for name, rows in self.rows.items()} or len(condition),
            self.sampler,
            keys,
            fixed=self.injection.start(condition),
            progress=lambda done, total: progress(STAGE, first + done, self.n_cells),
        )
        return self.injection.kept(drawn_counts(tokens, keys), condition)
