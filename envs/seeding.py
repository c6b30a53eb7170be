"""Which seed an episode gets: a function of the row's seed and the episode's number, nothing to keep."""

from collections.abc import Callable

import numpy as np

__all__ = ["episode_seed", "next_episode"]


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


def next_episode(
    seed: int | None, last: tuple[int, int] | None, stream: Callable[[], np.random.Generator]
) -> tuple[int, int]:
    """Which episode a reset begins.

    Args:
        seed: what the reset was given.
        last: seed and number of the row's last episode; None if there was none.
        stream: gives the environment's own generator, which is asked only if neither names the episode.

    Returns:
        The row's seed and the episode's number: a new seed's first, the row's own next, or the first of a seed that is
        drawn.
    """
    if seed is not None:
        return seed, 0
    if last is not None:
        return last[0], last[1] + 1
    return int(stream().integers(2**63)), 0
