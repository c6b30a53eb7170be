"""Every registered environment keeps the contract of Gymnasium: one row, or many side by side.

The ids are read from Gymnasium's registry, so that one that is added is tested too. A world that does not ship its
weights, or names none, is made with the toy world.
"""

from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import cfworld.envs
from cfworld import World
from cfworld.world import zoo_names
from tests.toy import toy_world

assert cfworld.envs.__name__ == "cfworld.envs"  # the import registers the ids
pytestmark = pytest.mark.usefixtures("as_users_run_it")
IDS = sorted(name for name in gym.registry if name.startswith("cfworld/"))
WORLDS = [name for name in IDS if gym.spec(name).vector_entry_point is not None]
SHIPPED = [name for name in WORLDS if gym.spec(name).kwargs.get("world") in zoo_names()]
TWINS = [name for name in IDS if name not in WORLDS]
OTHER_OBSERVATIONS = [(name, "frames") for name in TWINS] + [("cfworld/World-v0", obs) for obs in ("frames", "latent")]

Episode = list[tuple[Any, ...]]


@cache
def world_of(name: str) -> World:
    """The world that `gym.make` finds under the id, or the toy."""
    if name not in SHIPPED:
        return toy_world()
    return gym.make(name).get_wrapper_attr("world")


def arguments(name: str, **more: Any) -> dict[str, Any]:
    """Further arguments of an id; a world is read only once."""
    return more if name in TWINS else {"world": world_of(name), **more}


def make_vec(name: str, mode: AutoresetMode = AutoresetMode.SAME_STEP, **more: Any) -> VectorEnv:
    """Two rows, by the id's own entry point if it has one."""
    given: dict[str, Any] = {"autoreset_mode": mode}
    return gym.make_vec(
        name, num_envs=2, **({"vector_kwargs": given} if name in TWINS else given), **arguments(name, **more)
    )


def num_steps(name: str) -> int:
    """Steps until episodes of different seeds have become different: a simulator may begin them alike."""
    return 2 if name in WORLDS else 15


def seeded_actions(env: gym.Env[Any, Any], count: int) -> list[Any]:
    env.action_space.seed(0)
    return [env.action_space.sample() for _ in range(count)]


def episode(env: gym.Env[Any, Any], seed: int, actions: list[Any]) -> Episode:
    """Observation, reward and ends of the reset and of every step; all of them in their spaces."""
    observation, info = env.reset(seed=seed)
    assert isinstance(info, dict)
    seen: Episode = [(observation, 0.0, False, False)]
    for action in actions:
        assert env.action_space.contains(action)
        *step, info = env.step(action)
        seen.append(tuple(step))
    for observation, reward, terminated, truncated in seen:
        assert env.observation_space.contains(observation)
        assert [type(value) for value in (reward, terminated, truncated)] == [float, bool, bool]
    return seen


def equal(one: Episode, other: Episode) -> bool:
    return all(
        np.array_equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


@pytest.mark.parametrize("name", IDS)
def test_the_checkers_of_gymnasium_and_sb3_find_nothing(name: str) -> None:
    env = gym.make(name, render_mode="rgb_array", **arguments(name))
    check_env(env.unwrapped, skip_render_check=name in SHIPPED)
    check_env_sb3(env.unwrapped)
    env.close()


@pytest.mark.parametrize(("name", "obs"), OTHER_OBSERVATIONS)
def test_sb3_takes_every_observation(name: str, obs: str) -> None:
    env = gym.make(name, **arguments(name, obs=obs))
    check_env_sb3(env.unwrapped)
    env.close()


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", IDS)
def test_a_seed_names_an_episode_alone_and_in_every_row(name: str) -> None:
    env = gym.make(name, **arguments(name))
    actions = seeded_actions(env, num_steps(name))
    episodes = [episode(env, seed, actions) for seed in (3, 4, 3)]
    env.close()
    assert equal(episodes[0], episodes[2])
    assert not equal(episodes[0], episodes[1])

    envs = make_vec(name)
    assert (envs.single_observation_space, envs.single_action_space) == (env.observation_space, env.action_space)
    observation, _ = envs.reset(seed=3)
    steps = [(observation, np.zeros(2), np.zeros(2, np.bool_), np.zeros(2, np.bool_))]
    steps += [envs.step(np.array([action] * 2))[:4] for action in actions]
    envs.close()
    for observation, reward, *ends in steps:
        assert envs.observation_space.contains(observation)
        assert [(values.dtype, values.shape) for values in (reward, *ends)] == [
            (np.float64, (2,)),
            (np.bool_, (2,)),
            (np.bool_, (2,)),
        ]
    for row in range(2):
        assert equal([tuple(values[row] for values in step) for step in steps], episodes[row])


AUTORESETS = {
    AutoresetMode.SAME_STEP: [[False, False], [True, False], [False, True], [True, False]],
    AutoresetMode.NEXT_STEP: [[False, False], [True, False], [False, True], [False, False]],
    AutoresetMode.DISABLED: [[False, False], [True, False], [False, True]],
}
"""Which rows are truncated in each step, if a step is done in both, row 1 is reset, and episodes last for two steps."""


@pytest.mark.parametrize("name", IDS)
def test_rows_are_reset_as_each_mode_says(name: str) -> None:
    never = {"ends": "never"} if name in WORLDS else {}
    seen, rewards, finals = {}, {}, {}
    for mode, truncations in AUTORESETS.items():
        envs = make_vec(name, mode, horizon=2, **never)
        assert envs.metadata["autoreset_mode"] is mode
        envs.reset(seed=1)
        envs.action_space.seed(0)
        actions = envs.action_space.sample()
        for number, expected in enumerate(truncations):
            observation, reward, terminated, truncated, infos = envs.step(actions)
            assert (truncated.tolist(), terminated.tolist()) == (expected, [False, False])
            assert ("final_obs" in infos) == (mode is AutoresetMode.SAME_STEP and any(expected))
            if "final_obs" in infos:
                assert [last is not None for last in infos["final_obs"]] == expected
                assert all(
                    envs.single_observation_space.contains(infos["final_obs"][row]) for row in np.flatnonzero(expected)
                )
                assert infos["_final_info"].tolist() == expected
            seen[mode, number], rewards[mode, number] = observation, reward
            finals[mode, number] = infos.get("final_obs")
            if number == 0:
                envs.reset(options={"reset_mask": np.array([False, True])})
            elif mode is AutoresetMode.DISABLED and any(expected):
                begun, _ = envs.reset(options={"reset_mask": np.array(expected)})
                seen["begun", number] = begun
        envs.close()
    same, late, never_mode = AUTORESETS
    # row 0 ends in step 1: what it saw last, and what the next episode shows first
    assert np.array_equal(finals[same, 1][0], seen[late, 1][0])
    assert np.array_equal(finals[same, 1][0], seen[never_mode, 1][0])
    assert np.array_equal(seen[same, 1][0], seen[late, 2][0])
    assert np.array_equal(seen[same, 1][0], seen["begun", 1][0])
    assert rewards[late, 2][0] == rewards[late, 3][1] == 0
    # row 1 is not touched by that
    for mode in (late, never_mode):
        assert np.array_equal(seen[same, 1][1], seen[mode, 1][1])
    # and row 0's second episode goes the same way
    assert np.array_equal(seen[same, 2][0], seen[late, 3][0])
    assert np.array_equal(seen[same, 2][0], seen[never_mode, 2][0])
