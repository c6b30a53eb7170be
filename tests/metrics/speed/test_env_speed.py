"""The ways to step a world, which `cfworld bench` compares, do the same work."""

from typing import Any

import numpy as np
import pytest
import torch

from cfworld.metrics.speed.env_speed import contenders, measure_environments
from cfworld.metrics.speed.world_speed import random_actions
from tests.toy import KINDS, toy_world


@pytest.mark.parametrize("batch", [1, 3])
def test_all_ways_show_the_same_frames_at_every_step(batch: int) -> None:
    ways = contenders(toy_world(), batch)
    assert list(ways) == ["World.step", "WorldVectorEnv", *(["WorldEnv"] if batch == 1 else [])]
    for number in range(3):
        actions = np.full(batch, number)
        bare: Any = ways["World.step"](actions)
        seen = bare[:, -1].numpy()
        np.testing.assert_array_equal(ways["WorldVectorEnv"](actions)[0], seen)
        if batch == 1:
            np.testing.assert_array_equal(ways["WorldEnv"](actions)[0], seen[0])


def test_figures_agree_with_one_another() -> None:
    ticks: list[int] = []
    bare, *others = measure_environments(toy_world(), batch=1, steps=5, warmup=1, tick=lambda: ticks.append(1))
    assert len(ticks) == 6
    assert (bare.way, bare.ratio, bare.ratio_low, bare.ratio_high) == ("World.step", 1, 1, 1)
    for speed in (bare, *others):
        assert speed.ratio_low <= speed.ratio <= speed.ratio_high
        assert speed.steps_per_s == pytest.approx(1000 / speed.step_ms_p50)
        assert speed.frames_per_s == pytest.approx(4 * speed.steps_per_s)


@pytest.mark.parametrize("kind", KINDS)
def test_worlds_of_every_kind_of_action_can_be_measured(kind: str) -> None:
    world = toy_world(actions=KINDS[kind])
    rows = torch.arange(2)
    actions = random_actions(world, rows, torch.zeros_like(rows))
    for way in contenders(world, 2).values():
        way(actions)
    contenders(world, 1)["WorldEnv"](actions[:1])
