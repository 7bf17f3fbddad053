import math

import numpy as np
import pytest

from lingshu_jax.diffusion import CosineSchedule, GeometricSchedule, SamplerConfig
from lingshu_jax.diffusion.schedule import masked_after

SCHEDULES = [CosineSchedule(steps=1), CosineSchedule(steps=3), CosineSchedule(steps=256), GeometricSchedule(steps=1),
             GeometricSchedule(steps=2), GeometricSchedule(steps=8)]  # fmt: skip


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_everything_is_masked_before_and_nothing_after(schedule):
    open_genes = np.array([0, 1, 37, 18_080])
    counts = np.stack([masked_after(schedule, k, open_genes) for k in range(schedule.steps + 1)])
    np.testing.assert_array_equal(counts[0], open_genes)
    np.testing.assert_array_equal(counts[-1], 0)
    assert (np.diff(counts, axis=0) <= 0).all()


def test_cosine_is_the_papers():
    for k in range(1, 3):
        assert masked_after(CosineSchedule(steps=3), k, np.array([18_080])) == math.floor(
            18_080 * math.cos(math.pi / 2 * k / 3)
        )


def test_geometric_reveals_a_constant_multiple_each_step():
    schedule = GeometricSchedule(steps=8, first_share=1e-3)
    revealed = np.array([1 - schedule.masked_share(k) for k in range(1, 9)])
    assert revealed[0] == pytest.approx(1e-3) and revealed[-1] == 1.0
    np.testing.assert_allclose(revealed[1:] / revealed[:-1], 1000 ** (1 / 7), rtol=1e-9)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="at least 1 step"):
        CosineSchedule(steps=0)
    with pytest.raises(ValueError, match="first_share"):
        GeometricSchedule(first_share=0.0)
    with pytest.raises(ValueError, match="temperature"):
        SamplerConfig(temperature=0.0)
