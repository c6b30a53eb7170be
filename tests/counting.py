"""Episodes whose frames and actions are their numbers, so that a test can read off which of them it got."""

from pathlib import Path

import numpy as np
from gymnasium import spaces

from cfworld.data import Episode, StoreWriter

SOURCE = "test/Counting-v0"


def counting_episode(ticks: int = 24, *, terminated: bool = True) -> Episode:
    """Every pixel of frame t is t, and the action after frame t is t modulo 3."""
    return Episode(
        frames=np.arange(ticks + 1, dtype=np.uint8)[:, None, None, None] + np.zeros((64, 64, 3), np.uint8),
        actions=np.arange(ticks) % 3,
        rewards=np.zeros(ticks, np.float32),
        terminated=terminated,
        truncated=not terminated,
        seed=7,
        source=SOURCE,
        policy="none",
    )


def counting_dataset(folder: Path, *episodes: Episode) -> Path:
    """A dataset of such episodes; its folder."""
    box = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    writer = StoreWriter(folder, observation_space=box, action_space=spaces.Discrete(3), source=SOURCE)
    writer.publish([writer.write_shard(0, 0, list(episodes))])
    return folder
