"""The snapshot of an environment, and the check that it belongs where it is put."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cfworld.errors import StateError
from cfworld.world import Start, World, WorldState

__all__ = ["EnvState", "check_snapshot"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvState:
    """All that an environment is at one moment; `WorldEnv.set_state` goes back to it, any number of times."""

    world: WorldState
    """The world's state, one row."""
    steps: int
    """Steps since the reset; the environment truncates at its horizon."""
    seed: int
    """The seed of the last `reset(seed=...)`; it names this episode together with `episode`."""
    episode: int
    """Episodes since that reset."""
    start: int | Start
    """Where the episode began: an index into the world's starts, or the start itself."""
    end_frame: int
    """The frame of the last step at which the episode ended, or frames_per_step."""
    ended: bool
    """True after `terminated` or `truncated`."""
    frames: UInt8[np.ndarray, "F H W 3"] | None
    """The frames of the last step, if anybody has looked at them; read-only."""


def check_snapshot(snapshot: Any, world: World) -> EnvState:
    """Validate a snapshot from outside.

    Args:
        snapshot: what `WorldEnv.get_state` gave.
        world: where it shall live on.

    Returns:
        The snapshot.

    Raises:
        StateError: if it is none, or one of another world, of several rows, or on another device.
        DonatedStateError: if its world state has been donated to `World.step`.
    """
    if not isinstance(snapshot, EnvState):
        raise StateError(f"got a {type(snapshot).__name__} as a snapshot; expected what get_state() returned")
    state = snapshot.world
    state.check_usable()
    if state.world != world.fingerprint:
        raise StateError(
            f"got a snapshot of {state.world}; expected one of {world.fingerprint}: set it into an environment of the "
            "same checkpoint, variant and memory"
        )
    if state.num_rows != 1:
        raise StateError(f"got a snapshot of {state.num_rows} rows; expected one row: select([row]) it")
    if state.seeds.device.type != world.device.type:
        raise StateError(f"got a snapshot on {state.seeds.device}; expected {world.device}: use the same device")
    return snapshot
