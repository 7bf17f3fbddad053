import dataclasses

import pytest

from lingshu_jax.training.checkpoint import Checkpoints, SaveFailed, abstract_like
from lingshu_jax.training.config import TrainingConfig
from lingshu_jax.training.loop import Fit, Outcome, run
from lingshu_jax.training.watch import TooManySkipped
from tests.lingshu_jax.training.setup import Batches, limit_files, poisoned, setup_on

CONFIG = TrainingConfig(steps=6, batch_size=32, log_every=2, evaluate_every=3, save_every=4)


class Lines:
    def __init__(self):
        self.lines, self.steps, self.seconds, self.events, self.warnings = [], [], [], [], []

    def log(self, step, metrics):
        self.lines.append((step, sorted(metrics)))

    def advance(self, step):
        self.steps.append(step)

    def account(self, seconds):
        self.seconds.append(seconds)

    def note(self, event):
        self.events.append(event)

    def warn(self, line):
        self.warnings.append(line)


def fit(folder, setup, reporter, should_stop=lambda step: False, batches=None, config=CONFIG):
    return Fit(
        config=config,
        step=setup.step,
        batches=batches or Batches(),
        to_device=setup.to_device,
        evaluate=lambda state: {"val_nats": 1.0},
        checkpoints=Checkpoints(folder),
        fixed=setup.parts.fixed,
        meta={},
        reporter=reporter,
        should_stop=should_stop,
    )


def test_it_evaluates_saves_and_logs_when_due_and_at_the_end(tmp_path):
    setup, lines = setup_on(), Lines()
    job = fit(tmp_path / "c", setup, lines)
    state, outcome = run(job, setup.init())
    job.checkpoints.close()
    assert outcome is Outcome.FINISHED and int(state.step) == 6
    assert [step for step, metrics in lines.lines if metrics == ["val_nats"]] == [0, 3, 6]
    assert [step for step, metrics in lines.lines if "loss" in metrics] == [2, 4, 6]
    assert lines.steps == [1, 2, 3, 4, 5, 6]
    assert sorted(int(p.name) for p in (tmp_path / "c").iterdir() if p.name.isdigit()) == [3, 4, 6]  # 3: the best bound


def test_a_request_to_stop_saves_and_the_rest_is_what_it_would_have_been(tmp_path):
    setup, lines = setup_on(), Lines()
    job = fit(tmp_path / "c", setup, lines, should_stop=lambda step: step == 3)
    _, outcome = run(job, setup.init())
    job.checkpoints.close()
    assert outcome is Outcome.STOPPED

    again = fit(tmp_path / "c", setup, Lines())
    restored = again.checkpoints.restore(setup.abstract, abstract_like(setup.parts.fixed))
    again.batches.next = restored.loader["next"]
    state, outcome = run(again, restored.state)
    again.checkpoints.close()
    assert outcome is Outcome.FINISHED
    whole, _ = setup.train(setup.init(), 0, 6)
    assert float(abs(state.params["w_head"][...] - whole.params["w_head"][...]).max()) == 0.0


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match=r"multiple of 32.*nearest: 32, 64"):
        TrainingConfig(batch_size=48)
    with pytest.raises(ValueError, match="ema_decay"):
        TrainingConfig(ema_decay=1.0)


def test_a_bad_batch_is_skipped_and_told(tmp_path, monkeypatch):
    setup, lines = poisoned(setup_on(), monkeypatch), Lines()
    job = fit(tmp_path, setup, lines, batches=Batches(bad={2}))
    state, outcome = run(job, setup.init())
    job.checkpoints.close()
    assert outcome is Outcome.FINISHED and (int(state.step), int(state.skipped)) == (6, 1)
    assert [(event.kind, event.step, event.batch) for event in lines.events] == [("skipped", 3, {"next": 2})]


def test_bad_batches_in_a_row_stop_it_and_what_was_saved_is_kept(tmp_path, monkeypatch):
    setup, lines = poisoned(setup_on(), monkeypatch), Lines()
    config = dataclasses.replace(CONFIG, steps=20, max_skipped=3, save_every=4, evaluate_every=20)
    job = fit(tmp_path, setup, lines, batches=Batches(bad=range(5, 99)), config=config)
    with pytest.raises(TooManySkipped, match=r'3 steps in a row, the last one step 8 on batch \{"next": 7\}'):
        run(job, setup.init())
    job.checkpoints.close()
    restored = Checkpoints(tmp_path).restore(setup.abstract, abstract_like(setup.parts.fixed))
    assert (int(restored.state.step), int(restored.state.skipped)) == (4, 0) and restored.loader == {"next": 4}


def test_training_goes_on_when_the_disk_is_full_and_saves_when_it_is_not(tmp_path):
    setup, lines = setup_on(), Lines()

    def disk(step: int) -> bool:
        limit_files(2048 if 3 <= step < 6 else -1)
        return False

    job = fit(tmp_path, setup, lines, should_stop=disk)
    _, outcome = run(job, setup.init())
    job.checkpoints.close()
    assert outcome is Outcome.FINISHED and {path.name for path in tmp_path.iterdir()} == {"6"}
    assert "step 3 could not be saved (File too large). Training goes on" in lines.warnings[0]
    assert any("step 4 could not be saved" in line for line in lines.warnings)


def test_an_end_that_cannot_be_saved_is_an_error(tmp_path):
    setup = setup_on()

    def disk(step: int) -> bool:
        if step == 6:
            job.checkpoints.wait()
            limit_files(2048)
        return False

    job = fit(tmp_path, setup, Lines(), should_stop=disk)
    try:
        with pytest.raises(SaveFailed, match="step 6 could not be saved"):
            run(job, setup.init())
    finally:
        limit_files(-1)
    job.checkpoints.close()
    assert Checkpoints(tmp_path).latest_step() == 4
