"""Warnings that point at the user's line, however many calls of the package and of its wrappers lie between."""

import sys
import warnings

__all__ = ["advise"]

_BETWEEN = {"cfworld", "gymnasium", "torch", "contextlib", "jaxtyping", "beartype"}
"""Packages whose lines are not the user's."""


def advise(message: str) -> None:
    """Warn the user, a `UserWarning`, at the first line of the call stack that is neither ours nor a wrapper's."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").partition(".")[0] in _BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)
