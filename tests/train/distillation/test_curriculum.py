"""Horizons and exit steps follow their laws."""

import pytest
import torch

from cfworld.errors import ConfigError
from cfworld.train.distillation.curriculum import CurriculumConfig, draw_exit, draw_horizons, largest_horizon

CONFIG = CurriculumConfig(shortest=3, first=5, last=25, ramp_steps=10)


def test_the_largest_horizon_grows_on_a_straight_line_and_then_stays():
    assert [largest_horizon(CONFIG, step) for step in (0, 1, 5, 10, 11, 1000)] == [5, 7, 15, 25, 25, 25]
    slow = CurriculumConfig(last=5, ramp_steps=8)
    assert [largest_horizon(slow, step) for step in (1, 2, 3)] == [1, 1, 2], "0.625, 1.25 and 1.875 are rounded"


@pytest.mark.parametrize("step", [0, 4, 50])
def test_horizons_are_uniform_from_the_shortest_to_the_largest(step: int):
    draws = draw_horizons(CONFIG, step, (20_000,), torch.Generator().manual_seed(step))
    counts = torch.bincount(draws)
    support = counts.nonzero()[:, 0].tolist()
    assert support == list(range(3, largest_horizon(CONFIG, step) + 1))
    shares = counts[3:] / 20_000
    assert shares.tolist() == pytest.approx([1 / len(support)] * len(support), abs=0.015)


def test_exit_steps_are_uniform_over_the_passes():
    draw = torch.Generator().manual_seed(0)
    counts = torch.bincount(torch.tensor([draw_exit(4, draw) for _ in range(4000)]), minlength=4)
    assert (counts / 4000).tolist() == pytest.approx([0.25] * 4, abs=0.03)


@pytest.mark.parametrize("change", [{"shortest": 6}, {"last": 4}, {"ramp_steps": 0}, {"shortest": -1}])
def test_a_curriculum_that_shrinks_is_refused(change: dict[str, int]):
    with pytest.raises(ConfigError, match="curriculum"):
        CurriculumConfig(**({"shortest": 3, "first": 5, "last": 25, "ramp_steps": 10} | change))
