"""Autoreset: sequences written out by hand, and Gymnasium's own vector environment beside ours."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from cfworld import World
from cfworld.envs import WorldEnv, WorldVectorEnv
from cfworld.errors import ConfigError, ResetNeededError
from tests.envs.episodes import first_row_ends_in_step, one_a_step
from tests.toy import toy_world

HORIZON = 3


def two_rows(world: World, mode: str | AutoresetMode, **arguments: Any) -> WorldVectorEnv:
    """Row 0 dies in step 2; the horizon is 3 steps; each step is worth 1."""
    return WorldVectorEnv(
        2,
        world,
        horizon=HORIZON,
        reward_fn=one_a_step,
        termination_fn=first_row_ends_in_step(2),
        autoreset_mode=mode,
        **arguments,
    )


def played(envs: WorldVectorEnv, num_steps: int) -> tuple[list[Any], list[dict[str, Any]]]:
    """Of every step: rewards, terminated, truncated, and number of the episode of each row; and the infos."""
    table, infos = [], []
    for _ in range(num_steps):
        _, reward, terminated, truncated, info = envs.step([0, 1])
        episodes = envs.get_state().episodes
        table.append([values.tolist() for values in (reward, terminated, truncated, episodes)])
        infos.append(info)
    return table, infos


def test_in_same_step_mode_an_ended_row_begins_anew_at_once(world: World) -> None:
    envs = two_rows(world, "SameStep")
    assert envs.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    envs.reset(seed=0)
    table, infos = played(envs, 5)
    assert table == [
        [[1, 1], [False, False], [False, False], [0, 0]],
        [[1, 1], [True, False], [False, False], [1, 0]],
        [[1, 1], [False, False], [False, True], [1, 1]],
        [[1, 1], [False, False], [False, False], [1, 1]],
        [[1, 1], [False, False], [True, False], [2, 1]],
    ]
    masks = [info["_final_obs"].tolist() if "final_obs" in info else None for info in infos]
    assert masks == [None, [True, False], [False, True], None, [True, False]]
    assert infos[1]["final_obs"][1] is None
    assert infos[1]["final_info"]["end_frame"].tolist() == [3, 0]
    assert infos[1]["end_frame"].tolist() == [4, 4]


def test_in_next_step_mode_the_step_after_an_end_is_a_reset(world: World) -> None:
    envs = two_rows(world, "NextStep")
    assert envs.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    envs.reset(seed=0)
    table, infos = played(envs, 6)
    assert table == [
        [[1, 1], [False, False], [False, False], [0, 0]],
        [[1, 1], [True, False], [False, False], [0, 0]],
        [[0, 1], [False, False], [False, True], [1, 0]],
        [[1, 0], [False, False], [False, False], [1, 1]],
        [[1, 1], [False, False], [False, False], [1, 1]],
        [[1, 1], [False, False], [True, False], [1, 1]],
    ]
    assert [info["_hazard"].tolist() for info in infos[2:4]] == [[False, True], [True, False]]
    assert not any("final_obs" in info for info in infos)


def test_in_disabled_mode_an_ended_row_must_be_reset_with_a_mask(world: World) -> None:
    envs = two_rows(world, AutoresetMode.DISABLED)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    envs.reset(seed=0)
    table, _ = played(envs, 2)
    assert table[1] == [[1, 1], [True, False], [False, False], [0, 0]]
    with pytest.raises(ResetNeededError, match=r"rows \[0\].*reset_mask"):
        envs.step([0, 1])
    envs.reset(options={"reset_mask": np.array([True, False])})
    table, _ = played(envs, 1)
    assert table == [[[1, 1], [False, False], [False, True], [1, 0]]]


def test_the_mode_is_the_environments_own_and_same_step_by_default(world: World) -> None:
    envs = two_rows(world, "Disabled")
    assert WorldVectorEnv(1, world).metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert envs.autoreset_mode is AutoresetMode.DISABLED
    with pytest.raises(ConfigError, match="autoreset_mode='later'; expected one of"):
        WorldVectorEnv(1, world, autoreset_mode="later")


@pytest.mark.usefixtures("as_users_run_it", "one_thread")
@pytest.mark.parametrize(
    ("mode", "more"),
    [
        (AutoresetMode.SAME_STEP, {}),
        (AutoresetMode.SAME_STEP, {"obs": "latent", "info_frames": True}),
        (AutoresetMode.NEXT_STEP, {"info_frames": True}),
        (AutoresetMode.DISABLED, {"obs": "frames"}),
    ],
)
def test_everything_is_as_gymnasiums_own_vector_environment_makes_it(mode: AutoresetMode, more: dict[str, Any]) -> None:
    world = toy_world()
    with torch.no_grad():
        world.generator.heads.hazard.out.bias.fill_(-2.5)
    arguments: dict[str, Any] = {"world": world, "horizon": 3, **more}
    theirs = SyncVectorEnv([lambda: WorldEnv(**arguments)] * 3, autoreset_mode=mode)
    ours = WorldVectorEnv(3, **arguments, autoreset_mode=mode)
    assert_same(theirs.reset(seed=7), ours.reset(seed=7))
    ended = 0
    for step in range(7):
        actions = np.array([step % 3, 1, 2])
        expected = theirs.step(actions)
        assert_same(expected, ours.step(actions))
        done = expected[2] | expected[3]
        ended += done.sum()
        if mode is AutoresetMode.DISABLED and done.any():
            assert_same(theirs.reset(options={"reset_mask": done}), ours.reset(options={"reset_mask": done}))
    assert ended >= 4
    assert (ours.single_observation_space, ours.observation_space, ours.single_action_space, ours.action_space) == (
        theirs.single_observation_space,
        theirs.observation_space,
        theirs.single_action_space,
        theirs.action_space,
    )


def assert_same(expected: Any, found: Any) -> None:
    """Same structure, types and bits."""
    assert type(expected) is type(found)
    if isinstance(expected, tuple):
        for one, other in zip(expected, found, strict=True):
            assert_same(one, other)
    elif isinstance(expected, dict):
        assert expected.keys() == found.keys()
        for name in expected:
            assert_same(expected[name], found[name])
    elif expected is not None:
        assert (expected.dtype, expected.shape) == (found.dtype, found.shape)
        if expected.dtype == np.object_:
            assert_same(tuple(expected), tuple(found))
        else:
            assert np.array_equal(expected, found)
