"""What is watched of the dream, part by part, and kept, so that it need not be watched again."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from cfworld.agents.config import AgentTrainConfig
from cfworld.agents.futures import Futures, watch
from cfworld.agents.moments import draw_moments
from cfworld.data import EpisodeStore
from cfworld.errors import CheckpointError
from cfworld.files import write_aside
from cfworld.world import World

__all__ = ["watch_all", "watch_part"]


def watch_all(
    config: AgentTrainConfig, world: World, folder: Path, tell: Callable[[int], object] = lambda _: None
) -> Futures:
    """At least `foresight.steps` steps of futures, in whole parts; those that the folder has are read.

    Args:
        config: how, and the moments from which futures begin.
        world: dreams.
        folder: keeps every part, under settings that tell what is seen in it.
        tell: told of the steps of every part.

    Raises:
        CheckpointError: if a part is damaged.
    """
    assert config.starts is not None
    store = EpisodeStore.open(config.starts)
    folder = folder / _digest(config, world, store)
    folder.mkdir(parents=True, exist_ok=True)
    parts, watched = [], 0
    while watched < config.foresight.steps:
        file = folder / f"{len(parts):05}.pt"
        if not file.exists():
            with write_aside(file) as aside:
                torch.save(watch_part(config, world, store, len(parts)).as_dict(), aside)
        parts.append(_read(file))
        watched += parts[-1].hazard.numel()
        tell(parts[-1].hazard.numel())
    return Futures.together(parts)


def watch_part(config: AgentTrainConfig, world: World, store: EpisodeStore, number: int) -> Futures:
    """One part of what is watched: `num_envs` futures, of moments that its number draws."""
    seed = int(np.random.SeedSequence((config.seed, _STREAM, number)).generate_state(1)[0])
    starts = draw_moments(world, store, config.num_envs, seed)
    return watch(
        world, starts, config.foresight.num_steps(world.config.frames_per_step), config.foresight.explore, seed
    )


def _read(file: Path) -> Futures:
    try:
        return Futures(**torch.load(file, weights_only=True))
    except Exception as error:
        raise CheckpointError(f"{file} is damaged ({error}); delete it, and it is watched again") from error


def _digest(config: AgentTrainConfig, world: World, store: EpisodeStore) -> str:
    """Tells what is watched under one set of settings from what is watched under another."""
    how = config.foresight
    episodes = (store.lengths.tolist(), [int(seed) for seed in store.seeds], store.policies)
    told = (world.fingerprint, str(world.sampler), episodes, config.num_envs, config.seed)
    return hashlib.sha256(repr((*told, how.horizon, how.explore)).encode()).hexdigest()[:12]


_STREAM = 23
