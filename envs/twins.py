"""The twins: real simulators with the spaces, frame size and step length of the generated worlds."""

import gymnasium as gym

from cfworld.envs.doom_rooms import DoomRoomsTwin
from cfworld.envs.doom_twin import DoomTakeCoverTwin
from cfworld.envs.panorama_twin import PanoramaTwin
from cfworld.envs.twin_base import Ticks, Twin
from cfworld.errors import ConfigError

__all__ = ["DoomRoomsTwin", "DoomTakeCoverTwin", "PanoramaTwin", "Ticks", "Twin", "make_twin"]


def make_twin(source: str, max_ticks: int) -> Twin:
    """The simulator behind a world, without Gymnasium's wrappers.

    Args:
        source: the world's `config.source`.
        max_ticks: ticks until an episode is truncated.

    Raises:
        ConfigError: if the source is not a twin.
    """
    try:
        twin = gym.make(source, max_ticks=max_ticks).unwrapped
    except (gym.error.Error, TypeError) as error:
        raise ConfigError(
            f"the world's source is {source!r}; expected the id of a twin: without one there is no truth to judge by"
        ) from error
    if not isinstance(twin, Twin):
        raise ConfigError(f"the world's source {source!r} is a {type(twin).__name__}; expected a twin")
    return twin
