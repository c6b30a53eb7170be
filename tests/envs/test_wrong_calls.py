"""Ten thousand wrong calls are refused by name and change nothing."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import pytest

from tests.envs.wrong_calls import ENVIRONMENTS

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_ten_thousand_wrong_calls_are_refused_and_leave_the_environment_as_it_was(name: str) -> None:
    path = os.pathsep.join([*filter(None, sys.path), str(ROOT)])
    run = subprocess.run(
        [sys.executable, "-m", "tests.envs.wrong_calls", name, str(10_000 // len(ENVIRONMENTS))],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "ActionError" in run.stdout
    assert "ConfigError" in run.stdout


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_calls_out_of_order_are_refused_until_there_is_an_episode(name: str) -> None:
    env = ENVIRONMENTS[name][0]()
    with pytest.raises(gym.error.ResetNeeded):
        env.step(0)
    env.reset(seed=0)
    env.step(0)
    env.close()
    for call in (lambda: env.step(0), env.reset, env.render, env.frames):
        with pytest.raises(gym.error.ClosedEnvironmentError):
            call()
    env.close()
