"""Checkpoints (Orbax): state, EMA, fixed arrays, loader position and a self-contained description of the model."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from lingshu_jax.training.state import TrainState


class CheckpointError(ValueError):
    """There is no checkpoint to restore, or it does not fit; says which and what to do."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a run goes on from."""

    state: TrainState
    fixed: Any
    loader: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run folder; checkpoint n is the state before step n. Saves in the background."""

    def __init__(self, folder: Path | str, *, keep: int = 3, read_only: bool = False):
        """Open (or, unless read-only, create) the folder."""
        self._folder = epath.Path(folder)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None if read_only else keep,
            enable_async_checkpointing=not read_only,
            read_only=read_only,
            create=not read_only,
        )
        self._manager = ocp.CheckpointManager(self._folder, options=options)

    def latest_step(self) -> int | None:
        """The newest complete checkpoint, None when there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState, fixed: Any, loader: dict[str, Any], meta: dict[str, Any]) -> None:
        """Start saving; EMA is an item of its own, so that evaluation restores it alone."""
        if self._manager.latest_step() == step:
            return
        self._manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(_without_ema(state)),
                ema=ocp.args.StandardSave(state.ema),
                fixed=ocp.args.StandardSave(fixed),
                loader=ocp.args.JsonSave(loader),
                meta=ocp.args.JsonSave(meta),
            ),
        )

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
        """Wait for the save that is under way."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _restore(self, step: int | None, **items: Any) -> Any:
        step = self.latest_step() if step is None else step
        if step is None or step not in self._manager.all_steps():
            there = ", ".join(map(str, self._manager.all_steps())) or "none"
            wanted = "a checkpoint" if step is None else f"the checkpoint of step {step}"
            raise CheckpointError(
                f"{self._folder} does not hold {wanted} (complete ones: {there}). Train the run first."
            )
        return self._manager.restore(step, args=ocp.args.Composite(**items))


def _without_ema(state: TrainState) -> dict[str, Any]:
    return {
        field.name: getattr(state, field.name) for field in dataclasses.fields(state) if field.name != "ema"
    }


def abstract_like(tree: Any) -> Any:
    """Shapes, types and shardings of a tree of arrays, to restore into."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), tree)
