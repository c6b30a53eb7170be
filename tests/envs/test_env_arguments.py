import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import cfworld.envs
from cfworld import Start, World
from cfworld.envs.world_env import WorldEnv
from cfworld.errors import (
    CheckpointError,
    ConfigError,
    StartError,
    StateError,
    UnknownWorldError,
)
from cfworld.memory import MemoryConfig
from tests.toy import toy_world


def test_a_start_can_be_chosen_by_index_or_given(world: World) -> None:
    env = WorldEnv(world)
    by_index, info = env.reset(seed=0, options={"start": 2})
    assert info["start"] == 2
    start = Start(frames=np.zeros((8, 64, 64, 3), np.uint8), actions=np.zeros(8, np.int64))
    with pytest.warns(UserWarning, match="tokenizer"):
        given, info = env.reset(seed=0, options={"start": start})
    assert info["start"] == start.name
    assert not np.array_equal(by_index, given)
    assert env.step(0)[4]["start"] == start.name


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


@pytest.mark.parametrize(
    "wrong",
    [{"obs": "pixels"}, {"render_mode": "ansi"}, {"horizon": 0}, {"starts": []}, {"variant": "student"}],
)
def test_wrong_arguments_are_refused(world: World, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        WorldEnv(world, **wrong)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    "wrong",
    [
        {"horizon": 1.5},
        {"horizon": "3"},
        {"horizon": True},
        {"horizon": 2**63},
        {"info_frames": "yes"},
        {"starts": 3},
        {"starts": "01"},
        {"starts": {0}},
    ],
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


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("wrong", [None, "", 3, b"panorama", ["panorama"]])
def test_what_is_no_world_is_named_with_what_is(wrong: Any) -> None:
    expected = rf"got {re.escape(repr(wrong))} as a world; expected a world of the zoo \(.*panorama.*, or, .* a World"
    with pytest.raises(UnknownWorldError, match=expected):
        gym.make("cfworld/World-v0", world=wrong)
    with pytest.raises(UnknownWorldError, match=expected):
        gym.make_vec("cfworld/World-v0", num_envs=2, world=wrong)
    with pytest.raises(UnknownWorldError, match=expected):
        World.from_pretrained(wrong)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("id", ["cfworld/Panorama-v0", "cfworld/DoomTakeCover-v0"])
@pytest.mark.parametrize("variant", ["", "studnet", 0, False, ["student"]])
def test_an_unknown_variant_is_named_and_never_stands_for_another(id: str, variant: Any) -> None:
    with pytest.raises(CheckpointError, match=r"has no variant .*; it has \['student', 'teacher'\]"):
        gym.make(id, variant=variant)
    with pytest.raises(CheckpointError, match=r"has no variant .*; it has \['student', 'teacher'\]"):
        gym.make_vec(id, num_envs=2, variant=variant)


def test_an_environment_whose_world_does_not_ship_says_how_to_train_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfworld.world.pretrained.zoo_names", list)
    with pytest.raises(UnknownWorldError, match=r"docs/your-own-world\.md says.* runs/NAME/teacher/export"):
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
    for memory in ("none", ""):
        with pytest.raises(ConfigError, match=f"memory='{memory}'; expected"):
            WorldEnv(tmp_path, memory=memory)
    with pytest.raises(ConfigError, match="memory='fast_only' beside a World that is built"):
        WorldEnv(world, memory="fast_only")
