"""Plays a timeline: at every frame, of the cues that run, the one that began last acts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from cfworld.envs.scenarios.acts import Actor, Played
from cfworld.envs.scenarios.schema import Cue, nearest_frame

__all__ = ["CastCue", "Player"]


@dataclass(frozen=True, slots=True)
class CastCue:
    """A cue, and from a seed to who plays it."""

    cue: Cue
    new_actor: Callable[[int], Actor]


@dataclass(slots=True)
class _Run:
    """A cue that runs, or will."""

    order: int
    begin: int
    end: float
    actor: Actor


class Player:
    """Plays one row's timeline, frame by frame.

    Args:
        cues: the timeline.
        fps: frames per second of game time.
        seed: names the noise of its policies, together with the place of the cue.
        first_frame: no cue begins before it.
        neutral: what is done where no cue runs.
    """

    def __init__(self, cues: Sequence[CastCue], fps: int, seed: int, first_frame: int, neutral: Played):
        self._cues = cues
        self._fps = fps
        self._seed = seed
        self._neutral = neutral
        self._first: list[int] = []
        self._begun = [0] * len(cues)
        self._runs: dict[int, _Run] = {}
        end = 0.0  # in frames, and not rounded: what is left out at one cue would add up over many
        for order, one in enumerate(cues):
            begin = max(end if one.cue.follows else one.cue.at * fps, first_frame)
            self._first.append(nearest_frame(begin))
            end = self._end(one.cue, begin)
            if one.cue.when is None:
                self._begin(order, nearest_frame(begin), end)

    def play(self, first: int, count: int, frames: np.ndarray) -> Played:
        """Act at the frames `first` to `first + count - 1` of the episode.

        Args:
            first: the first of them.
            count: how many.
            frames: those of the last step, uint8 [F, H, W, 3].
        """
        parts: list[Played] = []
        here, stop = first, first + count
        while here < stop:
            acting = self._acting(here)
            length = 1
            while here + length < stop and self._acting(here + length) is acting:
                length += 1
            if acting is None:
                parts.append(Played(self._neutral.actions.repeat_interleave(length, 0), self._neutral.labels * length))
            else:
                parts.append(acting.actor(frames, length))
            here += length
        return Played(torch.cat([part.actions for part in parts]), [label for part in parts for label in part.labels])

    def watch(self, frame: int, signals: Mapping[str, float]) -> None:
        """Begin the cues whose conditions hold after a step.

        Args:
            frame: the next frame to be played.
            signals: see `Condition.holds`.
        """
        acting = self._acting(frame)
        for order, (cast, first) in enumerate(zip(self._cues, self._first, strict=True)):
            condition = cast.cue.when
            if condition is None or frame < first or (cast.cue.once and self._begun[order]):
                continue
            if condition.holds(signals) and (acting is None or acting.order != order):
                self._begin(order, frame, self._end(cast.cue, frame))

    def _end(self, cue: Cue, begin: int | float) -> float:
        """When a cue ends that begins then, in frames: it acts at one of them at least."""
        return math.inf if cue.seconds is None else max(begin + cue.seconds * self._fps, nearest_frame(begin) + 1.0)

    def _begin(self, order: int, frame: int, end: float) -> None:
        sequence = np.random.SeedSequence((self._seed, order, self._begun[order]))
        actor = self._cues[order].new_actor(int(sequence.generate_state(1, np.uint64)[0]))
        self._runs[order] = _Run(order, frame, end if math.isinf(end) else float(nearest_frame(end)), actor)
        self._begun[order] += 1

    def _acting(self, frame: int) -> _Run | None:
        running = [run for run in self._runs.values() if run.begin <= frame < run.end]
        return max(running, key=lambda run: (run.begin, run.order), default=None)
