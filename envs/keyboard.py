"""From keys to actions: how a person plays a world whose actions are Discrete."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from cfworld.envs.rendering import Keys
from cfworld.errors import ConfigError

__all__ = ["NEUTRAL", "action_of", "key_map"]

NEUTRAL = 0
"""The action while no key is held."""

_WAYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "left": ("left", "a"),
        "right": ("right", "d"),
        "forward": ("up", "w"),
        "up": ("up", "w"),
        "back": ("down", "s"),
        "backward": ("down", "s"),
        "down": ("down", "s"),
    }
)
"""Keys for the words in an action's name."""


def key_map(names: Sequence[str], num_actions: int, chosen: Mapping[str, Any] | None = None) -> dict[str, int]:
    """Say which key stands for which action.

    Digits stand for the actions' numbers. Where a name speaks of a way ("move left"), so do the arrow and the letter of
    WASD for it; the first of several actions for one way gets them.

    Args:
        names: names of the actions, or none.
        num_actions: how many there are.
        chosen: keys of the player's own, by pygame's names, with actions by name or number; they come first.

    Returns:
        The number of the action for each key.

    Raises:
        ConfigError: if a chosen action does not exist.
    """
    keys = {str(number): number for number in range(min(num_actions, 10))}
    for number, name in reversed(list(enumerate(names))):
        for word in name.casefold().split():
            keys |= dict.fromkeys(_WAYS.get(word, ()), number)
    return keys | {key: _number(key, action, names, num_actions) for key, action in (chosen or {}).items()}


def action_of(keys: Keys, mapped: Mapping[str, int]) -> int:
    """The action that the held keys ask for: that of the key pressed last, else of any one held, else `NEUTRAL`."""
    wanted = [key for key in reversed(keys.pressed) if key in mapped] + sorted(keys.held & mapped.keys())
    return mapped[wanted[0]] if wanted else NEUTRAL


def _number(key: str, action: Any, names: Sequence[str], num_actions: int) -> int:
    if isinstance(action, str) and action in names:
        return names.index(action)
    if type(action) is int and 0 <= action < num_actions:
        return action
    known = f"one of {', '.join(names)}, or " if names else ""
    raise ConfigError(f"got keys.{key}={action}; expected {known}a number from 0 to {num_actions - 1}")
