"""Survival: do agents live as long in the world as in the twin?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from cfworld.envs.twins import Twin
from cfworld.errors import ConfigError
from cfworld.metrics.bootstrap import mean_interval
from cfworld.metrics.judgement import Bars, Judgement, Picture, Table
from cfworld.metrics.plots import charts
from cfworld.metrics.progress import Bar, Progress, silent, silent_bar, watched
from cfworld.metrics.recordings import Recording, held_out
from cfworld.metrics.rollouts import WorldLike, begin

__all__ = ["Lifetimes", "SurvivalConfig", "kaplan_meier", "lifetimes", "run_survival", "survival"]

MEAN_BAR = (0.67, 1.5)
"""The mean lifetime must lie within this range of the twin's."""
MIN_ENDS = 5
"""With fewer ends than this in the twin, lifetimes are not judged."""


@dataclass(kw_only=True, slots=True)
class SurvivalConfig:
    """How survival is measured.

    Attributes:
        policies: Blind policies that act in the twin and in the world.
        starts: Episodes of each policy.
        max_ticks: Ticks after which an episode is cut off; null for the world's own horizon.
    """

    policies: list[str] = field(default_factory=lambda: ["random", "sticky", "sweep"])
    starts: int = 32
    max_ticks: int | None = None

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        least = self.starts if self.max_ticks is None else min(self.starts, self.max_ticks)
        if not self.policies or least < 1:
            raise ConfigError(
                f"survival has policies={self.policies}, starts={self.starts}, max_ticks={self.max_ticks}; "
                "expected at least one policy, start and tick"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Lifetimes:
    """How long episodes lasted, from their reset."""

    ticks: Int64[np.ndarray, " n"]
    """Ticks lived, the last one included."""
    ended: Bool[np.ndarray, " n"]
    """False where the episode was cut off while it ran."""


def kaplan_meier(lives: Lifetimes) -> tuple[Float64[np.ndarray, " k"], Float64[np.ndarray, " k"]]:
    """Share of episodes that outlive each tick at which one ended (Kaplan & Meier 1958).

    Returns:
        The ticks, beginning with 0, and the shares.
    """
    times = np.unique(lives.ticks[lives.ended])
    at_risk = (lives.ticks[None] >= times[:, None]).sum(axis=1)
    deaths = ((lives.ticks[None] == times[:, None]) & lives.ended[None]).sum(axis=1)
    survivors = np.cumprod(1 - deaths / at_risk)
    return np.concatenate([[0.0], times]), np.concatenate([[1.0], survivors])


def median_lifetime(lives: Lifetimes) -> float:
    """Tick that half of the episodes outlive; NaN when more than half were cut off."""
    times, share = kaplan_meier(lives)
    below = times[share <= 0.5]
    return float(below[0]) if len(below) else np.nan


def lifetimes(world: WorldLike, recordings: Sequence[Recording], progress: Progress = silent) -> Lifetimes:
    """Play recorded actions in a world until its episodes end or the actions do. Rows that ended are let go.

    Args:
        world: the world.
        recordings: starts with actions of equal length; the prefix counts as lived.
        progress: told how many row-steps were done.
    """
    per_step = world.config.frames_per_step
    actions = np.stack([recording.actions for recording in recordings])
    lived = np.array([len(recording.history) for recording in recordings]) + actions.shape[1]
    ended = np.zeros(len(recordings), bool)
    state, alive = begin(world, recordings), np.arange(len(recordings))
    for first in range(0, actions.shape[1] - per_step + 1, per_step):
        state, output = world.step(state, actions[alive, first : first + per_step], decode=False)
        progress(len(alive))
        over = np.asarray(output.terminated.cpu(), bool)
        if not over.any():
            continue
        gone = alive[over]
        ended[gone] = True
        lived[gone] = lived[gone] - actions.shape[1] + first + output.end_frame.cpu().numpy()[over] + 1
        alive = alive[~over]
        if len(alive) == 0:
            break
        state = state.select(np.flatnonzero(~over).tolist())
    return Lifetimes(ticks=lived.astype(np.int64), ended=ended)


def twin_lifetimes(recordings: Sequence[Recording]) -> Lifetimes:
    """Lifetimes that recordings tell."""
    ended = np.array([recording.end < len(recording.actions) for recording in recordings])
    after = [min(recording.end + 1, len(recording.actions)) for recording in recordings]
    lived = np.array([len(recording.history) for recording in recordings]) + after
    return Lifetimes(ticks=lived.astype(np.int64), ended=ended)


def survival(lives: Mapping[str, Mapping[str, Lifetimes]], max_ticks: int) -> Judgement:
    """Judge lifetimes against the twin's.

    Args:
        lives: by policy, then by world, `twin` among them.
        max_ticks: ticks after which episodes were cut off.
    """
    figures = {
        policy: {name: _figures(found, worlds["twin"]) for name, found in worlds.items()}
        for policy, worlds in lives.items()
    }
    names = [name for name in next(iter(lives.values())) if name != "twin"]
    return Judgement(
        metric="survival",
        figures={"max_ticks": max_ticks, "policies": figures},
        bars={name: {k: v for p in lives for k, v in _bars(p, lives[p], name).items()} for name in names},
        tables=[
            Table(
                title=f"Lifetime under {policy} (ticks, cut off at {max_ticks})",
                columns=["", "mean", "median", "cut off", "largest difference from the twin's curve"],
                rows=[[name, f["mean"], f["median"], f["cut_off"], f["curve_distance"]] for name, f in worlds.items()],
            )
            for policy, worlds in figures.items()
        ],
        pictures=[
            Picture(
                name="survival.png",
                caption="Share of episodes that still run (Kaplan-Meier)",
                write=partial(
                    charts.survival,
                    curves={p: {n: kaplan_meier(v) for n, v in w.items()} for p, w in lives.items()},
                    max_ticks=max_ticks,
                ),
            )
        ],
    )


def run_survival(
    worlds: Mapping[str, WorldLike],
    twin: Twin,
    config: SurvivalConfig,
    prefix_ticks: int,
    first_seed: int,
    bar: Bar = silent_bar,
) -> Judgement:
    """Let blind policies act in the twin and in the worlds from starts early in the episode, and judge.

    Args:
        worlds: the worlds to judge.
        twin: the simulator.
        config: which policies and how long.
        prefix_ticks: frames before a start, which lies that many ticks after the reset.
        first_seed: the first evaluation seed.
        bar: shows how far it is.

    Raises:
        ConfigError: if episodes are cut off before the world could take a step.
    """
    settings = next(iter(worlds.values())).config
    per_step, max_ticks = settings.frames_per_step, config.max_ticks or settings.horizon_frames
    if max_ticks < prefix_ticks + per_step:
        raise ConfigError(
            f"survival is cut off at tick {max_ticks}; expected at least a step after the prefix of {prefix_ticks}"
        )
    lives: dict[str, dict[str, Lifetimes]] = {}
    for policy in config.policies:
        episodes = held_out(
            twin,
            config.starts,
            (max_ticks - prefix_ticks) // per_step * per_step,
            prefix_ticks,
            first_seed=first_seed,
            policy=policy,
            latest_start=0,
        )
        counted = watched(episodes, bar, f"survival: twin, {policy}", config.starts, "episode")
        recordings = [recording.without_frames() for recording in counted]
        longest = sum(len(recording.actions) for recording in recordings) // per_step
        lives[policy] = {"twin": twin_lifetimes(recordings)}
        for name, world in worlds.items():
            with bar(f"survival: {name}, {policy} (at most)", longest, "row-step") as progress:
                lives[policy][name] = lifetimes(world, recordings, progress)
    return survival(lives, max_ticks)


def curve_distance(first: Lifetimes, second: Lifetimes) -> float:
    """Largest difference between two survival curves, in [0, 1]."""
    (t1, s1), (t2, s2) = kaplan_meier(first), kaplan_meier(second)
    times = np.union1d(t1, t2)
    values = [s[np.searchsorted(t, times, side="right") - 1] for t, s in ((t1, s1), (t2, s2))]
    return float(np.abs(values[0] - values[1]).max())


def _figures(lives: Lifetimes, twin: Lifetimes) -> dict[str, Any]:
    return {
        "mean": mean_interval(lives.ticks),
        "median": median_lifetime(lives),
        "cut_off": float(1 - lives.ended.mean()),
        "curve_distance": curve_distance(lives, twin),
        "ticks": lives.ticks,
    }


def _bars(policy: str, worlds: Mapping[str, Lifetimes], name: str) -> Bars:
    ratio = worlds[name].ticks.mean() / worlds["twin"].ticks.mean()
    measured = worlds["twin"].ended.sum() >= MIN_ENDS
    passed = bool(MEAN_BAR[0] <= ratio <= MEAN_BAR[1])
    return {f"mean lifetime as in the twin under {policy}": passed if measured else None}
