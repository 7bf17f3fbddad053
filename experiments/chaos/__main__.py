"""`python -m experiments.chaos`, or `make chaos`: inject faults, print what became of them; 1 if any did harm."""

import dataclasses
import pathlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence

from data_pipelines.errors import InputError
from experiments.command_line import parse
from lingshu_jax import __version__


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chaos:
    """Options of `make chaos`."""

    minutes: float = 40.0
    """No fault is injected after so many minutes."""
    seed: int = 0
    """Of files, moments and bits."""
    per_kind: int = 2
    """Faults of each kind and scenario; kills and damage come more often."""
    only: tuple[str, ...] = ()
    """Only faults and scenarios with one of these words in their names: --only SIGKILL store."""
    short: bool = False
    """So many of each kind only, over all scenarios of one process: for CI."""
    folder: pathlib.Path | None = None
    """Where to work; a new temporary folder where not given."""
    write: pathlib.Path | None = None
    """A page with the two markers to write the table into: docs/reliability.md."""


def main(arguments: Sequence[str]) -> int:
    """Inject the faults; 0 when every invariant held, 1 when not, 2 where nothing could be injected."""
    try:
        return _main(parse(Chaos, arguments, prog="make chaos", description="Inject faults into real commands."))
    except InputError as error:
        print(f"chaos: {error}", file=sys.stderr)
        return 2


def _main(options: Chaos) -> int:
    from experiments.chaos.suite import carry_out, in_turn, injections, make_base, shortened
    from experiments.chaos.table import as_table, write_into
    from experiments.chaos.trial import Violation

    if options.minutes <= 0 or options.per_kind < 1:
        raise InputError("--minutes must be > 0 and --per-kind >= 1.")
    begun = time.monotonic()
    folder = options.folder or pathlib.Path(tempfile.mkdtemp(prefix="chaos-"))
    if options.folder is not None and folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty. Choose another --folder.")
    print(f"seed {options.seed}, in {folder}", flush=True)
    try:
        base = make_base(folder / "base")
    except Violation as error:
        raise InputError(str(error)) from error
    chosen = [
        one
        for one in injections(base, folder)
        if not options.only or any(word in f"{one.fault}, {one.scenario}" for word in options.only)
    ]
    if not chosen:
        raise InputError(f"--only {' '.join(options.only)}: no fault and no scenario has such a name.")
    turns = shortened(chosen, options.per_kind) if options.short else in_turn(chosen, options.per_kind)
    left = 60 * options.minutes - (time.monotonic() - begun)
    tally = carry_out(turns, folder, random.Random(options.seed), left, lambda line: print(line, flush=True))
    minutes = (time.monotonic() - begun) / 60
    caption = (
        f"Version {__version__}, seed {options.seed}: {tally.injected} faults in {minutes:.0f} minutes, "
        f"{len(tally.violations)} violated invariants."
    )
    table = as_table(tally)
    print(f"\n{table}\n\n{caption}")
    if options.write is not None:
        write_into(options.write, table, caption)
    for violation in tally.violations:
        print(f"violated: {violation}", file=sys.stderr)
    if not tally.violations and options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if tally.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
