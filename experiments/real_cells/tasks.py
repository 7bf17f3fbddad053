"""Every task, as the experiments' configs state them."""

import importlib

from data_pipelines.errors import InputError
from experiments.configs import EXPERIMENTS
from experiments.real_cells.task import Task
from lingshu_jax.vocabulary import nearest


def all_tasks() -> dict[str, Task]:
    """Name -> task, in the order of the experiments."""
    modules = dict.fromkeys(place.partition(".")[0] for place in EXPERIMENTS.values())
    found = [importlib.import_module(f"experiments.configs.{name}") for name in modules]
    return {task.experiment: task for module in found for task in getattr(module, "TASKS", ())}


def chosen_tasks(names: tuple[str, ...]) -> list[Task]:
    """The tasks of these names; all of them where none is given.

    Raises:
        InputError: there is no such task.
    """
    tasks = all_tasks()
    for name in names:
        if name not in tasks:
            raise InputError(f"no task {name!r} (nearest: {nearest(name, tasks)}). There are: {', '.join(tasks)}.")
    return [task for name, task in tasks.items() if not names or name in names]
