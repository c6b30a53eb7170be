"""Every registered id says what it is, in Gymnasium's form, and its figures are those of its spaces."""

import inspect
import re
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs.registration import load_env_creator

import cfworld.envs
from cfworld.envs import DoomRoomsTwin, WorldEnv
from cfworld.world import find_world
from cfworld.world.checkpoint import read_manifest

assert cfworld.envs.__name__ == "cfworld.envs"  # the import registers the ids
IDS = sorted(name for name in gym.registry if name.startswith("cfworld/"))
SECTIONS = [
    "Description",
    "Action Space",
    "Observation Space",
    "Rewards",
    "Starting State",
    "Episode End",
    "Arguments",
    "Version History",
]


def class_of(name: str) -> Any:
    entry_point: Any = gym.spec(name).entry_point
    return load_env_creator(entry_point)


def sections(name: str) -> dict[str, str]:
    """The text of each section of the class's own docstring, in order."""
    text = inspect.cleandoc(class_of(name).__dict__["__doc__"])
    _, *parts = re.split(r"^## (.+)$", text, flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def says(section: str, *phrases: str) -> bool:
    """Whether all of these stand there, wherever its lines break."""
    flat = " ".join(section.split())
    return all(phrase in flat for phrase in phrases)


def numbered(names: Sequence[str]) -> str:
    return ", ".join(f"{number} {name}" for number, name in enumerate(names))


@pytest.mark.parametrize("name", IDS)
def test_every_id_has_all_sections_in_order(name: str) -> None:
    found = sections(name)
    assert [title for title in found if title in SECTIONS] == SECTIONS
    assert all(text.strip() for text in found.values())
    assert f'gym.make("{name}"' in found["Arguments"]
    assert re.search(r"^- v0: ", found["Version History"], re.M)


def test_no_two_ids_share_a_docstring() -> None:
    assert len({class_of(name) for name in IDS}) == len(IDS)


@pytest.mark.parametrize("name", ["DoomTakeCover", "Panorama"])
def test_a_shipped_worlds_docstring_gives_the_figures_of_its_environment(name: str) -> None:
    env: Any = gym.make(f"cfworld/{name}-v0").unwrapped
    found, config = sections(f"cfworld/{name}-v0"), env.world.config
    assert class_of(f"cfworld/{name}-v0") is type(env)
    chunks = WorldEnv(env.world, action_chunks=True).action_space
    assert says(found["Action Space"], f"`{env.action_space}`: {numbered(config.actions.names)};", f"`{chunks}`")
    for obs in ("frame", "frames", "latent"):
        space = WorldEnv(env.world, obs=obs).observation_space
        assert says(found["Observation Space"], f'"{obs}"', f"{space.dtype} {list(space.shape or ())}")
    assert says(found["Starting State"], f"One of {env.world.num_starts} beginnings")
    seconds, rate = config.horizon_frames / config.fps, config.fps / config.frames_per_step
    assert says(found["Episode End"], f"{env.horizon} steps, {config.horizon_frames:,} frames or {seconds:g} s")
    assert says(found["Description"], f"{config.fps} frames a second", f"makes {config.frames_per_step} a step")
    assert says(found["Description"], f"{rate:g} steps a second", f"`{config.source}`")
    variants = read_manifest(find_world(config.name))["variants"]
    assert {variant for variant in ("student", "teacher") if f'"{variant}"' in found["Arguments"]} == set(variants)


@pytest.mark.parametrize("name", ["DoomTakeCover", "Panorama", "DoomRooms"])
def test_a_twins_docstring_gives_the_figures_of_its_spaces(name: str) -> None:
    twin: Any = gym.make(f"cfworld/{name}Real-v0").unwrapped
    found = sections(f"cfworld/{name}Real-v0")
    assert says(found["Action Space"], f"`{twin.action_space}`: 0 ")
    assert says(found["Observation Space"], f"{list(twin.observation_space.shape)}")
    assert says(found["Observation Space"], f"{list(class_of(twin.spec.id)(obs='frames').observation_space.shape)}")


def test_the_docstring_of_rooms_gives_the_figures_of_its_twin() -> None:
    found, twin = sections("cfworld/DoomRooms-v0"), DoomRoomsTwin()
    chunks = DoomRoomsTwin(action_chunks=True).action_space
    assert says(found["Action Space"], f"`{twin.action_space}`: {numbered(twin.action_names)};", f"`{chunks}`")
    for obs in ("frame", "frames"):
        space = DoomRoomsTwin(obs=obs).observation_space
        assert says(found["Observation Space"], f'"{obs}"', f"{space.dtype} {list(space.shape or ())}")
    seconds, rate = twin.max_ticks / twin.fps, twin.fps / twin.frames_per_step
    assert says(found["Episode End"], f"{twin.horizon} steps, {twin.max_ticks:,} frames or {seconds:g} s")
    assert says(found["Description"], f"{twin.fps} frames a second", f"{rate:g} steps a second")
