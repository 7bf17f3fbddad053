"""The machinery that injects faults: a planted violation is found, and what came too late is not counted."""

import collections
import os
import pathlib
import random

import pytest

from experiments.chaos.__main__ import main
from experiments.chaos.damage import Missing, damaged
from experiments.chaos.faults import KILL, DiskFull, SecondJob
from experiments.chaos.jobs import Ended
from experiments.chaos.scenarios import Base, Ingest
from experiments.chaos.suite import Injection, Tally, carry_out, in_turn, shortened
from experiments.chaos.table import BEGIN, END, as_table, write_into
from experiments.chaos.trial import TOO_LATE, Reference, Violation, attempt


class PlantedJob:
    """Ends as it is told, and writes what it is told."""

    statuses: tuple[int, ...] = (0,)
    said = ""
    alive = True
    pid = 2**30
    writes = ("whole",)

    def __init__(self, commands, environment):
        self.started, self.place = 0.0, pathlib.Path(commands[0][0])
        self.number = len(os.listdir(self.place.parent / "starts"))
        (self.place.parent / "starts" / str(self.number)).touch()

    def running(self):
        return self.alive

    def kill(self):
        pass

    def send(self, number, which):
        pass

    @property
    def processes(self):
        return [self]

    def wait(self):
        at = min(self.number, len(self.statuses) - 1)
        content = self.writes[min(self.number, len(self.writes) - 1)]
        if content:
            self.place.write_text(content)
        return [Ended(self.statuses[at], self.said if at == 0 else "")]


class Planted:
    name = "planted"
    anywhen = 0.4

    def fresh(self, folder):
        (folder / "starts").mkdir(parents=True)

    def commands(self, folder):
        return [[str(folder / "out")]]

    def environment(self, folder):
        return {}

    def written_to(self, folder):
        return folder

    def begun(self, folder):
        return True

    def result(self, folder):
        return (folder / "out").read_text() if (folder / "out").exists() else None

    def complete(self, found, expected):
        return found == expected

    def leftovers(self, folder):
        return [path.name for path in folder.glob(".*")]


def test_a_store_without_its_split_is_whole_and_one_without_a_shard_is_not(tmp_path):
    scenario, expected = Ingest(Base(tmp_path)), {"X/data/c/0": "a", "splits/default.json": "b"}
    assert scenario.complete({"X/data/c/0": "a", "splits/default.json.__lock": "c"}, expected)
    assert not scenario.complete({"splits/default.json": "b"}, expected)
    assert not scenario.complete({"X/data/c/0": "other", "splits/default.json": "b"}, expected)


WHOLE = Reference("whole", 0.0, ())


def tried(tmp_path, monkeypatch, fault=KILL, **planted) -> str:
    job = type("Job", (PlantedJob,), planted)
    monkeypatch.setattr("experiments.chaos.trial.Job", job)
    monkeypatch.setattr("experiments.chaos.faults.Job", job)
    return attempt(Planted(), fault, WHOLE, tmp_path / "place", random.Random(0))


def test_what_happened_is_told_apart(tmp_path, monkeypatch):
    killed = {"statuses": (-9, 0), "writes": ("", "whole")}
    assert tried(tmp_path / "a", monkeypatch, **killed) == "recovered"
    assert tried(tmp_path / "b", monkeypatch) == "went on"
    assert tried(tmp_path / "c", monkeypatch, alive=False) == TOO_LATE
    refused = {"statuses": (2, 0), "writes": ("", "whole"), "said": "lingshu sample: no space."}
    assert tried(tmp_path / "d", monkeypatch, DiskFull(), **refused) == "refused in one line, then recovered"


@pytest.mark.parametrize(
    ("planted", "violated"),
    [
        ({"statuses": (1,)}, "status 1"),
        ({"statuses": (-9, 0), "writes": ("half",)}, "neither complete nor absent"),
        ({"statuses": (-9, 0), "writes": ("", "other")}, "makes something else"),
        ({"statuses": (0,), "writes": ("",)}, "said that it was done"),
        ({"statuses": (-9, 2), "writes": ("", "whole")}, "does not start again"),
        ({"statuses": (-9, 75, 75, 75, 75), "writes": ("",)}, "does not end after"),
        ({"said": "Traceback (most recent call last)\n"}, "traceback"),
    ],
)
def test_a_planted_violation_is_found(planted, violated, tmp_path, monkeypatch):
    with pytest.raises(Violation, match=violated):
        tried(tmp_path, monkeypatch, **planted)


