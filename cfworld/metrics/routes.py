"""Driving the camera away and back, in the twin and in worlds, to measure recall."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from cfworld.envs.twins import Twin
from cfworld.errors import ConfigError
from cfworld.export.film_strip import write_film_strip
from cfworld.metrics.judgement import Judgement, Picture
from cfworld.metrics.progress import Bar, silent_bar, watched
from cfworld.metrics.recall import NUM_VIEWS, Returned, judge_routes, recall
from cfworld.metrics.recordings import Recording, held_out, record
from cfworld.metrics.rollouts import WorldLike, reconstructed, rollout

__all__ = ["TURNS", "RecallConfig", "Turn", "run_recall"]

_STRIP_LOOKS = 9


@dataclass(frozen=True, kw_only=True, slots=True)
class Turn:
    """How to turn the camera of a twin around."""

    action: int
    """The action that pans one way."""
    back: int
    """The action that pans the other way."""
    ticks: int
    """Ticks of a full turn, after which the pose is exactly the same."""
    rows: tuple[int, int]
    """Rows of the picture that are drawn anew for every episode."""


TURNS: Mapping[str, Turn] = {"cfworld/PanoramaReal-v0": Turn(action=2, back=1, ticks=128, rows=(8, 52))}
"""The twins that can be turned around, by their ids."""


@dataclass(kw_only=True, slots=True)
class RecallConfig:
    """How recall is measured.

    Attributes:
        away: Seconds of game time from leaving to returning, half of them on the way out.
        full_turn: Also make a full turn.
        starts: Number of episodes.
    """

    away: list[float] = field(default_factory=lambda: [6.4, 9.6])
    full_turn: bool = True
    starts: int = 32

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        if self.starts < 1 or (not self.away and not self.full_turn) or any(d <= 0 for d in self.away):
            raise ConfigError(
                f"recall has away={self.away}, full_turn={self.full_turn}, starts={self.starts}; expected a "
                "full turn or times above 0, and at least one start"
            )


def run_recall(
    worlds: Mapping[str, WorldLike],
    twin: Twin,
    source: str,
    config: RecallConfig,
    prefix_ticks: int,
    first_seed: int,
    batch: int = 32,
    bar: Bar = silent_bar,
) -> Judgement:
    """Drive away and back in the twin and in the worlds, and judge.

    Args:
        worlds: the worlds to judge; the tokenizer of the first one is the ceiling.
        twin: the simulator.
        source: its id, one of `TURNS`.
        config: which routes.
        prefix_ticks: real frames before leaving; enough to fill sink and fast memory.
        first_seed: the first evaluation seed.
        batch: rows generated together.
        bar: shows how far it is.

    Raises:
        ConfigError: if nobody knows how to turn this twin around.
    """
    if source not in TURNS:
        raise ConfigError(f"recall knows no way to turn {source!r} around; it knows {', '.join(TURNS)}")
    turn = TURNS[source]
    first = next(iter(worlds.values()))
    per_step, fps = first.config.frames_per_step, first.config.fps
    around = np.full(turn.ticks, turn.action)
    found = held_out(twin, config.starts, per_step, prefix_ticks, first_seed=first_seed, god=True)
    counted = watched(found, bar, "recall: twin", config.starts, "episode")
    starts = [_replay(twin, start, around) for start in counted]
    candidates = np.stack([start.frames[_view_ticks(turn)] for start in starts])[:, :, slice(*turn.rows)]
    paths = _routes(turn, config, fps, per_step)
    routes, pictures = {}, []
    for route, actions in paths.items():
        truths = starts if route == "full turn" else [_replay(twin, start, actions) for start in starts]
        ends = list(range(per_step - 1, len(actions), per_step))
        shown = {"twin": np.stack([truth.frames[ends] for truth in truths])}
        for name, world in worlds.items():
            title = f"recall: {name}, {route}"
            shown[name] = rollout(world, truths, batch=batch, bar=bar, title=title).at(ends)
        departed = np.stack([start.prefix[-1] for start in starts])
        rows = slice(*turn.rows)
        seen = {k: Returned(departed=departed[:, rows], track=v[:, :, rows]) for k, v in shown.items()}
        last_step = np.stack([truth.frames[-per_step:] for truth in truths])
        ceiling = reconstructed(first, last_step)[:, -1, rows]
        truth = seen.pop("twin")
        routes[route] = recall(seen, truth, ceiling, candidates)
        pictures.append(_strip(route, shown, departed, per_step / fps))
    away = {_route_name(d): d for d in config.away}
    judged = judge_routes(routes, away, list(worlds))
    return Judgement(
        metric=judged.metric,
        figures=judged.figures,
        bars=judged.bars,
        tables=judged.tables,
        pictures=[*judged.pictures, *pictures],
    )


def _replay(twin: Twin, start: Recording, actions: np.ndarray) -> Recording:
    again = record(twin, start.seed, start.history, actions, len(start.prefix), god=True)
    assert again is not None, "an episode without an end ended"
    return again


def _view_ticks(turn: Turn) -> list[int]:
    """Ticks of equally spaced views of a full turn; the last one is the view on return."""
    return [turn.ticks * (i + 1) // NUM_VIEWS - 1 for i in range(NUM_VIEWS)]


def _routes(turn: Turn, config: RecallConfig, fps: int, per_step: int) -> dict[str, np.ndarray]:
    """Actions of each route, by its name; whole steps out and back."""
    routes = {}
    for seconds in config.away:
        half = max(1, round(seconds * fps / per_step / 2)) * per_step
        routes[_route_name(seconds)] = np.repeat([turn.action, turn.back], half)
    if config.full_turn:
        routes["full turn"] = np.full(turn.ticks, turn.action)
    return routes


def _route_name(seconds: float) -> str:
    return f"away for {seconds:g} s"


def _strip(route: str, shown: Mapping[str, np.ndarray], departed: np.ndarray, step_seconds: float) -> Picture:
    num_steps = shown["twin"].shape[1]
    chosen = np.unique(np.linspace(1, num_steps, min(_STRIP_LOOKS, num_steps)).round().astype(int))
    rows = {name: np.concatenate([departed[:1], frames[0, chosen - 1]]) for name, frames in shown.items()}
    labels = ["left", *(f"{step * step_seconds:.1f} s" for step in chosen)]
    return Picture(
        name=f"recall_{route.replace(' ', '_')}.png",
        caption=f"Start 0, {route}: the twin above, generated below",
        write=partial(write_film_strip, rows=rows, labels=labels),
    )
