"""A small collection of Panorama, and what tells its data from others."""

import hashlib
from pathlib import Path
from typing import Any

from cfworld.data import CollectConfig, EpisodeStore

__all__ = ["PANORAMA", "SETTINGS", "config", "contents"]

PANORAMA = "cfworld.envs:cfworld/PanoramaReal-v0"
SETTINGS: dict[str, Any] = {
    "env": PANORAMA,
    "policies": {"turn": 0.5, "sticky": 0.5},
    "god_share": 0.5,
    "max_ticks": 50,
    "god_max_ticks": 70,
    "shard_episodes": 2,
    "episodes": 7,
}


def config(out: Path, **changes: Any) -> CollectConfig:
    settings: dict[str, Any] = SETTINGS | {"out": str(out)} | changes
    return CollectConfig(**settings)


def contents(folder: Path) -> list[str]:
    """A fingerprint of every episode of a dataset."""
    store = EpisodeStore.open(folder)
    episodes = [store.episode(index) for index in range(len(store))]
    return [
        hashlib.sha256(
            b"".join([e.frames.tobytes(), e.actions.tobytes(), e.rewards.tobytes(), e.policy.encode()])
        ).hexdigest()
        for e in episodes
    ]
