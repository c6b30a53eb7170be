"""Ways to turn a twin's camera: leaving a view, keeping it out of sight, and returning to the same pose."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from cfworld.errors import ConfigError

__all__ = ["TURNS", "Turn", "leave_and_return", "turn_of"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """How to turn the camera of a twin around."""

    action: int
    """The action that pans one way."""
    back: int
    """The action that pans the other way; as many ticks of it undo those of the first."""
    ticks: int
    """Ticks of a full turn, after which the pose is exactly the same."""
    hidden: int
    """Ticks after which nothing of the view is seen any more."""
    stay: int
    """The action that stands still."""
    rows: tuple[int, int]
    """Rows of the picture that are drawn anew for every episode."""
    settle: int = 0
    """Ticks of panning after which the agent, which may have walked before, stands still."""

    @property
    def opposite(self) -> int:
        """Ticks to the opposite side."""
        return self.ticks // 2

    @property
    def sway(self) -> int:
        """Ticks that the camera may pan from the opposite side, to either hand, without seeing the view again."""
        return self.opposite - self.hidden


TURNS: Mapping[str, Turn] = {
    "cfworld/PanoramaReal-v0": Turn(action=2, back=1, stay=0, ticks=128, hidden=32, rows=(8, 52)),
    "cfworld/DoomRoomsReal-v0": Turn(action=1, back=2, stay=0, ticks=128, hidden=32, rows=(0, 64), settle=64),
}
"""The twins that can be turned around, by their ids."""


def turn_of(source: str) -> Turn:
    """How to turn a twin around.

    Raises:
        ConfigError: if nobody knows.
    """
    if source not in TURNS:
        raise ConfigError(f"recall knows no way to turn {source!r} around; it knows {', '.join(TURNS)}")
    return TURNS[source]


def leave_and_return(turn: Turn, num_steps: int, per_step: int, num_still: int = 0) -> Int64[np.ndarray, " T"]:
    """Actions that leave a view and return to it: out, to and fro on the opposite side, a rest there, and back.

    While the camera pans to and fro the view stays out of sight, however long that takes, and new chunks go on
    competing for the memory. A column of the view is out of sight for less than the entire time: until it leaves the
    picture on the way out, and from when it comes back, it is seen.

    Args:
        turn: how the camera turns.
        num_steps: steps of panning from leaving to returning; even.
        per_step: ticks of a step.
        num_still: steps of standing still before the way back.

    Returns:
        One action per tick, T = (num_steps + num_still) * per_step; as many go one way as the other.
    """
    assert num_steps % 2 == 0, "a path back is as long as the path out"
    out = min(num_steps // 2, turn.opposite // per_step)
    swing, left = max(1, turn.sway // per_step - 1), num_steps - 2 * out
    steps = [turn.action] * out
    beyond = True
    while left:
        reach = min(swing, left // 2)
        there, again = (turn.action, turn.back) if beyond else (turn.back, turn.action)
        steps += [there] * reach + [again] * reach
        left, beyond = left - 2 * reach, not beyond
    return np.repeat(np.array(steps + [turn.stay] * num_still + [turn.back] * out, np.int64), per_step)
