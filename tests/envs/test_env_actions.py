"""Environments take what `cfworld.envs.actions` says, alone and side by side, and so do twins."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
import yaml
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import cfworld
from cfworld.envs import DoomRoomsTwin, DoomTakeCoverTwin, PanoramaTwin, Twin, WorldEnv, WorldVectorEnv
from cfworld.errors import ActionError
from tests.toy import ACTIONS, DISCRETE, KINDS, per_frame, toy_world

FRAMES = 4
WORLDS = {kind: toy_world(actions=actions) for kind, actions in KINDS.items()}
TWINS: dict[str, type[Twin]] = {
    "doom_take_cover": DoomTakeCoverTwin,
    "doom_rooms": DoomRoomsTwin,
    "panorama": PanoramaTwin,
}
CONFIGS = Path(cfworld.__file__).parents[1] / "configs" / "world"


def seen(env: gym.Env, action: Any) -> np.ndarray:
    env.reset(seed=0)
    return env.step(action)[0]


@pytest.mark.filterwarnings("ignore:.*Box action spaces:UserWarning")
@pytest.mark.parametrize("action_chunks", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_environments_of_every_kind_of_action_pass_gymnasiums_checks(kind: str, action_chunks: bool) -> None:
    check_env(WorldEnv(WORLDS[kind], action_chunks=action_chunks), skip_render_check=True)


@pytest.mark.parametrize("kind", KINDS)
def test_an_action_for_the_step_is_that_action_for_every_frame(kind: str) -> None:
    env = WorldEnv(WORLDS[kind])
    assert np.array_equal(seen(env, ACTIONS[kind]), seen(env, per_frame(kind, FRAMES)))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_vector_environment_take_what_single_ones_take(kind: str) -> None:
    env, envs = WorldEnv(WORLDS[kind]), WorldVectorEnv(3, WORLDS[kind], action_chunks=True)
    envs.action_space.seed(0)
    actions: Any = envs.action_space.sample()
    envs.reset(seed=5)
    together = envs.step(actions)[0]
    for row in range(3):
        env.reset(seed=5 + row)
        own = {name: part[row] for name, part in actions.items()} if kind == "dict" else actions[row]
        assert np.array_equal(env.step(own)[0], together[row])


def test_names_stand_for_numbers_in_worlds_and_twins() -> None:
    for env in (WorldEnv(WORLDS["discrete"]), Panned()):
        assert np.array_equal(seen(env, "move right"), seen(env, 2))
        assert np.array_equal(seen(env, ["stay", "stay", "move left", "move left"]), seen(env, [0, 0, 1, 1]))
        with pytest.raises(
            ActionError, match="got action 'jump'; expected one of 'stay', 'move left', 'move right', or"
        ):
            env.step("jump")
    envs = WorldVectorEnv(2, WORLDS["discrete"])
    envs.reset(seed=0)
    envs.step(["stay", "move left"])
    with pytest.raises(ActionError, match="expected one of 'stay'"):
        envs.step(["stay", "jump"])


class Panned(PanoramaTwin):
    """Panorama under the names of the toy world."""

    action_names = tuple(DISCRETE.names)


def test_an_action_per_frame_moves_a_twin_tick_by_tick() -> None:
    one, other = PanoramaTwin(), PanoramaTwin()
    for twin in (one, other):
        twin.reset(seed=0)
    one.step([0, 1, 1, 2])
    other.step_ticks([0, 1, 1, 2])
    assert np.array_equal(one.frames(), other.frames())


def test_chunks_are_spaces_of_one_action_per_frame_in_worlds_and_twins() -> None:
    for env in (WorldEnv(WORLDS["discrete"], action_chunks=True), PanoramaTwin(action_chunks=True)):
        assert env.action_space == spaces.MultiDiscrete([3] * FRAMES)
    envs = WorldVectorEnv(2, WORLDS["box"], action_chunks=True)
    assert envs.single_action_space.shape == (FRAMES, 2)
    assert envs.action_space.shape == (2, FRAMES, 2)
    fork = WorldEnv(WORLDS["discrete"], action_chunks=True)
    fork.reset(seed=0)
    assert fork.fork(2).single_action_space == fork.action_space


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_of_ones_own_brings_actions_of_the_same_kind(kind: str) -> None:
    length = 2 * FRAMES
    frames = np.random.default_rng(0).integers(0, 255, (length, 64, 64, 3), np.uint8)
    action = ACTIONS[kind]
    taken = {name: [part] * length for name, part in action.items()} if kind == "dict" else [action] * length
    env = WorldEnv(WORLDS[kind])
    env.reset(seed=0, options={"start": cfworld.Start(frames=frames, actions=taken)})
    memory = env.get_state().world.memory
    expected = WORLDS[kind].generator.prompts.check(action, None, FRAMES)[0]
    assert torch.equal(memory.actions[0, memory.valid[0]][-1], expected)
    env.reset(options={"start": cfworld.Start(frames=frames)})
    env.step(action)


@pytest.mark.sources
@pytest.mark.parametrize("world", TWINS)
def test_a_world_and_its_twin_call_actions_the_same(world: str) -> None:
    twin = TWINS[world]
    configured = yaml.safe_load((CONFIGS / f"{world}.yaml").read_text())
    assert list(twin.action_names) == configured["actions"]["names"]
    assert len(twin.action_names) == twin.num_actions
    if world != "doom_rooms":
        assert cfworld.World.from_pretrained(world).config.actions.names == list(twin.action_names)
