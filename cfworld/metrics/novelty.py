"""Novelty: does a world notice when what it is shown, or told to do, is nothing that it knows?

Real frames of held-out seeds are read as if the world had made them, and so are the same frames spoilt; then the
world itself goes on from the starts, under the recorded actions, under actions that switch at every tick, and for
long. A score that is worth anything lies low on the first and high on the second; what it says of the last is what
`truncate_above` cuts off.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Shaped, UInt8

from cfworld.envs.twins import Twin
from cfworld.errors import ConfigError
from cfworld.metrics.bootstrap import Interval, mean_interval, resampled_pairs
from cfworld.metrics.corruptions import CORRUPTIONS, FIRST_STEP_ONLY
from cfworld.metrics.judgement import Bars, Judgement, Picture, Table
from cfworld.metrics.plots import charts
from cfworld.metrics.progress import Bar, silent_bar, watched
from cfworld.metrics.recordings import Recording, held_out
from cfworld.metrics.rollouts import WorldLike, begin
from cfworld.prefix import take_in
from cfworld.world import World

__all__ = ["NoveltyConfig", "Scores", "judge_novelty", "run_novelty", "switching_actions"]

TYPICAL_BAR = 0.05
"""At most this share of the steps of real continuations may have a novelty above 1; it should be 0.01."""
AUROC_BAR = 0.7
"""Mean over the corruptions of the area under the curve, which its lower bound must reach; chance is 0.5."""


@dataclass(kw_only=True, slots=True)
class NoveltyConfig:
    """How the novelty score is judged.

    Attributes:
        seconds: Real continuation after each start, spoilt in each way in turn.
        starts: Number of starts.
        ages: When rollouts of the world itself are looked at, in seconds of game time after the start; each over
            `seconds` before it.
    """

    seconds: float = 4.0
    starts: int = 32
    ages: list[float] = field(default_factory=lambda: [4.0, 15.0, 60.0])

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        possible = self.seconds > 0 and all(self.seconds <= age < math.inf for age in self.ages)
        if not self.ages or not possible or self.starts < 2:
            raise ConfigError(
                f"novelty has seconds={self.seconds}, starts={self.starts}, ages={self.ages}; expected a time above 0, "
                "at least 2 starts, since each one lends its frames to another, and finite ages of at least that time"
            )
        self.ages = sorted(self.ages)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """Novelty of the steps of B episodes."""

    real: Float64[np.ndarray, "B _"]
    """Of real continuations."""
    corrupted: Mapping[str, Float64[np.ndarray, "B _"]]
    """Of the same ones spoilt, by the way; those that are real again after one step have S = 1."""
    generated: Float64[np.ndarray, "B _"]
    """Of the world's own continuations under the recorded actions."""
    switching: Float64[np.ndarray, "B _"]
    """Of those under actions that switch at every tick."""
    aged: Mapping[float, Float64[np.ndarray, "B _"]]
    """Of long rollouts, by seconds after the start."""


def judge_novelty(scores: Mapping[str, Scores | None]) -> Judgement:
    """Judge the scores of each world.

    Args:
        scores: what was measured; None for a world without a score.
    """
    known = {name: found for name, found in scores.items() if found is not None}
    figures = {name: _figures(found) for name, found in known.items()}
    picture = Picture(
        name="novelty.png",
        caption="Novelty of real, spoilt and generated steps: median, middle half and middle 90 %",
        write=partial(charts.novelty, steps={name: _by_kind(found) for name, found in known.items()}),
    )
    return Judgement(
        metric="novelty",
        figures={name: figures.get(name) for name in scores},
        bars={name: _bars(figures.get(name)) for name in scores},
        tables=[_table(name, found) for name, found in figures.items()],
        pictures=[picture] if known else [],
    )


def run_novelty(
    worlds: Mapping[str, WorldLike],
    twin: Twin,
    config: NoveltyConfig,
    prefix_ticks: int,
    first_seed: int,
    bar: Bar = silent_bar,
) -> Judgement:
    """Score real, spoilt and generated continuations by each world.

    Args:
        worlds: the worlds; controls around a world, which have no score, are passed over.
        twin: the simulator, which gives starts and truth.
        config: how long and how many.
        prefix_ticks: frames before a start.
        first_seed: the first evaluation seed.
        bar: shows how far it is.
    """
    ours = {name: world for name, world in worlds.items() if isinstance(world, World)}
    settings = next(iter(worlds.values())).config
    per_step = settings.frames_per_step
    length, *ages = (max(1, round(s * settings.fps / per_step)) for s in (config.seconds, *config.ages))
    episodes = held_out(twin, config.starts, ages[-1] * per_step, prefix_ticks, first_seed=first_seed, god=True)
    recordings = list(watched(episodes, bar, "novelty: twin", config.starts, "episode"))
    scores: dict[str, Scores | None] = {}
    for name, world in ours.items():
        if world.novelty is None:
            scores[name] = None
            continue
        with bar(f"novelty: {name}", config.starts * ((len(CORRUPTIONS) + 2) * length + ages[-1]), "row-step") as done:
            scores[name] = _scores(world, recordings, length, dict(zip(config.ages, ages, strict=True)), done)
    return judge_novelty(scores)


