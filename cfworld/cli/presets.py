"""How much `cfworld collect` records, and how, where the command line does not say."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from cfworld.errors import ConfigError

__all__ = ["PRESETS", "preset", "preset_of_others"]

_DOOM = {
    "env": "cfworld/DoomTakeCoverReal-v0",
    "policies": ["sticky@0.45", "sweep@0.25", "random@0.25", "noop@0.05"],
    "max_ticks": 2100,
    "episodes": 0,
}
_ROOMS = {
    "env": "cfworld/DoomRoomsReal-v0",
    "policies": ["round_trip@0.45", "wander@0.25", "sticky@0.2", "turn@0.1"],
    "max_ticks": 2100,
    "episodes": 0,
    "god_share": 0.25,
    "god_max_ticks": 0,
}
_PANORAMA = {
    "env": "cfworld/PanoramaReal-v0",
    "policies": ["turn@0.45", "sticky@0.35", "look_back@0.2"],
    "max_ticks": 512,
    "ticks": 0,
    "god_share": 0.5,
    "god_max_ticks": 0,
}

_OTHERS = {
    "policies": ["sticky@0.7", "random@0.3"],
    "ticks": 0,
    "episodes": 0,
    "god_share": 0.0,
    "max_ticks": 2100,
    "god_max_ticks": 0,
}

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "doom_take_cover": {
            "train": _DOOM | {"ticks": 260_000, "god_share": 0.25, "god_max_ticks": 1050, "seed": 0},
            "eval": _DOOM | {"ticks": 60_000, "god_share": 0.33, "god_max_ticks": 2100, "seed": 1_000_000},
        },
        "doom_rooms": {
            "train": _ROOMS | {"ticks": 400_000, "seed": 0},
            "eval": _ROOMS | {"ticks": 60_000, "seed": 1_000_000},
        },
        "panorama": {
            "train": _PANORAMA | {"episodes": 400, "seed": 0},
            "eval": _PANORAMA | {"episodes": 60, "seed": 1_000_000},
        },
    }
)
"""Settings by world and split."""


def preset(world: str, split: str) -> dict[str, Any]:
    """The settings of a split of a shipped world.

    Raises:
        ConfigError: if there is no such world or split.
    """
    if world not in PRESETS:
        raise ConfigError(f"got world={world}; expected one of {', '.join(PRESETS)}")
    return dict(_split(PRESETS[world], split))


def preset_of_others(split: str) -> dict[str, Any]:
    """The settings of a split of any other environment, which knows no god mode; how much to record has to be said.

    Raises:
        ConfigError: if there is no such split.
    """
    return dict(_split({"train": _OTHERS | {"seed": 0}, "eval": _OTHERS | {"seed": 1_000_000}}, split))


def _split(splits: Mapping[str, Mapping[str, Any]], split: str) -> Mapping[str, Any]:
    if split not in splits:
        raise ConfigError(f"got split={split}; expected one of {', '.join(splits)}")
    return splits[split]
