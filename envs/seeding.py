"""Which seed an episode gets: a function of the row's seed and the episode's number, nothing to keep."""

import numpy as np

__all__ = ["episode_seed"]


def episode_seed(row_seed: int, episode: int) -> int:
    """Seed of an episode.

    Args:
        row_seed: the seed that the environment was reset with.
        episode: episodes since that reset.

    Returns:
        The row's own seed for its first episode, and one in [0, 2^64) for every other.
    """
    if episode == 0:
        return row_seed
    return int(np.random.SeedSequence((row_seed, episode)).generate_state(1, np.uint64)[0])