def switching_actions(world: World, rows: int, ticks: int) -> Shaped[np.ndarray, "B T *A"]:
    """Another action at every tick: discrete ones in turn, the corners of a box back and forth."""
    settings = world.config.actions
    if settings.num_actions:
        turns = np.arange(ticks) % settings.num_actions
    else:
        turns = np.array([settings.low, settings.high], np.float32)[np.arange(ticks) % 2]
    return np.repeat(turns[None], rows, axis=0)


def _scores(world: World, recordings: Sequence[Recording], length: int, ages: Mapping[float, int], done: Any) -> Scores:
    per_step = world.config.frames_per_step
    truth = np.stack([recording.frames[: length * per_step] for recording in recordings])
    frames = truth.reshape(len(recordings), length, per_step, *truth.shape[2:])
    actions = np.stack([recording.actions for recording in recordings])
    rolled = _generated(world, recordings, actions, done)
    spoilt = {}
    for name, corruption in CORRUPTIONS.items():
        found = _read(world, recordings, corruption(frames), actions, done)
        spoilt[name] = found[:, :1] if name in FIRST_STEP_ONLY else found
    return Scores(
        real=_read(world, recordings, frames, actions, done),
        corrupted=spoilt,
        generated=rolled[:, :length],
        switching=_generated(world, recordings, switching_actions(world, len(recordings), length * per_step), done),
        aged={age: rolled[:, steps - length : steps] for age, steps in ages.items()},
    )


@torch.inference_mode()
def _read(
    world: World,
    recordings: Sequence[Recording],
    frames: UInt8[np.ndarray, "B S F H W 3"],
    actions: np.ndarray,
    done: Any,
) -> Float64[np.ndarray, "B S"]:
    """Novelty of given frames, read by clean passes as if the world had made them."""
    config, generator, score = world.config, world.generator, world.novelty
    assert score is not None
    memory, per_step, found = begin(world, recordings).memory, config.frames_per_step, []
    for step in range(frames.shape[1]):
        chosen = actions[:, step * per_step : (step + 1) * per_step]
        per_latent = world.actions_per_latent(chosen, len(frames))
        latents = world.tokenizer.encode(torch.from_numpy(np.ascontiguousarray(frames[:, step])).to(world.device))
        clean = take_in(generator, config.memory, memory, latents.float(), per_latent)
        found.append(score.of(memory, clean.keys).double().cpu().numpy())
        memory = clean.memory
        done(len(frames))
    return np.stack(found, axis=1)


def _generated(
    world: World, recordings: Sequence[Recording], actions: np.ndarray, done: Any
) -> Float64[np.ndarray, "B S"]:
    """Novelty of what the world makes under actions."""
    state, per_step, found = begin(world, recordings), world.config.frames_per_step, []
    for step in range(actions.shape[1] // per_step):
        state, output = world.step(state, actions[:, step * per_step : (step + 1) * per_step], decode=False)
        found.append(output.novelty.double().cpu().numpy())
        done(len(recordings))
    return np.stack(found, axis=1)


def _figures(scores: Scores) -> dict[str, Any]:
    apart = {name: _pairs(scores.real, found) for name, found in scores.corrupted.items()}
    return {
        "steps": {name: _summary(found) for name, found in _by_kind(scores).items()},
        "auroc": {name: resampled_pairs(pairs) for name, pairs in apart.items()},
        "auroc_mean": resampled_pairs(np.mean(list(apart.values()), axis=0)),
        "auroc_switching": resampled_pairs(_pairs(scores.generated, scores.switching)),
    }


def _by_kind(scores: Scores) -> dict[str, Float64[np.ndarray, "B S"]]:
    aged = {f"generated, {age:g} s": found for age, found in scores.aged.items()}
    return {"real": scores.real, **scores.corrupted, **aged, "switching": scores.switching}


def _summary(found: Float64[np.ndarray, "B S"]) -> dict[str, Any]:
    return {"median": float(np.median(found)), "above_1": mean_interval((found > 1).mean(axis=1))}


def _pairs(low: Float64[np.ndarray, "B S"], high: Float64[np.ndarray, "B T"]) -> Float64[np.ndarray, "B B"]:
    """Share of the pairs of steps of any two episodes in which the second one's is higher; ties count half."""
    order = np.sort(low, axis=1)
    counts = [
        [np.searchsorted(row, other, "left").mean() + np.searchsorted(row, other, "right").mean() for other in high]
        for row in order
    ]
    return np.array(counts) / (2 * low.shape[1])


def _bars(figures: Mapping[str, Any] | None) -> Bars:
    if figures is None:
        return {"real continuations look real": None, "told from corrupted ones": None}
    return {
        "real continuations look real": figures["steps"]["real"]["above_1"].mean <= TYPICAL_BAR,
        "told from corrupted ones": figures["auroc_mean"].low >= AUROC_BAR,
    }


def _table(name: str, figures: Mapping[str, Any]) -> Table:
    apart: dict[str, Interval] = {**figures["auroc"], "switching": figures["auroc_switching"]}
    rows = [[kind, found["median"], found["above_1"], apart.get(kind)] for kind, found in figures["steps"].items()]
    return Table(
        title=f"Novelty of steps, {name}",
        columns=["", "median", "share above 1", "AUROC"],
        rows=[*rows, ["mean of the corruptions", None, None, figures["auroc_mean"]]],
        note=(
            "AUROC: how often a spoilt step is odder than a real one, chance 0.5; for actions that switch at every "
            "tick, odder than a generated step under the recorded ones."
        ),
    )
