import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import jaxtyping
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import cfworld.envs
from cfworld import Start, StepOutput, World
from cfworld.envs.twins import PanoramaTwin
from cfworld.envs.world_env import WorldEnv
from cfworld.errors import (
    ActionError,
    ConfigError,
    DonatedStateError,
    EnvironmentClosedError,
    MissingDependencyError,
    ResetNeededError,
    ShapeError,
    StartError,
    StateError,
    UnknownWorldError,
)
from cfworld.memory import MemoryConfig
from cfworld.model import ActionConfig
from tests.toy import toy_world

ACTIONS = [0, 1, 2, 2, 1, 0, 1]
SHIPPED = ["cfworld/DoomTakeCover-v0", "cfworld/Panorama-v0"]


@pytest.fixture(autouse=True)
def no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.fixture(scope="module")
def world() -> World:
    return toy_world()


@pytest.fixture
def as_users_run_it() -> Iterator[None]:
    """Annotations are not enforced outside the tests, so values of wrong types reach the checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def deadly_world() -> World:
    """A world in which every episode ends at the first frame."""
    world = toy_world()
    with torch.no_grad():
        world.generator.heads.hazard.out.bias.fill_(100.0)
    return world


def play(env: WorldEnv, actions: list[int]) -> list[tuple[Any, ...]]:
    """Observation, reward, ends, frames and hazard of every step."""
    seen = []
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        seen.append((observation, reward, terminated, truncated, env.frames(), info["hazard"]))
        if terminated or truncated:
            break
    return seen


def same(first: list[tuple[Any, ...]], second: list[tuple[Any, ...]]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(np.array_equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("obs", ["frame", "frames", "latent"])
def test_the_checkers_of_gymnasium_and_sb3_find_nothing(world: World, obs: str) -> None:
    env = gym.make("cfworld/World-v0", world=world, obs=obs, render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)
    check_env_sb3(env)
    env.close()


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_environments_pass_both_checkers(name: str) -> None:
    env = gym.make(name, render_mode="rgb_array")
    check_env(env.unwrapped, skip_render_check=True)
    check_env_sb3(env)
    env.close()


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


@pytest.mark.parametrize("action", [3, -1, 1.0, True, [1], [0, 0, 0, 0], [[1], [1, 2]], "left", None])
def test_a_wrong_action_is_refused_and_changes_nothing(world: World, action: Any) -> None:
    env = WorldEnv(world)
    env.reset(seed=0)
    with pytest.raises(ActionError, match="expected"):
        env.step(action)
    other = WorldEnv(world)
    other.reset(seed=0)
    assert same(play(env, [1]), play(other, [1]))


@pytest.mark.parametrize("obs", ["frame", "latent"])
def test_a_fork_repeats_what_followed_any_number_of_times(world: World, obs: str) -> None:
    env = WorldEnv(world, obs=obs)
    env.reset(seed=3)
    play(env, [1, 2])
    snapshot = env.get_state()
    shown = env.frames()
    first = play(env, ACTIONS)
    for _ in range(2):
        env.reset(seed=9)
        env.set_state(snapshot)
        assert np.array_equal(env.frames(), shown)
        assert same(play(env, ACTIONS), first)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (3, "got action 3; expected integers from 0 to 2"),
        (1.0, "float64"),
        ([0, 0, 0, 0], r"shape \(4,\); expected \(\): pass one action"),
    ],
)
def test_a_wrong_action_is_named_in_the_same_words_by_world_and_twin(world: World, action: Any, message: str) -> None:
    for env in (WorldEnv(world), PanoramaTwin()):
        env.reset(seed=0)
        with pytest.raises(ActionError, match=message):
            env.step(action)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("wrong", [None, 3, "snapshot", {}])
def test_what_is_no_snapshot_is_refused(world: World, wrong: Any) -> None:
    env = WorldEnv(world)
    with pytest.raises(StateError, match=r"expected what get_state\(\) returned"):
        env.set_state(wrong)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: toy_world(name="another"), "snapshot of another/.*; expected one of toy/"),
        (lambda: toy_world(seed=1), "expected one of toy/"),
        (lambda: toy_world(memory=MemoryConfig(num_sink=1, num_slow=1, num_fast=4, consolidate_every=2)), "and memory"),
    ],
)
def test_a_snapshot_of_another_world_is_refused_and_changes_nothing(world: World, other: Any, message: str) -> None:
    foreign = WorldEnv(other())
    foreign.reset(seed=0)
    env, twin = WorldEnv(world), WorldEnv(world)
    env.reset(seed=0)
    twin.reset(seed=0)
    with pytest.raises(StateError, match=message):
        env.set_state(foreign.get_state())
    assert same(play(env, [1]), play(twin, [1]))


def test_a_snapshot_of_two_rows_or_one_given_away_is_refused(world: World) -> None:
    env = WorldEnv(world)
    env.reset(seed=0)
    snapshot = env.get_state()
    with pytest.raises(StateError, match="one row"):
        env.set_state(dataclasses.replace(snapshot, world=snapshot.world.select([0, 0])))
    world.step(snapshot.world, [0], donate=True)
    with pytest.raises(DonatedStateError):
        env.set_state(snapshot)


def test_a_fork_lives_in_another_environment_too_and_leads_to_the_same_next_episode(world: World) -> None:
    env, other = WorldEnv(world, horizon=5), WorldEnv(world, horizon=5)
    env.reset(seed=3)
    play(env, [1, 2])
    other.set_state(env.get_state())
    assert same(play(env, ACTIONS), play(other, ACTIONS))
    assert np.array_equal(env.reset()[0], other.reset()[0])


def test_the_horizon_is_part_of_the_state(world: World) -> None:
    env = WorldEnv(world, horizon=3, termination_fn=lambda step: [False])
    env.reset(seed=0)
    env.step(0)
    snapshot = env.get_state()
    for _ in range(2):
        env.set_state(snapshot)
        assert [step[2:4] for step in play(env, ACTIONS)] == [(False, False), (False, True)]


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
    env.reset(seed=0)
    decode, calls = World.decode, []
    monkeypatch.setattr(World, "decode", lambda self, latents: calls.append(1) or decode(self, latents))
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


def test_a_start_can_be_chosen_by_index_or_given(world: World) -> None:
    env = WorldEnv(world)
    by_index, info = env.reset(seed=0, options={"start": 2})
    assert info["start"] == 2
    start = Start(frames=np.zeros((8, 64, 64, 3), np.uint8), actions=np.zeros(8, np.int64))
    with pytest.warns(UserWarning, match="tokenizer"):
        given, info = env.reset(seed=0, options={"start": start})
    assert info["start"] is start
    assert not np.array_equal(by_index, given)
    assert env.step(0)[4]["start"] is start


def test_starts_are_drawn_from_those_allowed(world: World) -> None:
    env = WorldEnv(world, starts=[1, 3])
    drawn = {env.reset(seed=seed)[1]["start"] for seed in range(20)}
    assert drawn == {1, 3}
    assert {WorldEnv(world).reset(seed=seed)[1]["start"] for seed in range(50)} == set(range(5))


def test_wrong_starts_and_options_are_refused(world: World) -> None:
    env = WorldEnv(world)
    with pytest.raises(StartError):
        env.reset(options={"start": 5})
    with pytest.raises(ConfigError, match="god"):
        env.reset(options={"god": True})


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
        assert np.array_equal(shown, env.frames())
    else:
        assert shown is None
    env.close()


def test_human_rendering_without_pygame_says_what_to_install(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(MissingDependencyError, match="pip install"):
        WorldEnv(world, render_mode="human").reset(seed=0)


@pytest.mark.parametrize(
    "wrong",
    [{"obs": "pixels"}, {"render_mode": "ansi"}, {"horizon": 0}, {"starts": []}, {"variant": "student"}],
)
def test_wrong_arguments_are_refused(world: World, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        WorldEnv(world, **wrong)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    "wrong", [{"horizon": 1.5}, {"horizon": "3"}, {"horizon": True}, {"starts": 3}, {"starts": "01"}, {"starts": {0}}]
)
def test_arguments_of_wrong_types_are_refused(world: World, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}=.*expected"):
        WorldEnv(world, **wrong)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    "start",
    [10**6, -1, 0.0, True, None, Start(frames=np.zeros((8, 32, 32, 3), np.uint8), actions=np.zeros(8, np.int64))],
)
def test_every_start_is_checked_when_the_environment_is_made(world: World, start: Any) -> None:
    with pytest.raises(StartError):
        WorldEnv(world, starts=[0, start])


def test_starts_may_be_an_array(world: World) -> None:
    assert WorldEnv(world, starts=np.array([1, 3])).starts == [1, 3]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("options", [5, ["start"], {3: 0}, {"god": True, 3: 0}])
def test_reset_options_that_are_none_are_refused(world: World, options: Any) -> None:
    with pytest.raises(ConfigError, match=r"reset options|options="):
        WorldEnv(world).reset(options=options)


def test_an_unknown_world_is_named() -> None:
    with pytest.raises(UnknownWorldError, match="no-such-world"):
        gym.make("cfworld/World-v0", world="no-such-world")


def test_an_environment_whose_world_does_not_ship_says_how_to_train_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfworld.world.pretrained.zoo_names", list)
    with pytest.raises(UnknownWorldError, match=r"cfworld train world=doom_rooms.* runs/doom_rooms/teacher/export"):
        gym.make("cfworld/DoomRooms-v0")


def test_importing_the_package_registers_every_environment() -> None:
    assert cfworld.envs is not None
    names = {"DoomRooms", "DoomRoomsReal", "DoomTakeCover", "DoomTakeCoverReal", "Panorama", "PanoramaReal", "World"}
    assert {f"cfworld/{name}-v0" for name in names} <= gym.registry.keys()


def test_an_environment_may_remember_less_than_its_world(tmp_path: Path):
    toy_world().save_pretrained(tmp_path)
    own = WorldEnv(tmp_path)
    given = MemoryConfig(num_sink=0, num_slow=0, num_fast=3)
    for memory, num_fast in (("fast_only", 7), (given, 3)):
        env = gym.make("cfworld/World-v0", world=tmp_path, memory=memory).unwrapped
        assert isinstance(env, WorldEnv)
        assert (env.world.config.memory.num_slots, own.world.config.memory.num_slots) == (num_fast - 1, 6)
        env.reset(seed=0)
        env.step(1)
        own.reset(seed=0)
        with pytest.raises(StateError, match="memory"):
            own.set_state(env.get_state())


def test_an_unknown_memory_or_one_beside_a_built_world_is_refused(tmp_path: Path, world: World):
    toy_world().save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="memory='none'; expected"):
        WorldEnv(tmp_path, memory="none")
    with pytest.raises(ConfigError, match="memory='fast_only' beside a World that is built"):
        WorldEnv(world, memory="fast_only")
