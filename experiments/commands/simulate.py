"""`lingshu simulate OUT.h5ad`: a simulated perturb-seq screen with planted truth, to try everything on."""

import dataclasses
import pathlib
from collections.abc import Sequence

import tyro

from data_pipelines.errors import InputError
from experiments.command_line import parse
from experiments.commands.next_command import print_next


@dataclasses.dataclass(frozen=True, kw_only=True)
class Simulate:
    """Options of `lingshu simulate`."""

    out: tyro.conf.Positional[pathlib.Path]
    """The h5ad file to write."""
    seed: int = 0
    """Same seed, same screen."""


def run(arguments: Sequence[str]) -> int:
    """Write the screen."""
    options = parse(Simulate, arguments, prog="lingshu simulate", description="Write a simulated perturb-seq screen.")

    _check_place(options.out)

    from data_pipelines import simulate_screen
    from experiments.sample import write_cells

    screen = simulate_screen(seed=options.seed)
    write_cells(screen, options.out)
    print(f"{options.out}: {screen.n_obs:,} cells x {screen.n_vars:,} genes, truth in uns['planted_truth']")
    print_next(["inspect", options.out])
    return 0


def _check_place(out: pathlib.Path) -> None:
    """Only a new h5ad file, or an earlier screen, is written."""
    if out.suffix != ".h5ad":
        raise InputError(f"{out}: a screen is written as h5ad. Name a file that ends in .h5ad.")
    if out.is_dir():
        raise InputError(f"{out} is a folder. Name a file.")
    if out.exists() and not _is_screen(out):
        raise InputError(f"{out} is there and is no simulated screen. Name another file, or remove that one.")


def _is_screen(path: pathlib.Path) -> bool:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "uns/planted_truth" in file
    except OSError:
        return False
