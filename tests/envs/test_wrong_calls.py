"""Well over ten thousand wrong calls are refused by name and change nothing."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from cfworld.errors import CfworldError
from tests.envs.wrong_calls import ENVIRONMENTS, make_wrong_calls


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_thousands_of_wrong_calls_are_refused_and_leave_the_environment_as_it_was(name: str) -> None:
    errors = make_wrong_calls(name, 2_500)
    assert errors["ActionError"] > 100
    assert errors["ConfigError"] > 100


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_calls_out_of_order_are_refused_until_there_is_an_episode(name: str) -> None:
    make, _, action = ENVIRONMENTS[name]
    env = make()
    with pytest.raises(gym.error.ResetNeeded):
        env.step(action)
    env.reset(seed=0)
    env.step(action)
    env.close()
    for call in (lambda: env.step(action), env.reset, env.render, env.frames):
        with pytest.raises(gym.error.ClosedEnvironmentError):
            call()
    env.close()


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", ["world", "vector"])
def test_calls_in_any_order_are_refused_before_the_first_episode_and_after_the_last(name: str) -> None:
    make, calls, action = ENVIRONMENTS[name]
    rng = np.random.default_rng(0)
    env = make()
    row = [0] if name == "vector" else []
    episode: Any = [lambda: env.step(action), env.get_state, lambda: env.fork(2, *row), env.frames]
    for _ in range(200):
        with pytest.raises((gym.error.ResetNeeded, CfworldError)):
            episode[rng.integers(len(episode))]()
    env.reset(seed=0)
    state = env.get_state()
    env.step(action)
    env.close()
    for _ in range(200):
        with pytest.raises((gym.error.ClosedEnvironmentError, CfworldError)):
            [*episode, env.reset, env.render, lambda: env.set_state(state)][rng.integers(len(episode) + 3)]()
        with pytest.raises((gym.error.Error, CfworldError)):
            calls[rng.integers(len(calls))](env, rng)
