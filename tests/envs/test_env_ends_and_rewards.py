from typing import Any

import numpy as np
import pytest
import torch

from cfworld import StepOutput, World
from cfworld.envs.world_env import WorldEnv
from cfworld.errors import (
    ShapeError,
)
from tests.envs.episodes import ACTIONS, deadly_world, play, same


def test_an_episode_lasts_as_long_as_the_worlds_horizon(world: World) -> None:
    assert WorldEnv(world).horizon == world.config.horizon_frames / world.config.frames_per_step == 525


def test_a_real_end_terminates_and_does_not_truncate() -> None:
    env = WorldEnv(deadly_world(), horizon=1)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(0)
    assert (terminated, truncated, info["end_frame"]) == (True, False, 0)
    assert reward == pytest.approx(info["reward_frames"].sum())
    assert np.array_equal(info["reward_frames"][1:], [0, 0, 0])
    assert all(np.array_equal(frame, env.frames()[0]) for frame in env.frames())


def test_reward_and_end_may_come_from_the_user(world: World) -> None:
    def reward(step: StepOutput) -> torch.Tensor:
        assert step.frames is not None
        return step.frames.float().mean(dim=(1, 2, 3, 4))

    env = WorldEnv(world, reward_fn=reward, termination_fn=lambda step: np.array([True]))
    env.reset(seed=0)
    _, value, terminated, truncated, info = env.step(0)
    assert value == pytest.approx(env.frames().mean(), rel=1e-5)
    assert (terminated, truncated, info["end_frame"]) == (True, False, 3)


def test_a_users_end_replaces_the_worlds_own() -> None:
    env = WorldEnv(deadly_world(), termination_fn=lambda step: torch.tensor([False]))
    env.reset(seed=0)
    steps = [env.step(0) for _ in range(3)]
    assert [(step[2], step[4]["end_frame"]) for step in steps] == [(False, 4)] * 3
    assert np.count_nonzero(steps[0][4]["reward_frames"]) == 4


def test_a_users_reward_must_have_one_value_per_row(world: World) -> None:
    env = WorldEnv(world, reward_fn=lambda step: step.reward_frames)
    env.reset(seed=0)
    with pytest.raises(ShapeError, match="reward_fn"):
        env.step(0)


@pytest.mark.parametrize("which", ["reward_fn", "termination_fn"])
def test_a_users_function_that_raises_leaves_the_step_undone(world: World, which: str) -> None:
    errors = [KeyError("once")]

    def function(step: StepOutput) -> list[int]:
        if errors:
            raise errors.pop()
        return [0]

    raising: dict[str, Any] = {which: function}
    calm: dict[str, Any] = {which: lambda step: [0]}
    env, other = WorldEnv(world, **raising), WorldEnv(world, **calm)
    env.reset(seed=0)
    other.reset(seed=0)
    with pytest.raises(KeyError, match="once"):
        env.step(1)
    assert same(play(env, ACTIONS), play(other, ACTIONS))


@pytest.mark.parametrize("which", ["reward_fn", "termination_fn"])
def test_a_users_function_sees_the_frames_whatever_the_observation_is(world: World, which: str) -> None:
    seen: list[torch.Tensor | None] = []
    watching: dict[str, Any] = {which: lambda step: seen.append(step.frames) or [0]}
    env = WorldEnv(world, obs="latent", **watching)
    env.reset(seed=0)
    env.step(1)
    assert seen[0] is not None
    assert np.array_equal(seen[0][0].numpy(), env.frames())
