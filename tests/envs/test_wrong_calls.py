"""Ten thousand wrong calls are refused by name and change nothing."""

import gymnasium as gym
import pytest

from tests.envs.wrong_calls import ENVIRONMENTS, make_wrong_calls


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_ten_thousand_wrong_calls_are_refused_and_leave_the_environment_as_it_was(name: str) -> None:
    errors = make_wrong_calls(name, 10_000 // len(ENVIRONMENTS))
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
