"""`python -m tests.fuzz --seconds 60`: every parser for so long; a table, and status 1 where something was uncaught."""

import os
import sys

import tyro

from tests.fuzz.fuzzing import fuzz
from tests.fuzz.targets import targets


def main(*, seconds: float = 60.0, only: str = "", seed: int = 1) -> int:
    """Fuzz the parsers.

    Args:
        seconds: for each.
        only: those whose name holds this text.
        seed: of the first inputs.
    """
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    uncaught = 0
    print("| parser | seconds | inputs | refused | uncaught |\n|---|---|---|---|---|")
    for target in (one for one in targets() if only in one.name):
        found = fuzz(target, examples=200, start=seed, seconds=seconds)
        refused = sum(found.refusals.values())
        print(f"| {target.name} | {seconds:g} | {found.inputs:,} | {refused:,} | {len(found.uncaught)} |", flush=True)
        uncaught += len(found.uncaught)
        for what, content in found.uncaught.items():
            print(f"{target.name}: {what}, input {content[:400]!r}", file=sys.stderr, flush=True)
    return 1 if uncaught else 0


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
