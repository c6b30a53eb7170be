"""Smooth made-up episodes, and a plan to write them by."""

from pathlib import Path
from typing import Any

import numpy as np

from cfworld.data import Episode
from cfworld.export.config import ExportConfig
from cfworld.export.provenance import ExportPlan
from cfworld.world import WorldConfig
from tests.toy import toy_config

TICKS = (4, 6, 3)
ROWS, COLUMNS = np.mgrid[:64, :64]


def frame(number: int, tick: int) -> np.ndarray:
    """A picture that brightens with the ticks, of a colour of the episode's own."""
    grey = np.clip(40 * number + 15 * tick + COLUMNS + ROWS / 2, 0, 255)
    return np.stack([grey, 255 - grey, np.full_like(grey, 20 * tick)], axis=-1).astype(np.uint8)


def episode(number: int, actions: np.ndarray | None = None) -> Episode:
    """Episode `number`, of `TICKS[number]` ticks; the second is cut off, the others really end."""
    ticks = TICKS[number]
    return Episode(
        frames=np.stack([frame(number, tick) for tick in range(ticks + 1)]),
        actions=np.arange(ticks) % 3 if actions is None else actions[:ticks],
        rewards=np.arange(ticks, dtype=np.float32) + number,
        terminated=number != 1,
        truncated=number == 1,
        seed=100 + number,
        source="generated:toy/student",
        policy="sweep",
        variables={"hazard": np.linspace(0, 1, ticks + 1, dtype=np.float32)},
        options={"start": number} if number else {"start": "clip.png"},
    )


def plan(out: Path, **changes: Any) -> ExportPlan:
    settings: dict[str, Any] = {"format": "lerobot", "episodes": 3, "shard_episodes": 2, "crf": 4, **changes}
    config = ExportConfig(world="toy", out=str(out), **settings)
    return ExportPlan(config=config, provenance={"generated": True, "world": "toy", "variant": "student"})


def world(**changes: Any) -> WorldConfig:
    return toy_config(**changes)
