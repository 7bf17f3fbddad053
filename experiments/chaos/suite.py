"""Which faults are injected into what, how often, and what is counted."""

import collections
import dataclasses
import pathlib
import random
import shutil
import time
from collections.abc import Callable, Iterable, Sequence

from experiments.chaos import faults
from experiments.chaos.damage import DAMAGES, Checkpoint, Store, damaged
from experiments.chaos.faults import Fault
from experiments.chaos.jobs import Job, obeys_permissions
from experiments.chaos.scenarios import Base, Evaluate, Ingest, Registry, Sample, Scenario, Train, environment
from experiments.chaos.trial import TOO_LATE, Reference, Violation, attempt, reference, require

KILLS, DAMAGE = 3, 12
"""How many kills, and how much damage, for one of the other faults: they happen most, and damage is cheap."""
_TRIES = 4
"""Starts for one fault that comes too late."""


@dataclasses.dataclass(frozen=True)
class Injection:
    """One fault of one scenario, as often as it likes."""

    fault: str
    scenario: str
    weight: int
    inject: Callable[[pathlib.Path, random.Random], str]
    """In a new folder; what happened."""
    short: bool = True
    """It takes seconds, and is part of the short form."""


@dataclasses.dataclass
class Tally:
    """What happened, by fault and scenario."""

    happened: dict[tuple[str, str], collections.Counter[str]] = dataclasses.field(default_factory=dict)
    violations: list[str] = dataclasses.field(default_factory=list)

    @property
    def injected(self) -> int:
        """Faults that found a working command, or something to damage."""
        return sum(found.total() - found[TOO_LATE] for found in self.happened.values())

    def add(self, injection: Injection, what: str) -> None:
        """Count one."""
        self.happened.setdefault((injection.fault, injection.scenario), collections.Counter())[what] += 1


def make_base(folder: pathlib.Path) -> Base:
    """A screen, its store, a run and samples, by the real commands.

    Raises:
        Violation: one fails.
    """
    from data_pipelines import simulate_screen

    base = Base(folder)
    folder.mkdir(parents=True)
    screen = simulate_screen(genes=200, contexts=2, perturbations=8, cells=60, controls=120, median_library=300)
    screen.write_h5ad(base.screen)
    base.lay_out_runs(base.runs)
    for command in (base.ingest(base.store), base.train(base.runs), base.sample(base.samples)):
        ended = Job([command], environment(folder)).wait()
        require(ended[0].status == 0, f"{command[0]} fails without any fault: {ended[0].said}")
    return base


def injections(base: Base, folder: pathlib.Path) -> list[Injection]:
    """Every fault of every scenario."""
    kill, term, pause, full, permission, second, stalled = faults.EVERY
    every = [kill, term, pause, full, permission, second, stalled]
    plan: list[tuple[Scenario, Iterable[Fault]]] = [
        (Ingest(base), every),
        (Train(base, 1), every),
        (Train(base, 2), [kill, term, pause]),
        (Sample(base), every),
        (Evaluate(base), [kill, term, pause, full, permission]),
        (Registry(base), [kill, term, pause, full, permission]),
    ]
    found = []
    for scenario, some in plan:
        known = _Known(scenario, folder / "references" / scenario.name.replace(" ", "-").replace(",", ""))
        for fault in some:
            if fault is permission and not obeys_permissions():
                continue
            several = isinstance(scenario, Train) and scenario.processes > 1
            weight = KILLS if fault is kill and not several else 1
            found.append(Injection(fault.name, scenario.name, weight, _Attempt(fault, known), short=not several))
    for stored in (Store(base), Checkpoint(base)):
        for damage in DAMAGES:
            found.append(
                Injection(
                    damage.name,
                    stored.name,
                    DAMAGE,
                    lambda place, draws, s=stored, d=damage: damaged(s, d, place, draws),
                )
            )
    return found


@dataclasses.dataclass
class _Known:
    """A scenario and what it makes undisturbed, found out when it is first asked for."""

    scenario: Scenario
    folder: pathlib.Path
    _found: Reference | None = None

    def reference(self) -> Reference:
        if self._found is None:
            self._found = reference(self.scenario, self.folder)
        return self._found


@dataclasses.dataclass(frozen=True)
class _Attempt:
    fault: Fault
    known: _Known

    def __call__(self, folder: pathlib.Path, draws: random.Random) -> str:
        return attempt(self.known.scenario, self.fault, self.known.reference(), folder, draws)


def in_turn(chosen: Sequence[Injection], per_kind: int) -> list[Injection]:
    """Each as often as its weight says, in turn: a run that is cut short has some of all."""
    turns: list[Injection] = []
    most = max((per_kind * one.weight for one in chosen), default=0)
    for turn in range(most):
        # The rarer ones are spread over the whole, and the first turn has one of each.
        turns += [one for one in chosen if turn * per_kind * one.weight % most < per_kind * one.weight]
    return turns


def shortened(every: Sequence[Injection], of_each: int) -> list[Injection]:
    """So many of each kind of fault, each in another scenario."""
    by_kind: dict[str, list[Injection]] = {}
    for one in every:
        if one.short:
            by_kind.setdefault(one.fault, []).append(dataclasses.replace(one, weight=1))
    chosen = []
    for number, some in enumerate(by_kind.values()):
        chosen += [some[(number + shift) % len(some)] for shift in range(of_each)]
    return chosen


def carry_out(
    turns: Sequence[Injection],
    folder: pathlib.Path,
    draws: random.Random,
    seconds: float,
    say: Callable[[str], None],
) -> Tally:
    """Inject one after the other until all are done or the time is over. Who violates an invariant keeps its folder."""
    tally, limit = Tally(), time.monotonic() + seconds
    for number, injection in enumerate(turns, 1):
        if time.monotonic() > limit:
            say(f"the time is over: {len(turns) - number + 1} of {len(turns)} faults were not injected")
            break
        for again in range(_TRIES):
            place = folder / f"{number:04d}-{again}"
            what = _one(injection, place, draws, tally)
            tally.add(injection, what)
            say(f"[{number}/{len(turns)}] {injection.fault}, {injection.scenario}: {what}")
            if what != "violated":
                shutil.rmtree(place, ignore_errors=True)
            if what != TOO_LATE:
                break
    return tally


def _one(injection: Injection, place: pathlib.Path, draws: random.Random, tally: Tally) -> str:
    try:
        return injection.inject(place, draws)
    except Violation as error:
        tally.violations.append(f"{injection.fault}, {injection.scenario}: {error} (see {place})")
        return "violated"
