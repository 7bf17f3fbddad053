"""The `lingshu` command: `lingshu COMMAND ...`, also `python -m experiments COMMAND ...`.

Exit status: 0 done; 2 bad usage or bad input, said in one line; 75 stopped early, saved, start me again;
130 interrupted, nothing saved; 1 a bug.
"""

import importlib
import sys
from collections.abc import Sequence

from data_pipelines.errors import InputError
from lingshu_jax.vocabulary import UnknownLabel, nearest

COMMANDS = {
    "simulate": "write a simulated perturb-seq screen with planted truth",
    "inspect": "say whether h5ad files can be trained on, and how",
    "ingest": "turn h5ad files into a cell store",
    "split": "choose training, validation and test cells of a store",
    "train": "train an experiment on a store, or go on training it",
    "launch": "write a SLURM script or a GKE JobSet that trains",
    "sample": "draw cells from a run",
    "impute": "complete partly measured cells",
    "counterfactual": "draw the same cells under another perturbation",
    "score": "bound the likelihood of cells, and tell their labels by it",
    "embed": "write cell representations into obsm",
    "sweep": "compare schedules, steps and guidance scales on a split",
    "export": "check and write cells in a challenge's format",
    "evaluate": "compare a run's samples with held-out cells and baselines",
    "report": "write a run's evaluations into one page",
    "runs": "list runs",
    "results": "train and evaluate on real cells, and write the page of results",
    "ablations": "train on real cells with one setting changed at a time, and write the page of them",
}
BAD_INPUT = 2
INTERRUPTED = 130


def usage() -> str:
    """What `lingshu --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()]
    return "\n".join(["usage: lingshu COMMAND [OPTIONS]", "", *lines, "", "lingshu COMMAND --help tells its options."])


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return 0 if arguments else BAD_INPUT
    name, *rest = arguments
    try:
        if name not in COMMANDS:
            raise InputError(f"no command {name!r} (nearest: {nearest(name, COMMANDS)}). See: lingshu --help")
        return importlib.import_module(f"experiments.commands.{name}").run(rest)
    except (InputError, UnknownLabel) as error:
        print(f"lingshu {name}: {error}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print(f"lingshu {name}: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        sys.stdout = None  # the reader of our output has left; there is nobody to tell
        return BAD_INPUT
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"lingshu {name}: {where}{error.strerror or error}. Check the path, its permissions and the disk.",
            file=sys.stderr,
        )
        return BAD_INPUT


def main() -> None:
    """Entry point of the console script."""
    status = run(sys.argv[1:])
    if several := sys.modules.get("lingshu_jax.parallel.distributed"):
        several.leave(status)
    sys.exit(status)


if __name__ == "__main__":
    main()
