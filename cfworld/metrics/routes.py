"""Driving the camera away and back, in the twin and in worlds, to measure recall."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cfworld.envs.twins import Twin
from cfworld.errors import ConfigError
from cfworld.export.film_strip import write_film_strip
from cfworld.metrics.effective_context import judge_routes
from cfworld.metrics.heading import COMPASSES, add_headings
from cfworld.metrics.judgement import Judgement, Picture
from cfworld.metrics.progress import Bar, silent_bar, watched
from cfworld.metrics.recall import NUM_VIEWS, Returned, Scores, score
from cfworld.metrics.recordings import Recording, policy_actions, record
from cfworld.metrics.rollouts import WorldLike, reconstructed, rollout
from cfworld.metrics.turning import TURNS, Turn, leave_and_return, turn_of

__all__ = ["TURNS", "RecallConfig", "approaches", "prefix_ticks", "run_recall"]

FULL_TURN = "full turn"
_WANDER = 100
"""Ticks of random panning before an approach, so that it begins anywhere."""
_STRIP_LOOKS = 9


@dataclass(kw_only=True, slots=True)
class RecallConfig:
    """How recall is measured.

    Attributes:
        away: Times d from leaving to returning, in seconds of game time, rounded to an even number of steps. Beyond
            half a turn's time the camera stays on the opposite side, panning to and fro.
        full_turn: Also make a full turn.
        still: Seconds for which the camera stands still before each way back, in addition to the times in `away`.
        real_turns: Turns of real frames that a world has seen before the view is left, at least. 0: as many frames as
            fill sink and fast memory of every world that is judged, so that what lies on the way is the world's own
            invention; 1: it has seen everything, and what it shows can only be remembered or not. Baselines with long
            windows ask for many frames: to set a world beside one that was judged with them, show it as many.
        real_away: Real frames while away, too. The world generates only the end of the way back, as long as it takes to
            renew all that is in sight, so that errors of its own do not add up: what is left is what it remembers.
        starts: Number of episodes.
        strips: Episodes shown as film strips.
    """

    away: list[float] = field(default_factory=lambda: [2.4, 4.0, 6.4, 9.6, 12.8, 16.0, 20.0, 24.0, 32.0])
    full_turn: bool = True
    still: float = 0.0
    real_turns: float = 0.0
    real_away: bool = False
    starts: int = 32
    strips: int = 3

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        if self.starts < 1 or (not self.away and not self.full_turn) or not all(0 < d < math.inf for d in self.away):
            raise ConfigError(
                f"recall has away={self.away}, full_turn={self.full_turn}, starts={self.starts}; expected a "
                "full turn or finite times above 0, and at least one start"
            )
        for name in ("real_turns", "still"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"recall has {name}={getattr(self, name)}; expected 0 or more")
        self.away = sorted(self.away)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Route:
    """What was seen by one route, all rows of pixels, at the end of each step."""

    shown: Mapping[str, UInt8[np.ndarray, "B n H W 3"]]
    """By the twin, and by each world."""
    scores: Mapping[str, Scores]


def run_recall(
    worlds: Mapping[str, WorldLike],
    twin: Twin,
    source: str,
    config: RecallConfig,
    first_seed: int,
    batch: int = 32,
    baselines: Sequence[str] = (),
    bar: Bar = silent_bar,
) -> Judgement:
    """Drive away and back in the twin and in the worlds, and judge.

    Args:
        worlds: the worlds to judge; the tokenizer of the first one is the ceiling.
        twin: the simulator.
        source: its id, one of `TURNS`.
        config: which routes.
        first_seed: the first evaluation seed.
        batch: rows generated together.
        baselines: which of the worlds are baselines.
        bar: shows how far it is.

    Raises:
        ConfigError: if nobody knows how to turn this twin around.
    """
    turn = turn_of(source)
    settings = next(iter(worlds.values())).config
    per_step = settings.frames_per_step
    prefix = prefix_ticks(worlds, turn, config.real_turns)
    found = approaches(twin, turn, config.starts, prefix, first_seed)
    starts = list(watched(found, bar, "recall: twin", config.starts, "episode"))
    departed = np.stack([start.prefix[-1] for start in starts])
    views = np.stack([start.frames[_view_ticks(turn)] for start in starts])
    paths = _routes(turn, config, settings.fps, per_step)
    away = {route: len(actions) / settings.fps for route, actions in paths.items() if route != FULL_TURN}
    routes = {}
    for route, actions in paths.items():
        real = _real_ticks(turn, len(actions), per_step) if config.real_away else 0
        routes[route] = _drive(worlds, twin, turn, starts, views, actions, real, route, batch, bar)
    scores = {route: driven.scores for route, driven in routes.items()}
    judged = judge_routes(scores, away, list(worlds), baselines, prefix / settings.fps)
    strips = [_returns_strip(routes, departed, row) for row in range(min(config.strips, config.starts))]
    longest = max(routes, key=lambda route: away.get(route, 0))
    track = _track_strip(longest, routes[longest].shown, departed, per_step / settings.fps)
    judged = replace(judged, pictures=[*judged.pictures, *strips, track])
    if source not in COMPASSES:
        return judged
    seen = {route: driven.shown for route, driven in routes.items()}
    return add_headings(judged, COMPASSES[source], seen, per_step / settings.fps)


def prefix_ticks(worlds: Mapping[str, WorldLike], turn: Turn, real_turns: float = 0.0) -> int:
    """Ticks of real frames before leaving, whole steps.

    In every world sink and fast memory must then be full, with a latent that has left the sink behind, and the view
    that is left must be out of the sink's sight.
    """
    return max(_prefix_ticks(world.config, turn, real_turns) for world in worlds.values())


def _prefix_ticks(settings: Any, turn: Turn, real_turns: float) -> int:
    memory = settings.memory
    filled = (memory.num_sink + memory.num_stored_fast + 1) * settings.frames_per_latent
    beyond_sink = memory.num_sink * settings.frames_per_latent + turn.hidden
    wanted = max(filled, beyond_sink, round(real_turns * turn.ticks))
    return -(-wanted // settings.frames_per_step) * settings.frames_per_step


def _real_ticks(turn: Turn, num_ticks: int, per_step: int) -> int:
    """Ticks of a route that a world may be shown, whole steps: what is left renews all that is in sight."""
    ticks = max(num_ticks - turn.hidden, 0)
    return ticks - ticks % per_step


def approaches(twin: Twin, turn: Turn, num_starts: int, prefix: int, first_seed: int) -> Iterator[Recording]:
    """Episodes that come to their start by panning one way for at least `prefix` ticks, and go on to a full turn."""
    for seed in range(first_seed, first_seed + num_starts):
        wander = policy_actions(twin, "sticky", _WANDER, seed)
        history = np.concatenate([wander, np.full(turn.settle + prefix, turn.action, wander.dtype)])
        yield _recorded(twin, seed, history, np.full(turn.ticks, turn.action, wander.dtype), prefix)


def _recorded(twin: Twin, seed: int, history: np.ndarray, actions: np.ndarray, prefix: int) -> Recording:
    recording = record(twin, seed, history, actions, prefix, god=True)
    assert recording is not None, "an episode without an end ended"
    return recording


def _view_ticks(turn: Turn) -> list[int]:
    """Ticks of equally spaced views of a full turn, without the last one, which is the view on return."""
    return [turn.ticks * (i + 1) // NUM_VIEWS - 1 for i in range(NUM_VIEWS - 1)]


def _routes(turn: Turn, config: RecallConfig, fps: int, per_step: int) -> dict[str, np.ndarray]:
    """Actions of each route, by its name; times that round to the same path are one."""
    numbers = sorted({2 * max(1, round(seconds * fps / per_step / 2)) for seconds in config.away})
    still = round(config.still * fps / per_step)
    if config.still and not still:
        raise ConfigError(f"recall has still={config.still}; expected at least a step, {per_step / fps:g} s, or 0")
    routes = {
        f"away for {(number + still) * per_step / fps:g} s": leave_and_return(turn, number, per_step, still)
        for number in numbers
    }
    if config.full_turn:
        routes[FULL_TURN] = np.full(turn.ticks, turn.action)
    return routes


def _drive(
    worlds: Mapping[str, WorldLike],
    twin: Twin,
    turn: Turn,
    starts: Sequence[Recording],
    views: np.ndarray,
    actions: np.ndarray,
    real: int,
    route: str,
    batch: int,
    bar: Bar,
) -> _Route:
    """Drive one route in the twin and in every world, which is shown the truth for the first `real` ticks of it."""
    first = next(iter(worlds.values()))
    per_step, rows = first.config.frames_per_step, slice(*turn.rows)
    ends = list(range(per_step - 1, len(actions), per_step))
    truths, shown, last_steps = [], [], []
    for start in starts:
        truth = _recorded(twin, start.seed, start.history, actions, len(start.prefix))
        shown.append(truth.frames[ends])
        last_steps.append(truth.frames[-per_step:])
        truths.append(truth.begun_later(real).without_frames())
    seen: dict[str, np.ndarray] = {"twin": np.stack(shown)}
    promotions, given = {}, 0
    for name, world in worlds.items():
        generated = rollout(world, truths, batch=batch, bar=bar, title=f"recall: {name}, {route}")
        own = generated.at([end - real for end in ends if end >= real])
        given = len(ends) - own.shape[1]
        seen[name] = np.concatenate([seen["twin"][:, :given], own], axis=1)
        promotions[name] = None if real else generated.promotions
    departed = np.stack([start.prefix[-1] for start in starts])[:, rows]
    resting = (actions[: len(ends) * per_step].reshape(len(ends), per_step) == turn.stay).all(axis=1)
    returned = {
        name: Returned(
            departed=departed, track=track[:, :, rows], promotions=promotions.get(name), given=given, resting=resting
        )
        for name, track in seen.items()
    }
    truth = returned.pop("twin")
    ceiling = reconstructed(first, np.stack(last_steps))[:, -1, rows]
    candidates = np.concatenate([views[:, :, rows], truth.back[:, None]], axis=1)
    return _Route(shown=seen, scores=score(returned, truth, ceiling, candidates))


def _returns_strip(routes: Mapping[str, _Route], departed: np.ndarray, row: int) -> Picture:
    """The view left, the one that the twin shows on return and those that the worlds show, by route."""
    names = next(iter(routes.values())).shown
    rows = {"left": np.repeat(departed[row : row + 1], len(routes), axis=0)}
    rows |= {name: np.stack([driven.shown[name][row, -1] for driven in routes.values()]) for name in names}
    return Picture(
        name=f"recall_{row}.png",
        caption=f"Start {row}: the view left, and below it the view on return in the twin and as generated",
        write=partial(write_film_strip, rows=rows, labels=[route.removeprefix("away for ") for route in routes]),
    )


def _track_strip(route: str, shown: Mapping[str, np.ndarray], departed: np.ndarray, step_seconds: float) -> Picture:
    """The longest route from leaving to returning."""
    num_steps = shown["twin"].shape[1]
    chosen = np.unique(np.linspace(1, num_steps, min(_STRIP_LOOKS, num_steps)).round().astype(int))
    rows = {name: np.concatenate([departed[:1], frames[0, chosen - 1]]) for name, frames in shown.items()}
    labels = ["left", *(f"{step * step_seconds:.1f} s" for step in chosen)]
    return Picture(
        name=f"recall_{route.replace(' ', '_')}.png",
        caption=f"Start 0, {route}: the twin above, generated below",
        write=partial(write_film_strip, rows=rows, labels=labels),
    )
