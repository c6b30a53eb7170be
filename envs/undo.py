"""A call that raises has changed nothing: the random stream of an environment goes back to where it was."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import gymnasium as gym
from gymnasium.vector import VectorEnv

__all__ = ["stream_kept_on_error"]


@contextmanager
def stream_kept_on_error(env: gym.Env | VectorEnv) -> Iterator[None]:
    """Put `np_random` and its seed back if the block raises; the error goes on."""
    before = copy.deepcopy((env._np_random, env._np_random_seed))  # pyright: ignore[reportPrivateUsage]
    try:
        yield
    except Exception:
        env._np_random, env._np_random_seed = before  # pyright: ignore[reportPrivateUsage]
        raise
