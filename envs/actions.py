"""From what a caller of an environment passes as an action to what the world takes.

An action is one of the action space, which holds for the whole step, or a sequence of F of them, one for each frame
of the step. Where the world has names for its discrete actions, they stand for numbers anywhere.

| the world's actions | for the step | per frame |
|---|---|---|
| Discrete | `1`, `"move left"` | `[1, 1, 0, 0]`, `["move left", "move left", "stay", "stay"]` |
| MultiDiscrete | `[K]` | `[F, K]` |
| Box | `[A]` | `[F, A]` |
| Text | `"a red door opens"` | a list of F texts |
| Dict | `{"keyboard": [K], "mouse": [A]}` | any of its entries per frame, or a list of F such mappings |

The rows of a vector environment stand before all that: `[B, ...]` or `[B, F, ...]`, lists of B, or for a Dict a mapping
of such arrays.
"""

from typing import Any

from jaxtyping import Num
from torch import Tensor

from cfworld.prompts.base import on_host
from cfworld.world import World

__all__ = ["one_action", "row_actions"]


def one_action(world: World, action: Any) -> Num[Tensor, "1 F *action"]:
    """Validate the action of a single environment.

    Args:
        world: takes it.
        action: one action, or one per frame.

    Returns:
        Every frame's action, as `World.step` takes them for one row.

    Raises:
        ActionError: if it is neither; the message names the actions that there are.
    """
    return world.generator.prompts.check(action, None, world.config.frames_per_step)


def row_actions(world: World, actions: Any, num_rows: int, *, look: bool = True) -> Num[Tensor, "B F *action"]:
    """Validate the actions of a vector environment.

    Args:
        world: takes them.
        actions: one action per row, or one per row and frame.
        num_rows: rows B.
        look: also look at the values of what lies on another device than the CPU, which waits for that device.

    Returns:
        Every row's and frame's action, as `World.step` takes them.

    Raises:
        ActionError: if they are neither; the message names the actions that there are.
    """
    look = look or on_host(actions)
    return world.generator.prompts.check(actions, num_rows, world.config.frames_per_step, look)
