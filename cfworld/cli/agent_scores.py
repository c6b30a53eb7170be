"""Scores that are kept, so that a comparison that was interrupted, or grows, plays nothing twice."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cfworld import files
from cfworld.agents.card import read_card
from cfworld.agents.drawing import DRAWING
from cfworld.agents.evaluate import Scores
from cfworld.agents.planner import PlannerConfig
from cfworld.data.policy_files import agent_folder, policy_digests
from cfworld.errors import CheckpointError

__all__ = ["kept_or_played", "who"]


def who(name: str, planner: PlannerConfig) -> dict[str, Any]:
    """All that decides how a player acts, besides the world: a changed script or agent is another.

    Args:
        name: as `make_player` knows them.
        planner: how the planner plans.
    """
    about: dict[str, Any] = {"policy": name}
    if name == "planner":
        about["planner"] = asdict(planner)
    elif (folder := agent_folder(name)) is not None:
        card = read_card(folder)
        about["agent"] = asdict(card)
        if not card.deterministic:
            about["drawing"] = DRAWING
    elif digests := policy_digests([name]):
        (about["script"],) = digests.values()  # or the file of an agent of Stable-Baselines3
    return about


def kept_or_played(folder: Path, key: Mapping[str, Any], play: Callable[[], Scores]) -> Scores:
    """The scores that were kept under a key; where there are none, play, and keep what comes out.

    Args:
        folder: of the kept scores, one file each.
        key: plain values that name who plays where, and which episodes.
        play: plays them.

    Raises:
        CheckpointError: if the file of those that were kept is damaged.
    """
    text = json.dumps(key, sort_keys=True)
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"
    if path.exists():
        return _read(path)
    folder.mkdir(parents=True, exist_ok=True)  # or nothing is played that could not be kept
    scores = play()
    columns = {name: values.tolist() for name, values in asdict(scores).items()}
    files.write_json(path, {"key": dict(key), **columns})
    return scores


def _read(path: Path) -> Scores:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return Scores(
            returns=np.array(kept["returns"], float),
            ticks=np.array(kept["ticks"], np.int64),
            ended=np.array(kept["ended"], bool),
        )
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it, and its episodes are played again") from error
