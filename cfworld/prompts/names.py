"""Actions by their names: "move left" instead of 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from cfworld.errors import ActionError, ConfigError

__all__ = ["check_names", "has_text", "numbered", "unboxed"]


def check_names(names: Sequence[str], num_actions: int) -> None:
    """Refuse names that do not tell the actions apart.

    Raises:
        ConfigError: if there is not one for each action, or two are the same.
    """
    if names and len(names) != num_actions:
        raise ConfigError(
            f"got {len(names)} names {list(names)} for num_actions={num_actions}; expected one for each, or names=[]"
        )
    plain = [_plain(name) for name in names]
    if len(set(plain)) < len(plain) or "" in plain:
        raise ConfigError(f"got names {list(names)}; expected words that differ by more than case and spaces")


def unboxed(actions: Any) -> Any:
    """The lists that arrays of Python objects hold (columns of a table, say), at any depth; anything else as it is."""
    if isinstance(actions, np.ndarray) and actions.dtype == object:
        actions = actions.tolist()
    return [unboxed(entry) for entry in actions] if isinstance(actions, list | tuple) else actions


def has_text(actions: Any) -> bool:
    """Whether there is text among actions, at any depth of lists and arrays."""
    actions = unboxed(actions)
    if isinstance(actions, str):
        return True
    if isinstance(actions, np.ndarray):
        return actions.dtype.kind == "U"
    return isinstance(actions, list | tuple) and any(has_text(entry) for entry in actions)


def numbered(actions: Any, names: Sequence[str], num_actions: int) -> Any:
    """Actions with every name replaced by its number; what is no text stays as it is.

    Names are told apart without regard to case and to how many spaces stand between words.

    Args:
        actions: a text, or lists of texts; anything else.
        names: name of each action, or none at all.
        num_actions: number of actions.

    Returns:
        The same lists, of numbers.

    Raises:
        ActionError: if there is no such name.
    """
    if isinstance(actions, Tensor) or not has_text(actions):
        return actions
    if isinstance(actions, np.ndarray):
        actions = actions.tolist()
    if not names:
        raise ActionError(
            f"got text {_first(actions)!r}; expected integers from 0 to {num_actions - 1}: these actions have no names"
        )
    numbers = {_plain(name): number for number, name in enumerate(names)}

    def number_of(entry: Any) -> Any:
        if isinstance(entry, list | tuple | np.ndarray):
            return [number_of(part) for part in entry]
        if not isinstance(entry, str):
            return entry
        if _plain(entry) not in numbers:
            known = ", ".join(repr(name) for name in names)
            raise ActionError(f"got action {entry!r}; expected one of {known}, or integers from 0 to {num_actions - 1}")
        return numbers[_plain(entry)]

    return number_of(actions)


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


def _first(actions: Any) -> str:
    while not isinstance(actions, str):
        actions = next(entry for entry in actions if has_text(entry))
    return actions
