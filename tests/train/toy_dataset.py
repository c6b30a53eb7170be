"""A small dataset with continuous actions, and a world that fits it."""

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from cfworld.configs.schema import WorldSettings
from cfworld.data import Episode, StoreWriter
from cfworld.model import ActionConfig
from tests.toy import toy_config

TICKS = 48
BOX = ActionConfig(low=[-1.0, 0.0], high=[1.0, 2.0])


def write_dataset(folder: str, *, seed: int = 0, policy: str = "random", **changes: Any) -> str:
    """One episode of 64x64 frames, but for `changes`; its actions reach from (-1, 0) to (1, 2)."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform((-1, 0), (1, 2), (TICKS, 2)).astype(np.float32)
    actions[0], actions[1] = (-1, 0), (1, 2)
    recorded: dict[str, Any] = {
        "frames": rng.integers(0, 255, (TICKS + 1, 64, 64, 3), np.uint8),
        "actions": actions,
        "rewards": np.zeros(TICKS, np.float32),
        "terminated": False,
    }
    recorded |= changes
    episode = Episode(**recorded, truncated=not recorded["terminated"], seed=seed, source="toy", policy=policy)
    writer = StoreWriter(
        Path(folder),
        observation_space=spaces.Box(0, 255, (64, 64, 3), np.uint8),
        action_space=spaces.Box(np.array([-1, 0], np.float32), np.array([1, 2], np.float32)),
        source="toy",
    )
    writer.publish([writer.write_shard(0, 0, [episode])])
    return folder


def settings(data: str = "data", **changes: Any) -> WorldSettings:
    """A world of `BOX` actions that learns from `data`."""
    toy = toy_config(**{"actions": BOX, **changes})
    values = {name: getattr(toy, name) for name in toy.__slots__}
    return WorldSettings(**values, train_data=data, eval_data=data)
