"""Where episodes of the dream may begin: moments of recorded episodes, late ones among them."""

from pathlib import Path

import numpy as np

from cfworld.data import EpisodeStore
from cfworld.errors import ConfigError
from cfworld.world import Start, World

__all__ = ["draw_moments"]


def draw_moments(world: World, dataset: EpisodeStore | str | Path, count: int, seed: int) -> list[Start]:
    """Starts drawn from recorded episodes, every tick of them as likely as any other.

    A world's own starts lie at the beginning of episodes, where a game is at its easiest; an agent that dies young
    would never see the rest.

    Args:
        world: the world that goes on from them.
        dataset: Minari or LeRobot, its folder or open, of the world's actions and frames.
        count: how many.
        seed: of the draw.

    Raises:
        DatasetError: if there is no such dataset, or it is damaged.
        ConfigError: if every episode is over before a start's prefix is.
    """
    store = dataset if isinstance(dataset, EpisodeStore) else EpisodeStore.open(dataset)
    per_latent, num_latents = world.config.frames_per_latent, world.config.prefix_latents
    moments = np.maximum(store.lengths - num_latents * per_latent, 0)
    """Of each episode; what a world takes over at its last tick would be over."""
    if not moments.sum():
        raise ConfigError(
            f"no episode of {str(store.folder)!r} is longer than a start, {num_latents * per_latent} ticks"
        )
    ends = np.cumsum(moments)
    drawn = np.random.default_rng(np.random.SeedSequence((seed, _STREAM))).integers(ends[-1], size=count)
    starts = []
    for place in np.sort(drawn).tolist():
        episode = int(np.searchsorted(ends, place, side="right"))
        tick = num_latents * per_latent + place - int(ends[episode] - moments[episode])
        starts.append(Start.from_episode(store, episode, tick, num_latents=num_latents, frames_per_latent=per_latent))
    return starts


_STREAM = 11
