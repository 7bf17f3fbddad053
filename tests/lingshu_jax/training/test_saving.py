import pytest

from lingshu_jax.training.config import TrainingConfig
from lingshu_jax.training.saving import SaveSchedule


def due_steps(config, bounds=None, best=None, seconds_per_step=1.0, agree=lambda mine: mine, steps=40):
    """Steps at which a run would save, that takes so many seconds a step."""
    now = 0.0
    schedule = SaveSchedule(config, best, agree, clock=lambda: now)
    found = []
    for step in range(steps):
        now = step * seconds_per_step
        if schedule.due(step, {"val_nats": bounds[step]} if bounds and step in bounds else {}):
            found.append(step)
            schedule.saved()
    return found


def test_every_n_steps():
    assert due_steps(TrainingConfig(save_every=15)) == [15, 30]


def test_every_n_minutes_looked_at_when_lines_are_logged():
    config = TrainingConfig(save_every=1000, save_minutes=0.2, log_every=5)
    assert due_steps(config) == [15, 30]
    assert due_steps(config, seconds_per_step=0.1) == []


def test_minutes_count_from_any_save():
    assert due_steps(TrainingConfig(save_every=13, save_minutes=0.25, log_every=5)) == [13, 26, 39]


def test_the_first_process_decides_about_minutes():
    config = TrainingConfig(save_every=1000, save_minutes=0.2, log_every=5)
    assert due_steps(config, agree=lambda mine: False) == []


@pytest.mark.parametrize(("best", "expected"), [(None, [10, 30]), (2.5, [30]), (1.0, [])])
def test_at_every_best_bound(best, expected):
    bounds = {0: 9.0, 10: 3.0, 20: 4.0, 30: 2.0}
    assert due_steps(TrainingConfig(save_every=1000), bounds, best) == expected
