import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from cfworld import World
from cfworld.envs.rendering import Screen, tiled
from cfworld.envs.twins import PanoramaTwin
from cfworld.envs.vector_env import WorldVectorEnv
from cfworld.envs.world_env import WorldEnv
from cfworld.errors import (
    ActionError,
    ConfigError,
    EnvironmentClosedError,
    MissingDependencyError,
    ResetNeededError,
    StartError,
)
from cfworld.model import ActionConfig
from tests.envs.episodes import ACTIONS, deadly_world, play, same
from tests.toy import toy_world


@pytest.mark.parametrize("obs", ["frame", "frames"])
def test_spaces_equal_those_of_the_twin(world: World, obs: str) -> None:
    env, twin = WorldEnv(world, obs=obs), PanoramaTwin(obs=obs)
    assert env.observation_space == twin.observation_space
    assert env.action_space == twin.action_space


def test_a_continuous_world_has_a_box_of_actions() -> None:
    env = WorldEnv(toy_world(actions=ActionConfig(low=[-1.0, 0.0], high=[1.0, 2.0])))
    assert env.action_space == spaces.Box(np.array([-1, 0], np.float32), np.array([1, 2], np.float32), dtype=np.float32)
    env.reset(seed=0)
    env.step(np.array([0.5, 1.5], np.float32))
    for wrong in (
        np.array([0.5], np.float32),
        np.array([np.nan, 0], np.float32),
        np.array([3, 0], np.float32),
    ):
        with pytest.raises(ActionError):
            env.step(wrong)


@pytest.mark.parametrize("action", [3, -1, 1.0, True, [1], [0] * 5, [[1], [1, 2]], "left", None])
def test_a_wrong_action_is_refused_and_changes_nothing(world: World, action: Any) -> None:
    env = WorldEnv(world)
    env.reset(seed=0)
    with pytest.raises(ActionError, match="expected"):
        env.step(action)
    other = WorldEnv(world)
    other.reset(seed=0)
    assert same(play(env, [1]), play(other, [1]))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (3, "got action 3; expected integers from 0 to 2"),
        (1.0, "float64"),
        ([0] * 5, r"shape \(5,\); expected \(\) .one, for the whole step. or \(4,\) .one per frame."),
        ([0, 1, 2, 3], "got action 3"),
    ],
)
def test_a_wrong_action_is_named_in_the_same_words_by_world_and_twin(world: World, action: Any, message: str) -> None:
    for env in (WorldEnv(world), PanoramaTwin()):
        env.reset(seed=0)
        with pytest.raises(ActionError, match=message):
            env.step(action)


def test_frames_on_demand_are_those_of_the_step(world: World) -> None:
    for choice in (world, deadly_world()):
        env, lazy = WorldEnv(choice, info_frames=True), WorldEnv(choice, obs="latent")
        env.reset(seed=0)
        lazy.reset(seed=0)
        *_, info = env.step(1)
        lazy.step(1)
        assert np.array_equal(lazy.frames(), info["frames"])
        assert np.array_equal(lazy.frames(), env.frames())


