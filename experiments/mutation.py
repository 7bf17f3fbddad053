"""How many small mistakes in the code the tests find: mutants of tokens, objective, sampler and splits, by cosmic-ray.

    make mutants                                          # hours on two cores; the same command goes on
    python -m experiments.mutation --only tokens objective

Each mutant is one changed operator, number, condition or keyword in a copy of the tree; it is killed where one of the
module's tests fails or does not end. Prints a table, and every survivor as a diff. Left out are changes that say little
of tests: types (`A | B`), operators that a reader would not mistake for each other, and jit, which changes speed alone.
"""

import argparse
import dataclasses
import hashlib
import os
import pathlib
import shutil
import sqlite3
import subprocess
import sys
import time

from experiments.progress import StageProgress

ROOT = pathlib.Path(__file__).parent.parent
LEFT_OUT = (
    "core/ReplaceBinaryOperator_BitOr_",
    "core/ReplaceBinaryOperator_.*_(BitOr|BitAnd|BitXor|LShift|RShift|Pow|Mod|FloorDiv)$",
    "core/ReplaceUnaryOperator_.*_(Not|Invert|UAdd)$",
    "core/ReplaceComparisonOperator_.*_(Is|IsNot)$",
    "core/ReplaceComparisonOperator_(Is|IsNot)_(Lt|LtE|Gt|GtE)$",
    "core/RemoveDecorator",
)
SECONDS_PER_MUTANT = 600


@dataclasses.dataclass(frozen=True)
class Subject:
    """A module, and the tests that are to find its mistakes, the fast ones first."""

    module: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return pathlib.PurePath(self.module).stem

    def config(self) -> str:
        """cosmic-ray's TOML."""
        left_out = ", ".join(f'"{operator}"' for operator in LEFT_OUT)
        command = (
            f"{sys.executable} -m pytest -q -x -p no:cacheprovider -m 'not slow and not soak' {' '.join(self.tests)}"
        )
        return (
            f'[cosmic-ray]\nmodule-path = "{self.module}"\ntimeout = {SECONDS_PER_MUTANT}.0\nexcluded-modules = []\n'
            f'test-command = "{command}"\n[cosmic-ray.distributor]\nname = "local"\n'
            f"[cosmic-ray.filters.operators-filter]\nexclude-operators = [{left_out}]\n"
        )


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("lingshu_jax/tokens.py", ("tests/lingshu_jax/test_tokens.py",)),
        Subject("lingshu_jax/diffusion/objective.py", ("tests/lingshu_jax/diffusion/test_objective.py",)),
        Subject("data_pipelines/splits.py", ("tests/data_pipelines/test_splits.py",)),
        Subject("lingshu_jax/diffusion/sampler.py", ("tests/lingshu_jax/diffusion/test_sampler.py",)),
    )
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a module's mutants."""

    subject: Subject
    killed: int
    survivors: tuple[str, ...]
    """Diffs."""

    def row(self) -> str:
        """Of a markdown table."""
        tried = self.killed + len(self.survivors)
        return (
            f"| `{self.subject.module}` | {tried} | {self.killed} | {len(self.survivors)} | {self.killed / tried:.0%} |"
        )


def main() -> int:
    """Run what is missing, print the table and the survivors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("mutants"), help="where sessions are kept")
    options = parser.parse_args()
    outcomes = [examine(SUBJECTS[name], options.out.absolute()) for name in options.only]
    print("| module | mutants | killed | survived | share killed |\n| --- | --- | --- | --- | --- |")
    print("\n".join(outcome.row() for outcome in outcomes))
    for outcome in outcomes:
        for diff in outcome.survivors:
            print(f"\n{diff}")
    return 0


def examine(subject: Subject, out: pathlib.Path) -> Outcome:
    """Try the module's mutants that were not tried yet; a changed module or test begins anew."""
    texts = [(ROOT / path).read_bytes() for path in (subject.module, *subject.tests)]
    digest = hashlib.blake2b(b"\0".join([subject.config().encode(), *texts]), digest_size=4).hexdigest()
    tree, session = out / f"{subject.name}-{digest}", out / f"{subject.name}-{digest}.sqlite"
    config = session.with_suffix(".toml")
    _copy(tree)  # anew: one that was killed may have left a mutant
    config.write_text(subject.config())
    tools = pathlib.Path(sys.executable).parent
    environment = os.environ | {"PYTHONPATH": str(tree), "JAX_COMPILATION_CACHE_DIR": str(out / "compiled")}

    def call(*words: object) -> None:
        subprocess.run([str(word) for word in words], cwd=tree, env=environment, check=True)

    if not session.exists():
        begun = session.with_suffix(".begun")
        begun.unlink(missing_ok=True)
        call(tools / "cosmic-ray", "baseline", config)
        call(tools / "cosmic-ray", "init", config, begun)
        call(tools / "cr-filter-operators", begun, config)
        begun.rename(session)
    running = subprocess.Popen([tools / "cosmic-ray", "exec", config, session], cwd=tree, env=environment)
    with StageProgress("mutants") as progress:
        while running.poll() is None:
            progress(subject.name, *_done(session))
            time.sleep(1)
    if running.returncode:
        raise SystemExit(f"cosmic-ray ended with {running.returncode}; the same command goes on.")
    shutil.rmtree(tree)
    return _outcome(subject, session)


def _copy(tree: pathlib.Path) -> None:
    shutil.rmtree(tree, ignore_errors=True)
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)


def _done(session: pathlib.Path) -> tuple[int, int]:
    tried = _query(session, "select count(*) from work_results where worker_outcome != 'SKIPPED'")[0][0]
    skipped = _query(session, "select count(*) from work_results where worker_outcome = 'SKIPPED'")[0][0]
    return tried, _query(session, "select count(*) from work_items")[0][0] - skipped


def _outcome(subject: Subject, session: pathlib.Path) -> Outcome:
    results = _query(session, "select test_outcome, diff from work_results where worker_outcome != 'SKIPPED'")
    survivors = tuple(sorted(diff for outcome, diff in results if outcome == "SURVIVED"))
    return Outcome(subject, len(results) - len(survivors), survivors)


def _query(session: pathlib.Path, statement: str) -> list[tuple]:
    with sqlite3.connect(f"file:{session}?mode=ro", uri=True, timeout=30) as connection:
        return connection.execute(statement).fetchall()


if __name__ == "__main__":
    sys.exit(main())
