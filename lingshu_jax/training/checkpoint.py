"""Checkpoints (Orbax): state, EMA, fixed arrays, loader position and a self-contained description of the model."""

import contextlib
import dataclasses
import logging
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from lingshu_jax.buckets import in_bucket
from lingshu_jax.buckets.checkpoints import FINISHED, teach_orbax
from lingshu_jax.parallel.distributed import lead, several, together
from lingshu_jax.training.integrity import CHECKSUMS, added, damage, difference, has_checksums, write_checksums
from lingshu_jax.training.saving import WATCHED
from lingshu_jax.training.state import TrainState
from lingshu_jax.training.write_errors import reason_of

policies = ocp.checkpoint_managers
_LOGGER = logging.getLogger(__name__)
_PARTIAL, _ATTEMPTS, _CLEAN_LOOKS = ".orbax-checkpoint-tmp", 50, 3
AVERAGED = ("ema", "fixed", "meta")
"""Items that sampling and evaluation read."""


class CheckpointError(ValueError):
    """There is no checkpoint to restore, or it is damaged or does not fit; says which and what to do."""


class SaveFailed(RuntimeError):
    """A checkpoint could not be written; says why. Those before it are whole."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a run goes on from."""

    state: TrainState
    fixed: Any
    loader: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run; checkpoint n is the state before step n. Saves in the background.

    Opening looks for damage: every file's size, and the contents of the newest checkpoint. Of damaged ones `warn` is
    told; a training run sets them aside, beside the folder.
    """

    def __init__(
        self,
        folder: Path | epath.Path | str,
        *,
        keep: int = 3,
        keep_every: int | None = None,
        read_only: bool = False,
        items: Iterable[str] | None = None,
        warn: Callable[[str], None] = _LOGGER.warning,
    ):
        """Open (or, unless read-only, create) the folder. Every process of a run must open it.

        Args:
            folder: where the checkpoints are; or a gs:// or s3:// URL.
            keep: how many of the newest are kept, beside the best one.
            keep_every: those of steps that this divides are kept as well.
            read_only: nothing is written, and nothing moved.
            items: only these will be read, so only these are looked at; None means all.
            warn: told of every damaged checkpoint in one line.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged.
            OSError: the folder may not be read, or not be written.
        """
        self._in_bucket = in_bucket(folder)
        if self._in_bucket:
            teach_orbax()
        self._folder = epath.Path(folder) if self._in_bucket else epath.Path(folder).resolve()
        self._items = None if items is None else tuple(items)
        self._keep, self._keep_every, self._read_only = keep, keep_every, read_only
        self._saving: int | None = None
        self._given_up = False
        inspected = lead("checkpoints", lambda: self._inspect(warn))
        self._whole: list[int] = inspected["whole"]
        self._damaged = {int(step): what for step, what in inspected["damaged"].items()}
        self._manager = self._open(clean=True)

    def latest_step(self) -> int | None:
        """The newest whole checkpoint, None when there is none."""
        return max(self._whole, default=None)

    def best(self) -> float | None:
        """The lowest held-out bound of any checkpoint."""
        best = min((_watched(self._manager.metrics(step)) for step in self._whole), default=math.inf)
        return best if math.isfinite(best) else None

    def save(
        self,
        step: int,
        state: TrainState,
        fixed: Any,
        loader: dict[str, Any],
        meta: dict[str, Any],
        held_out: dict[str, float] | None = None,
    ) -> None:
        """Start saving; EMA is an item of its own, so that evaluation restores it alone.

        Raises:
            SaveFailed: this save, or the one before it in the background, could not be written.
        """
        if self.latest_step() == step or self._saving == step:
            return
        self.wait()
        self._saving = step
        watched = {name: value for name, value in (held_out or {}).items() if name == WATCHED}
        items = ocp.args.Composite(
            state=ocp.args.StandardSave(_without_ema(state)),
            ema=ocp.args.StandardSave(state.ema),
            fixed=ocp.args.StandardSave(fixed),
            loader=ocp.args.JsonSave(loader),
            meta=ocp.args.JsonSave(meta),
        )
        try:
            together(lambda: self._manager.save(step, args=items, metrics=watched, force=True), reason_of)
        except Exception as error:
            self._give_up(error)

    def wait(self) -> None:
        """Wait for the save that is under way.

        Raises:
            SaveFailed: it could not be written.
        """
        if self._saving is None:
            return
        try:
            together(self._finish, reason_of)
        except Exception as error:
            self._give_up(error)
        self._whole.append(self._saving)
        self._saving = None

    def meta(self, step: int | None = None) -> dict[str, Any]:
        """The description saved with a checkpoint: config, panel, condition vocabulary, hashes."""
        return self._restore(step, meta=ocp.args.JsonRestore())["meta"]

    def restore(self, abstract: TrainState, abstract_fixed: Any, step: int | None = None) -> Restored:
        """Everything a run goes on from, onto the mesh of the abstract state."""
        items = self._restore(
            step,
            state=ocp.args.StandardRestore(_without_ema(abstract)),
            ema=ocp.args.StandardRestore(abstract.ema),
            fixed=ocp.args.StandardRestore(abstract_fixed),
            loader=ocp.args.JsonRestore(),
        )
        return Restored(TrainState(ema=items["ema"], **items["state"]), items["fixed"], items["loader"])

    def restore_ema(self, abstract_params: Any, abstract_fixed: Any, step: int | None = None) -> tuple[Any, Any]:
        """The averaged parameters and the fixed arrays: what sampling and evaluation need."""
        items = self._restore(
            step, ema=ocp.args.StandardRestore(abstract_params), fixed=ocp.args.StandardRestore(abstract_fixed)
        )
        return items["ema"], items["fixed"]

    def close(self) -> None:
        """Wait for the save that is under way; what became of it is not told (`wait` does)."""
        if self._given_up and several():
            return  # the others may wait for a part of it that will not come
        try:
            self._manager.close()
        except Exception as error:
            _LOGGER.debug("closing %s: %s", self._folder, error)

    def _open(self, *, clean: bool) -> ocp.CheckpointManager:
        keep: list[Any] = [
            policies.LatestN(self._keep),
            policies.BestN(
                get_metric_fn=lambda metrics: -_watched(metrics), n=1, keep_checkpoints_without_metrics=False
            ),
        ]
        if self._keep_every is not None:
            keep.append(policies.EveryNSteps(self._keep_every))
        options = ocp.CheckpointManagerOptions(
            preservation_policy=None if self._read_only else policies.AnyPreservationPolicy(keep),
            best_fn=_watched,
            best_mode="min",
            enable_async_checkpointing=not self._read_only,
            async_options=None
            if self._read_only
            else ocp.options.AsyncOptions(
                # Made in the background, a folder that cannot be made leaves threads that hold the process for minutes.
                create_directories_asynchronously=False,
                post_finalization_callback=self._sum_files,
            ),
            read_only=self._read_only,
            create=not self._read_only,
            cleanup_tmp_directories=clean and not self._read_only,
        )
        manager = ocp.CheckpointManager(self._folder, options=options)
        # After a failure it would wait ten minutes for the others, which wait for this process, before it tells.
        progress = manager._save_progress_tracker
        progress.set = _unless_failing(progress.set)
        return manager

    def _finish(self) -> None:
        self._manager.wait_until_finished()
        self._manager.check_for_errors()

    def _sum_files(self) -> None:
        """Called on process 0, in the background, when all files are written and the folder has not got its name."""
        name = str(self._saving)
        for folder in self._folder.iterdir():
            if folder.name == name or folder.name.startswith(f"{name}{_PARTIAL}"):
                write_checksums(folder)

    def _remove_partial(self, step: int | None) -> None:
        """Free what a failed save has taken; other files of it may be on their way, and make its folder again."""
        clean = 0
        for _ in range(_ATTEMPTS):
            places = [self._folder / str(step)] if self._in_bucket else self._folder.glob(f"{step}{_PARTIAL}*")
            partial = [folder for folder in places if folder.exists()]
            clean = 0 if partial else clean + 1
            if clean == _CLEAN_LOOKS:
                return
            for folder in partial:
                with contextlib.suppress(OSError):
                    folder.rmtree()
            time.sleep(0.1)

    def _give_up(self, error: Exception) -> None:
        """Leave nothing half-written, and be ready for another save."""
        step, self._saving = self._saving, None
        self._given_up = True
        if not several():  # opening again waits for all processes, of which some may not know yet
            self.close()
            self._remove_partial(step)
            self._manager = self._open(clean=False)
        raise SaveFailed(f"the checkpoint of step {step:,} could not be saved ({reason_of(error)})") from error

    def _inspect(self, warn: Callable[[str], None]) -> dict[str, Any]:
        """Which checkpoints are whole; sets the others aside. On process 0."""
        if not (self._read_only or self._in_bucket):  # before training, rather than at the first save
            self._folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=self._folder).close()
        steps = sorted(int(path.name) for path in _listed(self._folder) if path.name.isdigit() and self._named(path))
        damaged = {step: what for step in steps if (what := difference(self._folder / str(step), self._items))}
        for step in reversed([step for step in steps if step not in damaged]):
            what = damage(self._folder / str(step), self._items)
            if what is None:
                break
            damaged[step] = what
        whole = [step for step in steps if step not in damaged]
        said = [f"checkpoint {self._folder / str(step)} is damaged: {damaged[step]}" for step in sorted(damaged)]
        if steps and not whole:
            raise CheckpointError(f"{'; '.join(said)}. No other is left: restore one, or train again with --new.")
        instead = f"The one of step {max(whole):,} is used" if whole else ""
        for step, line in zip(sorted(damaged), said, strict=True):
            aside = "" if self._read_only else f"; it was moved to {self._set_aside(step)}"
            warn(f"{line}. {instead}{aside}.")
        if whole and not has_checksums(self._folder / str(max(whole))):
            warn(f"checkpoint {self._folder / str(max(whole))} has no {CHECKSUMS}: it is used unchecked.")
        return {"whole": whole, "damaged": damaged}

    def _named(self, folder: epath.Path) -> bool:
        """Whether a checkpoint is finished: on a disk it has its name only then, in a bucket a last object says so."""
        return not self._in_bucket or (folder / FINISHED).exists()

    def _set_aside(self, step: int) -> epath.Path:
        """Move a damaged checkpoint out of the way of the one that will be saved at its step."""
        place = self._folder.parent / "damaged-checkpoints"
        place.mkdir(parents=True, exist_ok=True)
        number = sum(path.name.split(".")[0] == str(step) for path in place.iterdir())
        return (self._folder / str(step)).rename(place / (f"{step}.{number}" if number else str(step)))

    def _restore(self, step: int | None, **items: Any) -> Any:
        step = self.latest_step() if step is None else step
        if step in self._damaged:
            raise CheckpointError(
                f"checkpoint {self._folder / str(step)} is damaged: {self._damaged[step]}. "
                f"Take another one ({', '.join(map(str, self._whole))})."
            )
        if step is None or step not in self._whole:
            there = ", ".join(map(str, self._whole)) or "none"
            wanted = "a checkpoint" if step is None else f"the checkpoint of step {step}"
            raise CheckpointError(
                f"{self._folder} does not hold {wanted} (complete ones: {there}). Train the run first."
            )
        try:
            return self._manager.restore(step, args=ocp.args.Composite(**items))
        except Exception as error:
            folder = self._folder / str(step)
            if has_checksums(folder):
                if more := added(folder):
                    raise CheckpointError(
                        f"checkpoint {folder} cannot be read, and holds {more[0]}, which was not saved with it. Move "
                        "that file away."
                    ) from error
                raise
            raise CheckpointError(
                f"checkpoint {folder} has no {CHECKSUMS} and cannot be read. Move it away: the one before is then used."
            ) from error


def _listed(folder: epath.Path) -> Iterable[epath.Path]:
    return list(folder.iterdir()) if folder.exists() else []


def _unless_failing[**P](act: Callable[P, None]) -> Callable[P, None]:
    """`act`, but nothing where it is called on the way out of an error."""

    def act_or_not(*args: P.args, **kwargs: P.kwargs) -> None:
        if sys.exception() is None:
            act(*args, **kwargs)

    return act_or_not


def _watched(metrics: dict[str, float] | None) -> float:
    return (metrics or {}).get(WATCHED, math.inf)


def _without_ema(state: TrainState) -> dict[str, Any]:
    return {field.name: getattr(state, field.name) for field in dataclasses.fields(state) if field.name != "ema"}


def abstract_like(tree: Any) -> Any:
    """Shapes, types and shardings of a tree of arrays, to restore into."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree)
