from typing import Any

import numpy as np
import pytest
import torch

from cfworld import StepOutput, World
from cfworld.envs import WorldEnv, WorldVectorEnv
from cfworld.errors import ConfigError, ShapeError
from cfworld.world import Ends, Novelty
from tests.envs.episodes import ACTIONS, deadly_world, play, same
from tests.toy import toy_world


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


def test_a_users_reward_must_have_one_value_per_row_or_frame(world: World) -> None:
    env = WorldEnv(world, reward_fn=lambda step: step.reward_frames[:, :3])
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


def test_a_users_end_inside_the_chunk_holds_the_frame_and_cuts_the_rewards(world: World) -> None:
    env = WorldEnv(
        world,
        reward_fn=lambda step: torch.tensor([[1.0, 10.0, 100.0, 1000.0]]),
        termination_fn=lambda step: [[False, True, False, True]],
    )
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(0)
    assert (reward, terminated, truncated, info["end_frame"]) == (11, True, False, 1)
    assert info["reward_frames"].tolist() == [1, 10, 0, 0]
    plain = WorldEnv(world, termination_fn=lambda step: [False])
    plain.reset(seed=0)
    plain.step(0)
    assert np.array_equal(env.frames(), plain.frames()[[0, 1, 1, 1]])


def test_the_heads_reward_is_cut_at_a_users_end(world: World) -> None:
    env, whole = (WorldEnv(world, termination_fn=lambda step, ends=ends: [ends]) for ends in ([0, 0, 1, 0], [0] * 4))
    for each in (env, whole):
        each.reset(seed=0)
    _, reward, _, _, info = env.step(0)
    expected = whole.step(0)[4]["reward_frames"]
    assert np.array_equal(info["reward_frames"], expected * [1, 1, 1, 0])
    assert reward == pytest.approx(expected[:3].sum(), abs=1e-6)


@pytest.mark.parametrize(("ends", "expected"), [("sampled", 0), ("greedy", 0), ("never", 4), (None, 0)])
def test_how_ends_follow_from_the_hazard_is_a_choice(ends: str | None, expected: int) -> None:
    env = WorldEnv(deadly_world(), ends=ends)
    env.reset(seed=0)
    assert env.step(0)[4]["end_frame"] == expected


def test_greedy_ends_ask_for_more_than_one_half() -> None:
    for bias, terminated in ((-0.2, False), (0.2, True)):
        world = toy_world()
        with torch.no_grad():
            world.generator.heads.hazard.out.weight.zero_()
            world.generator.heads.hazard.out.bias.fill_(bias)
        env = WorldEnv(world, ends="greedy")
        env.reset(seed=0)
        assert env.step(0)[2] is terminated
        assert world.config.ends is Ends.SAMPLED, "the world that was given stays as it is"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ends": "soon"}, "ends='soon'; expected one of None, 'sampled', 'greedy', 'never'"),
        ({"ends": "greedy", "termination_fn": lambda step: [0]}, "ends='greedy' beside a termination_fn"),
        ({"truncate_above": 2.0}, "no novelty score; measure it with `cfworld calibrate`"),
        ({"truncate_above": "high"}, "truncate_above='high'"),
        ({"truncate_above": float("nan")}, "truncate_above=nan"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_wrong_ends_and_thresholds_are_refused(world: World, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WorldEnv(world, **arguments)


def odd_world(typical: float) -> World:
    """A toy whose novelty is the change of its keys less `typical`."""
    world = toy_world()
    eye = torch.eye(48)
    world.novelty = Novelty(
        layers=(0, 1), offset=torch.zeros(48), before=eye, after=eye, typical=typical, limit=typical + 1
    )
    return world


def test_an_episode_is_truncated_where_the_world_no_longer_knows() -> None:
    calm = WorldEnv(odd_world(0.0))
    calm.reset(seed=0)
    steps = [calm.step(action) for action in ACTIONS]
    scores = [step[4]["novelty"] for step in steps]
    assert not any(step[4]["truncated_by_novelty"] for step in steps)
    assert min(scores) > 0
    highest = int(np.argmax(scores))
    threshold = float(np.sort(scores)[-2])
    env = WorldEnv(odd_world(0.0), truncate_above=threshold)
    env.reset(seed=0)
    seen = play(env, ACTIONS)
    assert len(seen) == highest + 1
    assert [step[2:4] for step in seen] == [(False, False)] * highest + [(False, True)]
    env.reset(seed=0)
    for action in ACTIONS[: highest + 1]:
        *_, info = env.step(action)
    assert info["novelty"] == scores[highest]
    assert info["truncated_by_novelty"] is True


def test_a_real_end_is_not_called_novelty() -> None:
    world = deadly_world()
    world.novelty = odd_world(0.0).novelty
    env = WorldEnv(world, truncate_above=-1.0)
    env.reset(seed=0)
    _, _, terminated, truncated, info = env.step(0)
    assert (terminated, truncated, info["truncated_by_novelty"]) == (True, False, False)


def test_a_world_without_a_score_says_nothing_of_it_in_the_info(world: World) -> None:
    env = WorldEnv(world)
    env.reset(seed=0)
    assert set(env.step(0)[4]) == {"start", "end_frame", "hazard", "reward_frames"}


@pytest.mark.parametrize("tensors", [False, True])
def test_rows_are_truncated_by_novelty_one_by_one(tensors: bool) -> None:
    plain = WorldVectorEnv(3, odd_world(0.0))
    plain.reset(seed=0)
    scores = plain.step([0, 1, 2])[4]["novelty"]
    assert scores.dtype == np.float32
    threshold = float(np.sort(scores)[1])
    envs = WorldVectorEnv(3, odd_world(0.0), truncate_above=threshold, tensors=tensors)
    envs.reset(seed=0)
    _, _, terminated, truncated, infos = envs.step([0, 1, 2])
    assert np.array_equal(truncated, scores > threshold)
    assert not terminated.any()
    assert infos["_final_info"].tolist() == (scores > threshold).tolist()
    assert np.array_equal(infos["final_info"]["truncated_by_novelty"], scores > threshold)
    odd = int(scores.argmax())
    assert infos["final_info"]["novelty"][odd] == scores[odd]
    assert (np.array(infos["_novelty"]) == (scores <= threshold)).all()


def test_rows_have_users_ends_and_rewards_of_their_own(world: World) -> None:
    envs = WorldVectorEnv(
        2,
        world,
        reward_fn=lambda step: np.array([[1.0, 2.0, 4.0, 8.0]] * 2),
        termination_fn=lambda step: torch.tensor([[False, False, True, True], [False] * 4]),
        autoreset_mode="Disabled",
    )
    envs.reset(seed=0)
    _, rewards, terminated, _, infos = envs.step([0, 1])
    assert rewards.tolist() == [7, 15]
    assert terminated.tolist() == [True, False]
    assert infos["end_frame"].tolist() == [2, 4]
