"""What a sweep found: a row per sampler, saved as JSON after each."""

import dataclasses
import json
from typing import Any

from data_pipelines.errors import InputError
from data_pipelines.formats import check_format
from experiments.config_json import to_json
from experiments.evaluation.plain import plain, typed
from experiments.runs import write_json
from experiments.storage import Folder
from lingshu_jax.diffusion import SamplerConfig

FORMAT = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SweepRow:
    """One sampler's cells, or the real ones, summed up."""

    name: str
    """The schedule; `real`, or `real vs real`: one half of the real cells against the other."""
    steps: int | None = None
    scale: float | None = None
    sampler: dict[str, Any] | None = None
    n: int = 0
    """Cells that were compared."""
    seconds: float | None = None
    """To draw them here, compilation included."""
    values: dict[str, float | None] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep:
    """Samplers of one checkpoint on one part of its split."""

    step: int
    part: str
    seed: int
    split_hash: str
    conditions: int
    reference: tuple[SweepRow, ...] = ()
    """The real cells, and one half of them against the other."""
    rows: tuple[SweepRow, ...] = ()

    def save(self, path: Folder) -> None:
        """Write it in one step."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {"format": FORMAT, **plain(self)})

    @classmethod
    def load(cls, path: Folder) -> "Sweep":
        """Read it.

        Raises:
            InputError: it is damaged, or of another version.
        """
        try:
            tree = json.loads(path.read_text())
            check_format(str(path), tree.pop("format"), FORMAT, "Remove it, and sweep again.")
            return typed(cls, tree)
        except InputError:
            raise
        except (IndexError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{path} is damaged ({error}). Remove it, and sweep again.") from error

    def row(self, sampler: SamplerConfig) -> SweepRow | None:
        """The row of a sampler, if it was drawn already."""
        wanted = to_json(sampler)
        return next((row for row in self.rows if row.sampler == wanted), None)

    def of(self, samplers: list[SamplerConfig]) -> "Sweep":
        """The same with the rows of these samplers, in their order."""
        rows = tuple(row for sampler in samplers if (row := self.row(sampler)) is not None)
        return dataclasses.replace(self, rows=rows)
