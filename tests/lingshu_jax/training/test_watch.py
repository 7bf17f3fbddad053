import jax.numpy as jnp
import numpy as np
import pytest

from lingshu_jax.training.config import TrainingConfig
from lingshu_jax.training.watch import FEWEST, LATE, Event, TooManySkipped, Watch


def watch(losses, in_a_row=None, **settings):
    """Events of a watch that saw these losses, each on the batch of its number."""
    events: list[Event] = []
    watching = Watch(TrainingConfig(**settings), events.append)
    for number, loss in enumerate(losses):
        row = 0 if in_a_row is None else in_a_row[number]
        watching.add(number + 1, {"next": number}, jnp.float32(loss), jnp.int32(row))
    watching.drain()
    return events


def noisy(n: int) -> list[float]:
    return list(2.0 + 0.05 * np.random.default_rng(0).normal(size=n))


def test_a_loss_that_stands_out_is_told_with_its_batch():
    (event,) = watch([*noisy(60), 9.0, *noisy(5)])
    assert (event.kind, event.step, event.batch, event.loss) == ("spike", 61, {"next": 60}, 9.0)
    assert "step 61: loss 9 stands out, the median before is 2.0" in str(event) and '{"next": 60}' in str(event)


def test_noise_low_losses_and_the_first_steps_are_no_spikes():
    assert watch([*noisy(300), 0.1]) == []
    assert watch([*noisy(FEWEST - 1), 9.0]) == []
    assert watch([*noisy(60), 9.0], spike_deviations=0.0) == []


def test_a_trend_is_no_spike():
    assert watch(np.linspace(5.0, 2.0, 200)) == []


def test_skipped_steps_are_told_and_do_not_move_the_median():
    losses = [*noisy(60), float("nan"), float("inf"), 9.0]
    events = watch(losses, [*[0] * 60, 1, 2, 0])
    assert [(event.kind, event.step) for event in events] == [("skipped", 61), ("skipped", 62), ("spike", 63)]
    assert "not finite" in str(events[0])


def test_too_many_skipped_in_a_row_stop_it_naming_step_and_batch():
    with pytest.raises(TooManySkipped, match=r'3 steps in a row, the last one step 13 on batch \{"next": 12\}'):
        watch([2.0] * 10 + [float("nan")] * 8, [*[0] * 10, *range(1, 9)], max_skipped=3)


def test_it_looks_no_later_than_it_says():
    events: list[Event] = []
    watching = Watch(TrainingConfig(), events.append)
    watching.add(1, {}, jnp.float32("nan"), jnp.int32(1))
    for step in range(2, 2 + LATE):
        watching.add(step, {}, jnp.float32(1.0), jnp.int32(0))
    assert [event.step for event in events] == [1]