def test_a_second_job_counts_where_it_was_refused_alone(tmp_path, monkeypatch):
    assert tried(tmp_path / "done", monkeypatch, SecondJob()) == TOO_LATE


def test_a_refusal_in_two_lines_and_a_second_job_that_is_let_in_are_violations(tmp_path, monkeypatch):
    said = "lingshu train: one.\nlingshu train: two."
    with pytest.raises(Violation, match="refused in 2 lines"):
        tried(tmp_path / "a", monkeypatch, DiskFull(), statuses=(2,), writes=("",), said=said)
    unnamed = {"statuses": (0, 2), "said": "lingshu train: busy."}
    with pytest.raises(Violation, match="status 2"):
        tried(tmp_path / "b", monkeypatch, SecondJob(), **unnamed)


def test_names_left_behind_are_a_violation(tmp_path, monkeypatch):
    def wait(self):
        (self.place.parent / ".out.half").touch()
        return PlantedJob.wait(self)

    with pytest.raises(Violation, match=r"leaves \.out\.half"):
        tried(tmp_path, monkeypatch, wait=wait)


class Unchecked:
    """A stored file that is read whatever it holds."""

    name = "unchecked"

    def copy(self, folder):
        (folder / "one").write_text("1")
        (folder / "two").write_text("2")
        return folder

    def read(self, folder):
        return [path.read_text() for path in sorted(folder.iterdir())]

    def names(self, folder, file, said):
        return False


def test_damage_that_nothing_notices_is_a_violation(tmp_path):
    with pytest.raises(Violation, match="something else is read"):
        damaged(Unchecked(), Missing(), tmp_path / "place", random.Random(0))


def injection(fault: str, scenario: str, weight: int, *happens: str) -> Injection:
    left = list(happens)

    def inject(folder, draws):
        folder.mkdir()
        what = left.pop(0)
        if what == "violated":
            raise Violation("planted")
        return what

    return Injection(fault, scenario, weight, inject)


def test_counts_and_the_table(tmp_path):
    lines: list[str] = []
    some = [injection("kill", "a", 2, TOO_LATE, "recovered", "went on"), injection("flip", "b", 1, "violated")]
    turns = in_turn(some, 1)
    assert collections.Counter(one.fault for one in turns) == {"kill": 2, "flip": 1}
    tally = carry_out(turns, tmp_path, random.Random(0), 60.0, lines.append)
    assert tally.injected == 3 and len(tally.violations) == 1 and len(lines) == 4
    assert [path.name for path in tmp_path.iterdir()] == [tally.violations[0].rpartition("/")[2].rstrip(")")]
    table = as_table(tally)
    assert "| kill | a | 2 | recovered 1, went on 1 | 0 |" in table and "| flip | b | 1 |  | 1 |" in table
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter")
    write_into(page, table, "caption")
    write_into(page, table, "caption")
    assert page.read_text() == f"before\n{BEGIN}\n\ncaption\n\n{table}\n\n{END}\nafter"


def test_time_that_is_over_is_said(tmp_path):
    lines: list[str] = []
    turns = [injection("kill", "a", 1, "recovered")]
    assert carry_out(turns, tmp_path, random.Random(0), -1.0, lines.append) == Tally()
    assert lines == ["the time is over: 1 of 1 faults were not injected"]


def test_the_short_form_has_some_of_each_kind():
    every = [injection(fault, scenario, 3) for fault in ("kill", "full") for scenario in ("a", "b", "c")]
    chosen = shortened(every, 2)
    assert [(one.fault, one.scenario) for one in chosen] == [
        ("kill", "a"), ("kill", "b"), ("full", "b"), ("full", "c"),
    ]  # fmt: skip


@pytest.mark.parametrize("options", [["--per-kind", "0"], ["--minutes", "-1"]])
def test_impossible_options_are_refused(options, capsys):
    assert main(options) == 2
    assert capsys.readouterr().err.startswith("chaos: --minutes must be")


@pytest.mark.slow
def test_two_of_each_kind_do_no_harm(tmp_path, capsys):
    assert main(["--short", "--per-kind", "2", "--folder", str(tmp_path / "chaos")]) == 0, capsys.readouterr()


@pytest.mark.soak
def test_two_hundred_faults_do_no_harm(tmp_path, capsys):
    assert main(["--folder", str(tmp_path / "chaos")]) == 0, capsys.readouterr()
