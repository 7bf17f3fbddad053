import jax.numpy as jnp
import pytest

from lingshu_jax.training import metrics
from lingshu_jax.training.metrics import DATA, EVALUATION, SAVING, START, USEFUL, Meter


class Clock:
    """Time that passes only when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(metrics, "time", clock)
    return clock


def test_every_second_is_useful_or_lost_to_one_cause(clock):
    meter = Meter(batch_size=32)
    with meter.lost(EVALUATION):
        clock.now += 5
    with meter.lost(DATA):
        clock.now += 1
    with meter.stepping():
        clock.now += 20  # compiling
    for _ in range(2):
        with meter.lost(DATA):
            clock.now += 1
        with meter.stepping():
            clock.now += 4
        meter.add({"loss": jnp.ones(())})
    with meter.lost(SAVING):
        clock.now += 3
    assert meter.spent() == {USEFUL: 8, EVALUATION: 5, START: 20, DATA: 3, SAVING: 3}
    clock.now += 2
    assert meter.spent() == {USEFUL: 2}


def test_rates_leave_out_what_is_no_step_but_not_the_wait_for_data(clock):
    meter = Meter(batch_size=32)
    with meter.stepping():
        clock.now += 50
    for loss in (1.0, 3.0):
        with meter.lost(DATA):
            clock.now += 1
        with meter.stepping():
            clock.now += 3
        meter.add({"loss": jnp.asarray(loss)})
    with meter.lost(EVALUATION):
        clock.now += 100
    assert meter.read() == {"loss": 2.0, "step_seconds": 4.0, "cells_per_second": 8.0, "data_wait": 0.25}


def test_between_two_readings_only_old_steps_are_waited_for(monkeypatch):
    """The host never waits for the newest step: one sync per interval."""
    waited = []
    monkeypatch.setattr(metrics.jax, "block_until_ready", lambda step: waited.append(step["number"]))
    meter = Meter(batch_size=1)
    for number in range(10):
        with meter.lost(DATA):
            pass
        with meter.stepping():
            pass
        meter.add({"number": number})
        assert all(seen <= number - metrics.STEPS_IN_FLIGHT + 1 for seen in waited)
