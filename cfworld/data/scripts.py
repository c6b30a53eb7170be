"""Scripts: actions and for how many ticks each is held, written down in a file."""

import json
from pathlib import Path

import gymnasium as gym
import numpy as np

from cfworld.data.choices import written_action
from cfworld.errors import ConfigError

__all__ = ["read_script"]


def read_script(path: Path, space: gym.Space) -> list[tuple[np.ndarray, int]]:
    """Reads a script.

    Args:
        path: A JSON list of `[action, ticks]`, or a text of `action ticks` a line, where # begins a comment.
        space: Its actions are of this space.

    Returns:
        The pairs of an action and for how many ticks it is held, at least one.

    Raises:
        ConfigError: The file cannot be read, or holds what is no action or no number of ticks.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            pairs = json.loads(text)
        else:
            lines = [line.split("#")[0].split() for line in text.splitlines()]
            pairs = [[int(word) for word in line] for line in lines if line]
        pairs = [(action, ticks) for action, ticks in pairs]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"script {str(path)!r} cannot be read ({error}); expected a JSON list of [action, ticks], or one "
            "'action ticks' a line"
        ) from error
    if not pairs:
        raise ConfigError(f"script {str(path)!r} holds no tick; expected at least one [action, ticks] pair")
    chosen = []
    for place, (written, ticks) in enumerate(pairs, start=1):
        action = written_action(written, space)
        if action is None:
            raise ConfigError(f"script {str(path)!r} has {written!r} in pair {place}; expected an action of {space}")
        if type(ticks) is not int or ticks < 1:
            raise ConfigError(
                f"script {str(path)!r} keeps action {written!r} for {ticks!r} ticks in pair {place}; expected a "
                "whole number from 1"
            )
        chosen.append((action, ticks))
    return chosen
