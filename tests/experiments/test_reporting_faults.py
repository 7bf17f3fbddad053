import json

from experiments.flops import StepFlops
from experiments.hardware import Hardware
from experiments.reporting import Scale, TrainingReporter
from experiments.runs import RunFolder
from lingshu_jax.training.watch import Event
from tests.lingshu_jax.training.setup import full_disk

SCALE = Scale(
    steps=10,
    genes=5,
    flops=StepFlops(naive=1.0, executed=1.0),
    hardware=Hardware(devices=1, kind="cpu", platform="cpu"),
)


def test_a_line_that_cannot_be_written_is_told_and_training_goes_on(tmp_path, capsys):
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n' * 200)
    with TrainingReporter(RunFolder(tmp_path), SCALE, started=0.0) as reporter:
        reporter.begin(1)
        with full_disk():
            reporter.log(2, {"val_nats": 3.0, "val_cells": 4.0})
        reporter.log(3, {"val_nats": 2.0, "val_cells": 4.0})
    assert "metrics.jsonl: File too large; step 2 is not in it" in capsys.readouterr().err
    assert RunFolder(tmp_path).read_metrics()[-1]["step"] == 3


def test_an_event_is_shown_and_recorded_with_its_batch(tmp_path, capsys):
    with TrainingReporter(RunFolder(tmp_path), SCALE, started=0.0) as reporter:
        reporter.begin(0)
        reporter.note(Event("spike", 7, {"global_next_index": 24}, 9.0, 2.0))
    assert (
        'step 7: loss 9 stands out, the median before is 2; batch {"global_next_index": 24}' in capsys.readouterr().err
    )
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 7, "event": "spike", "batch": {"global_next_index": 24}, "median": 2.0}