def test_nothing_is_decoded_that_nobody_looks_at(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    env = WorldEnv(world, obs="latent", render_mode="rgb_array")
    decode, calls = World.decode, []
    monkeypatch.setattr(World, "decode", lambda self, latents: calls.append(1) or decode(self, latents))
    env.reset(seed=0)
    play_blindly = [env.step(action) for action in ACTIONS]
    assert not calls, play_blindly
    env.render()
    env.frames()
    assert len(calls) == 1


def test_the_observation_is_the_last_frame_or_all_of_them(world: World) -> None:
    one, all_of_them = WorldEnv(world), WorldEnv(world, obs="frames")
    for env in (one, all_of_them):
        env.reset(seed=0)
    first, second = one.step(1)[0], all_of_them.step(1)[0]
    assert np.array_equal(first, one.frames()[-1])
    assert np.array_equal(second, np.concatenate(list(all_of_them.frames()), axis=-1))


def test_an_episode_is_named_by_its_seed_and_its_number(world: World) -> None:
    env, other = WorldEnv(world), WorldEnv(world)
    for _ in range(2):
        assert np.array_equal(env.reset(seed=4)[0], other.reset(seed=4)[0])
        env.step(0)
        assert np.array_equal(env.reset()[0], other.reset()[0])
    env.reset(seed=4)
    first = play(env, ACTIONS)
    env.reset()
    assert not same(play(env, ACTIONS), first)


def test_the_first_episode_is_the_worlds_own_with_that_seed(world: World) -> None:
    env = WorldEnv(world, obs="latent")
    env.reset(seed=4)
    state, _ = world.initial(seeds=[4])
    assert np.array_equal(env.step(2)[0], world.step(state, [2])[0].latents.flatten().numpy())


def test_calls_out_of_order_are_refused(world: World) -> None:
    env = WorldEnv(world, horizon=1)
    for call in (lambda: env.step(0), env.frames, env.get_state):
        with pytest.raises(ResetNeededError):
            call()
    env.reset(seed=0)
    env.step(0)
    with pytest.raises(ResetNeededError):
        env.step(0)
    snapshot = env.get_state()
    env.close()
    env.close()
    for call in (lambda: env.step(0), env.reset, env.frames, env.render, lambda: env.set_state(snapshot)):
        with pytest.raises(EnvironmentClosedError):
            call()


@pytest.mark.parametrize(("mode", "fps"), [("rgb_array", 2.5), ("rgb_array_list", 10), ("human", 10)])
def test_rendering_shows_the_step_at_its_own_rate(world: World, mode: str, fps: float) -> None:
    env = WorldEnv(world, render_mode=mode)
    assert env.metadata["render_fps"] == fps
    env.reset(seed=0)
    env.step(1)
    shown = env.render()
    if mode == "rgb_array":
        assert np.array_equal(shown, env.frames()[-1])
    elif mode == "rgb_array_list":
        assert isinstance(shown, list)
        assert np.array_equal(shown, env.frames())
    else:
        assert shown is None
    env.close()
    assert "render_fps" not in WorldEnv.metadata, "it is the environment's own"


def test_a_window_shows_every_beginning_and_every_step_until_it_is_closed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three rows stand in a square of two by two, at half the size."""
    shown, closed = [], []
    monkeypatch.setattr(Screen, "show", lambda _, frames, scale=8: shown.append((frames, scale)))
    monkeypatch.setattr(Screen, "close", lambda _: closed.append(len(shown)))
    env, envs = WorldEnv(world, render_mode="human"), WorldVectorEnv(3, world, render_mode="human", tensors=True)
    for call in (lambda: env.reset(seed=0), lambda: env.step(1)):
        call()
        (frames, scale) = shown.pop()
        assert np.array_equal(frames, env.frames())
        assert (scale, shown) == (8, [])
    for call in (lambda: envs.reset(seed=0), lambda: envs.step([0, 1, 2])):
        call()
        (frames, scale) = shown.pop()
        assert np.array_equal(frames, tiled(envs.frames().numpy()))
        assert (scale, shown) == (4, [])
    env.close()
    envs.close()
    assert len(closed) == 2


def test_writing_into_the_frames_of_an_info_leaves_the_state_alone(world: World) -> None:
    env = WorldEnv(world, info_frames=True)
    for call in (lambda: env.reset(seed=0), lambda: env.step(1)):
        info, shown = call()[-1], env.frames()
        info["frames"].fill(0)
        assert info["end_frame"] == len(shown) == 4
        assert np.array_equal(env.frames(), shown)


def test_numbers_of_a_step_are_pythons_own(world: World) -> None:
    env = WorldEnv(world)
    env.reset(seed=0)
    _, reward, terminated, truncated, info = env.step(1)
    assert (type(reward), type(terminated), type(truncated), type(info["end_frame"])) == (float, bool, bool, int)


def test_human_rendering_without_pygame_says_what_to_install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[render\]'"):
        WorldEnv(world, render_mode="human").reset(seed=0)


def test_a_reset_that_fails_draws_nothing(world: World) -> None:
    env, untouched = WorldEnv(world), WorldEnv(world)
    for one in (env, untouched):
        one.reset(seed=4)
    with pytest.raises(StartError):
        env.reset(seed=5, options={"start": 10**6})
    assert env.np_random.integers(2**40) == untouched.np_random.integers(2**40)


@pytest.mark.parametrize("name", ["cfworld/World-v0", "cfworld/PanoramaReal-v0"])
def test_after_a_first_reset_that_was_refused_an_environment_goes_on(world: World, name: str) -> None:
    arguments: dict[str, Any] = {"world": world} if name == "cfworld/World-v0" else {}
    env, other = (gym.make(name, **arguments) for _ in range(2))
    with pytest.raises(ConfigError):
        env.reset(seed=0, options={"beginning": 1})
    for one in (env, other):
        one.reset(seed=0)
    assert np.array_equal(env.step(1)[0], other.step(1)[0])


def test_a_new_environment_goes_on_from_a_snapshot_without_a_reset(world: World) -> None:
    env, other = (gym.make("cfworld/World-v0", world=world) for _ in range(2))
    env.reset(seed=0)
    other.unwrapped.set_state(env.unwrapped.get_state())  # pyright: ignore[reportAttributeAccessIssue]
    assert np.array_equal(env.step(1)[0], other.step(1)[0])


@pytest.mark.parametrize("attribute", ["world", "horizon", "starts"])
def test_what_an_environment_was_made_with_is_not_changed_in_silence(world: World, attribute: str) -> None:
    for env in (WorldEnv(world), WorldVectorEnv(2, world)):
        with pytest.raises(AttributeError):
            setattr(env, attribute, 2)


def test_a_fork_names_its_own_argument(world: World) -> None:
    env = WorldEnv(world)
    env.reset(seed=0)
    with pytest.raises(ConfigError, match="got n=0; expected"):
        env.fork(0)
