"""All that environments are at one moment: a value with rows, and the check that it belongs where it is put."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from cfworld.errors import StateError
from cfworld.world import World, WorldState

__all__ = ["EnvState", "check_snapshot"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class EnvState:
    """All that environments are at one moment, one row each; `set_state` goes back to it, any number of times.

    `WorldEnv` has one row, `WorldVectorEnv` one per environment. A row is whole in itself: it may be put beside rows
    of other states, and go on in another place of another environment of the same world. Its arrays are read-only by
    convention.
    """

    world: WorldState
    """The world's state: memory, latents and noise seeds, [B]."""
    steps: Int64[np.ndarray, " B"]
    """Steps since the reset."""
    horizon: Int64[np.ndarray, " B"]
    """Steps at which the episode is truncated."""
    seeds: tuple[int, ...]
    """Seed of each row's last `reset(seed=...)`; it names the episode together with its number."""
    episodes: Int64[np.ndarray, " B"]
    """Number of the episode: how many have followed that reset."""
    starts: tuple[int | str, ...]
    """What `info["start"]` says of each row: an index into the world's starts, or another start's name."""
    end_frame: Tensor
    """Frame of the last step at which the episode ended, or frames_per_step, [B] int64 on the world's device."""
    ended: Bool[np.ndarray, " B"]
    """True after `terminated` or `truncated`."""
    frames: Tensor | None
    """Frames of the last step, uint8 [B, F, H, W, 3] on the world's device, if anybody has looked at them."""

    @property
    def num_rows(self) -> int:
        """Rows B."""
        return self.world.num_rows

    def select(self, rows: Any) -> "EnvState":
        """The given rows, in the given order; a row may occur several times.

        Args:
            rows: indices, or a mask with one bool per row.

        Raises:
            StateError: if there are no such rows.
            DonatedStateError: if the world's state has been donated to `World.step`.
        """
        world = self.world.select(rows)
        index = _indices(rows)
        listed: list[int] = index.tolist()
        on_device = torch.as_tensor(index, device=self.end_frame.device)
        return EnvState(
            world=world,
            steps=self.steps[index],
            horizon=self.horizon[index],
            seeds=tuple(self.seeds[row] for row in listed),
            episodes=self.episodes[index],
            starts=tuple(self.starts[row] for row in listed),
            end_frame=self.end_frame[on_device],
            ended=self.ended[index],
            frames=None if self.frames is None else self.frames[on_device],
        )

    def replace(self, rows: Any, other: "EnvState") -> "EnvState":
        """A copy in which `rows` are taken from `other`, whose row i becomes rows[i]; all others keep their bits.

        Args:
            rows: indices, each once, or a mask with one bool per row.
            other: a state of the same world with as many rows as are named.

        Raises:
            StateError: if there are no such rows, or `other` does not fit.
            DonatedStateError: if either world state has been donated to `World.step`.
        """
        world = self.world.replace(rows, _checked(other).world)
        index = _indices(rows)
        source = np.arange(self.num_rows)
        source[index] = self.num_rows + np.arange(len(index))
        return replace(_cat_hosts([self, other], source), world=world)

    @staticmethod
    def cat(states: Sequence["EnvState"]) -> "EnvState":
        """All rows of all states, in order.

        Raises:
            StateError: if there are none, or they belong to different worlds.
            DonatedStateError: if a world's state has been donated to `World.step`.
        """
        world = WorldState.cat([_checked(state).world for state in states])
        return replace(_cat_hosts(states, np.arange(world.num_rows)), world=world)

    def save(self, path: str | Path) -> None:
        """Write the state to one safetensors file, whole or not at all.

        Raises:
            DonatedStateError: if the world's state has been donated to `World.step`.
        """
        from cfworld.envs.state_file import save_state

        save_state(self, Path(path))

    @staticmethod
    def load(path: str | Path, device: str | torch.device = "cpu") -> "EnvState":
        """Read a state that `save` wrote, in this process or another.

        Args:
            path: the file.
            device: where the world that goes on from it computes.

        Raises:
            ConfigError: if the device cannot compute.
            CheckpointError: if the file is missing, damaged, or holds something else.
        """
        from cfworld.envs.state_file import load_state

        return load_state(Path(path), device)


def check_snapshot(snapshot: Any, world: World, num_rows: int) -> EnvState:
    """Validate a snapshot from outside.

    Args:
        snapshot: what `get_state` gave.
        world: where it shall live on.
        num_rows: for how many rows.

    Returns:
        The snapshot.

    Raises:
        StateError: if it is none, or one of another world, of other rows than these, or on another device.
        DonatedStateError: if its world state has been donated to `World.step`.
    """
    state = _checked(snapshot).world
    state.check_fits(world.fingerprint, world.device)
    if state.num_rows != num_rows:
        expected = "one row" if num_rows == 1 else f"{num_rows} rows"
        raise StateError(f"got a snapshot of {state.num_rows} rows; expected {expected}: select(rows) from it")
    return snapshot


def _checked(snapshot: Any) -> EnvState:
    if not isinstance(snapshot, EnvState):
        raise StateError(f"got a {type(snapshot).__name__} as a snapshot; expected what get_state() returned")
    return snapshot


def _indices(rows: Any) -> Int64[np.ndarray, " n"]:
    """Indices or a mask, which the world's state has already checked, as indices."""
    array = np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows)
    return np.flatnonzero(array) if array.dtype == np.bool_ else array.astype(np.int64)


def _cat_hosts(states: Sequence[EnvState], index: Int64[np.ndarray, " n"]) -> EnvState:
    """Rows `index` of all states one after the other, in everything but the world."""
    frames = [state.frames for state in states if state.frames is not None]
    seeds = [seed for state in states for seed in state.seeds]
    starts = [start for state in states for start in state.starts]
    listed: list[int] = index.tolist()
    on_device = torch.as_tensor(index, device=states[0].end_frame.device)
    return EnvState(
        world=states[0].world,
        steps=np.concatenate([state.steps for state in states])[index],
        horizon=np.concatenate([state.horizon for state in states])[index],
        seeds=tuple(seeds[row] for row in listed),
        episodes=np.concatenate([state.episodes for state in states])[index],
        starts=tuple(starts[row] for row in listed),
        end_frame=torch.cat([state.end_frame for state in states])[on_device],
        ended=np.concatenate([state.ended for state in states])[index],
        frames=torch.cat(frames)[on_device] if len(frames) == len(states) else None,
    )
