"""What a scenario's file says: records, checked but not yet tied to a world."""

import math
from dataclasses import dataclass
from typing import Any

from cfworld.envs.scenarios.conditions import Comparison, Condition
from cfworld.envs.scenarios.source import Place
from cfworld.settings import Choice

__all__ = ["Act", "Assertion", "Branch", "Cue", "Output", "Plan", "Start", "nearest_frame"]


class Act(Choice):
    """What a cue may ask for."""

    ACTION = "action"
    """One action, for as long as the cue lasts."""
    ACTIONS = "actions"
    """One action for each frame, over and over."""
    TEXT = "text"
    """A text, in a world whose actions are texts."""
    POLICY = "policy"
    """Whoever is named chooses."""


class Output(Choice):
    """What may be written of a scenario."""

    VIDEO = "video"
    STRIP = "strip"
    JSON = "json"
    DATASET = "dataset"


@dataclass(frozen=True, kw_only=True, slots=True)
class Cue:
    """An entry of a timeline: who acts, and from when on. Times are seconds of the episode."""

    act: Act
    given: Any
    """What stands behind `act` in the file."""
    at: float
    """When it begins; with `when`, from when on the condition is watched."""
    follows: bool
    """Whether it begins when the cue before it ends; in whole frames that may be later than `at`."""
    when: Condition | None
    """It begins after each step that meets this, unless it acts already."""
    seconds: float | None
    """How long it lasts; None for ever."""
    once: bool
    """Whether it begins only the first time that the condition holds."""
    place: Place
    """Where `given` stands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """One continuation."""

    name: str
    fork: float
    """When it leaves the scenario's own timeline, in seconds of the episode."""
    timeline: tuple[Cue, ...] | None
    """What it plays from there; None to go on with the scenario's own timeline."""
    noise: str | int
    """`shared`, `own`, or a seed."""
    place: Place
    """Where the fork, or else the branch, stands."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Assertion:
    """What shall hold of each of its branches. One of `alive`, `ended` and `check` is given."""

    alive: float | None
    """The episode has not ended by this second."""
    ended: float | None
    """The episode has ended by this second."""
    check: Comparison | None
    branches: tuple[str, ...]
    first: float
    """Frames of `check` count from this second on."""
    last: float
    """Frames of `check` count up to this second."""
    whole: bool
    """Whether these two leave nothing out."""
    place: Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where the episode begins: one of the two is given, or none for the start that the scenario's seed draws."""

    given: int | str | None
    """An index or an address; see `cfworld.envs.starts`."""
    seed: int | None
    """Draws a shipped start."""
    place: Place


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All that a scenario's file says."""

    name: str
    about: str
    world: str
    variant: str | None
    memory: str | None
    ends: str | None
    seed: int
    start: Start
    seconds: float
    timeline: tuple[Cue, ...]
    branches: tuple[Branch, ...]
    """At least one."""
    assertions: tuple[Assertion, ...]
    outputs: tuple[Output, ...]
    places: dict[str, Place]
    """Where each key of the file's top level stands."""


def nearest_frame(frames: int | float) -> int:
    """The nearest whole frame, the later one of two: what lasts whole frames keeps its length wherever it begins."""
    return math.floor(frames + 0.5)
