import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import TimeLimit
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from stable_baselines3.common.vec_env import VecMonitor

from cfworld import StepOutput, World
from cfworld.agents import SB3VecEnv
from cfworld.envs import WorldEnv, WorldVectorEnv
from cfworld.errors import ConfigError
from tests.toy import toy_world


@pytest.fixture(scope="module")
def world() -> World:
    return toy_world()


def first_row_dies_in_step(number: int) -> Callable[[StepOutput], list[bool]]:
    calls: list[int] = []

    def ends(step: StepOutput) -> list[bool]:
        calls.append(1)
        return [len(calls) == number, False]

    return ends


def adapted(world: World, **arguments: Any) -> SB3VecEnv:
    """Row 0 dies in step 2; the horizon is 3 steps; each step is worth 1."""
    settings: dict[str, Any] = {
        "horizon": 3,
        "reward_fn": lambda step: [1.0, 1.0],
        "termination_fn": first_row_dies_in_step(2),
    }
    return SB3VecEnv(WorldVectorEnv(2, world, **(settings | arguments)))


def test_ends_come_with_their_last_observation_and_say_whether_they_were_cut_off(world: World) -> None:
    envs: Any = adapted(world)
    alike = WorldVectorEnv(2, world, termination_fn=lambda step: [False, False])
    envs.seed(7)
    assert np.array_equal(envs.reset(), alike.reset(seed=7)[0])
    steps = [envs.step(np.array([0, 1])) for _ in range(3)]
    last = [alike.step([0, 1])[0] for _ in range(3)]
    assert [dones.tolist() for _, _, dones, _ in steps] == [[False, False], [True, False], [False, True]]
    cut_off = [[info["TimeLimit.truncated"] for info in infos] for *_, infos in steps]
    assert cut_off == [[False, False], [False, False], [False, True]]
    with_last = [["terminal_observation" in info for info in infos] for *_, infos in steps]
    assert with_last == [[False, False], [True, False], [False, True]]
    assert np.array_equal(steps[1][3][0]["terminal_observation"], last[1][0])
    assert np.array_equal(steps[2][3][1]["terminal_observation"], last[2][1])
    assert not np.array_equal(steps[1][0][0], last[1][0])
    assert steps[1][3][0]["end_frame"] == 3
    assert envs.reset_infos[0]["end_frame"] == 4


def test_a_monitor_reads_returns_and_lengths(world: World) -> None:
    envs = VecMonitor(adapted(world))
    envs.reset()
    episodes = [info.get("episode") for _ in range(3) for info in envs.step(np.array([0, 1]))[3]]
    assert [(e["r"], e["l"]) for e in episodes if e is not None] == [(2.0, 2), (3.0, 3)]


def test_seeds_and_options_are_for_the_next_reset_alone(world: World) -> None:
    envs = adapted(world)
    envs.seed(3)
    envs.set_options([{"start": 4}, {}])
    envs.reset()
    assert envs.env_method("get_state")[0].seeds == (3,)
    assert envs.reset_infos[0]["start"] == 4
    envs.reset()
    assert [state.episodes.tolist() for state in envs.env_method("get_state")] == [[1], [1]]


def test_methods_of_rows_are_called_for_the_rows_named(world: World) -> None:
    envs = adapted(world)
    envs.seed(3)
    envs.reset()
    (state,) = envs.env_method("get_state", indices=1)
    envs.env_method("set_state", state, indices=[0])
    assert [one.seeds for one in envs.env_method("get_state")] == [(4,), (4,)]
    with pytest.raises(ConfigError, match="rows"):
        envs.env_method("close")


def test_attributes_belong_to_all_rows(world: World) -> None:
    envs = adapted(world)
    assert envs.get_attr("horizon") == [3, 3]
    assert envs.has_attr("world")
    assert not envs.has_attr("god")
    envs.set_attr("spec", None)
    with pytest.raises(ConfigError, match="share"):
        envs.set_attr("spec", None, indices=[0])
    assert envs.env_is_wrapped(TimeLimit) == [False, False]


def test_pictures_of_all_rows_are_tiled(world: World) -> None:
    envs = adapted(world, render_mode="rgb_array")
    envs.reset()
    picture = envs.render()
    assert picture is not None
    assert picture.shape == (128, 64, 3)


def test_other_modes_and_tensors_are_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="SAME_STEP"):
        adapted(world, autoreset_mode="NextStep")
    with pytest.raises(ConfigError, match="tensors=True"):
        adapted(world, tensors=True)


@pytest.mark.usefixtures("as_users_run_it")
def test_a_single_environment_is_refused(world: World) -> None:
    single: Any = WorldEnv(world)
    with pytest.raises(ConfigError, match="got <WorldEnv instance>; expected a vector environment"):
        SB3VecEnv(single)


def test_the_environments_do_not_import_stable_baselines() -> None:
    program = "import sys, cfworld.agents, cfworld.envs; assert 'stable_baselines3' not in sys.modules"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True)


def test_infos_that_wrappers_nest_reach_the_rows_that_have_them(world: World) -> None:
    envs = SB3VecEnv(RecordEpisodeStatistics(WorldVectorEnv(2, world, horizon=2, ends="never")))  # pyright: ignore[reportArgumentType]
    envs.reset()
    (_, _, _, first), (_, _, _, last) = (envs.step(np.array([0, 1])) for _ in range(2))
    assert ["episode" in info for info in first] == [False, False]
    assert [info["episode"]["l"] for info in last] == [2, 2]


def test_twins_whose_infos_hold_mappings_are_taken() -> None:
    same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
    envs = SB3VecEnv(gym.make_vec("cfworld/PanoramaReal-v0", num_envs=2, vector_kwargs=same_step))
    assert envs.reset().shape == (2, 64, 64, 3)
    assert envs.step(np.array([0, 1]))[2].tolist() == [False, False]
    envs.close()


def test_what_cannot_be_set_is_refused(world: World) -> None:
    with pytest.raises(ConfigError, match="got horizon=1, which cannot be changed; expected a new environment"):
        adapted(world).set_attr("horizon", 1)


def test_rows_of_a_twin_share_their_options() -> None:
    same_step = {"autoreset_mode": AutoresetMode.SAME_STEP}
    envs = SB3VecEnv(gym.make_vec("cfworld/PanoramaReal-v0", num_envs=2, vector_kwargs=same_step))
    envs.set_options({"god": True})
    assert envs.reset().shape == (2, 64, 64, 3)
    envs.set_options([{"god": True}, {"god": False}])
    with pytest.raises(ConfigError, match="expected the same for all rows"):
        envs.reset()
    envs.close()
