"""`lingshu simulate OUT.h5ad`: a simulated perturb-seq screen with planted truth, to try everything on."""

import dataclasses
import pathlib
from collections.abc import Sequence

import tyro

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

    from data_pipelines import simulate_screen
    from experiments.sample import write_cells

    screen = simulate_screen(seed=options.seed)
    write_cells(screen, options.out)
    print(f"{options.out}: {screen.n_obs:,} cells x {screen.n_vars:,} genes, truth in uns['planted_truth']")
    print_next(["inspect", options.out])
    return 0
