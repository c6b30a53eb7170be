"""ECL, the effective context length: how long a world may look away before it forgets.

ECL is the largest time d such that at every d' up to it the lower 95 % bound exceeds the midpoint of baseline and
ceiling. The baseline is the best one at that time, or chance where that is better or stands alone. At times that a
baseline's own memory still covers it is surely above chance and reaches the ceiling, and no world can exceed their
midpoint with its lower bound: such a time tells nothing of long memory, and passes where the world is not below the
baseline either.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from cfworld.metrics.bootstrap import Interval, mean_interval
from cfworld.metrics.judgement import CEILING, CHANCE, Bars, Judgement, Picture, Table
from cfworld.metrics.plots import charts
from cfworld.metrics.recall import NUM_VIEWS, Scores

__all__ = ["effective_context", "judge_routes"]

CONTEXT_BAR = 20.0
"""Seconds of game time that the effective context must reach."""
ADVANTAGE_FROM = 2.0
"""Seconds away from which on a world must beat every baseline."""
_QUANTITIES = {"recalled": "recalls the view", "psnr": "shows the view"}

Figures = Mapping[str, Mapping[str, Interval]]
"""Intervals of one route, by name and quantity."""


def effective_context(
    away: Sequence[float],
    recalls: Sequence[Interval],
    baselines: Sequence[Sequence[Interval]],
    ceiling: Sequence[Interval],
    chance: Sequence[Interval],
) -> float:
    """ECL: the largest d such that recall's lower bound exceeds the midpoint of baseline and ceiling up to d.

    Args:
        away: times d, rising, in seconds.
        recalls: recall at each time; NaN where it was not measured.
        baselines: what the models without long memory reach, those of each time together; each may be empty.
        ceiling: what the tokenizer allows at each time.
        chance: what guessing reaches at each.

    Returns:
        The time, or 0 if the shortest one is not reached.
    """
    reached = 0.0
    for time, recalled, rivals, top, guess in zip(away, recalls, baselines, ceiling, chance, strict=True):
        if not _remembers(recalled, rivals, top, guess):
            break
        reached = time
    return reached


def judge_routes(
    routes: Mapping[str, Mapping[str, Scores]],
    away: Mapping[str, float],
    worlds: Sequence[str],
    baselines: Sequence[str] = (),
    seen_seconds: float = 0.0,
) -> Judgement:
    """Put the scores of all routes together.

    Args:
        routes: the scores of each world, the ceiling and chance, by route.
        away: seconds from leaving to returning of the routes that leave and return.
        worlds: names of the worlds.
        baselines: which of them are baselines; they stand in for chance, and every other world is set against them.
        seen_seconds: seconds of true frames that all of them saw before leaving.
    """
    figures = {route: {name: found.figures() for name, found in scores.items()} for route, scores in routes.items()}
    context = {
        name: {key: _context(figures, away, name, baselines, key) if away else None for key in _QUANTITIES}
        for name in worlds
    }
    others = [name for name in worlds if name not in baselines]
    advantages = {name: {base: _advantages(routes, name, base) for base in baselines} for name in others}
    return Judgement(
        metric="recall",
        figures={
            "routes": figures,
            "away": dict(away),
            "seen_seconds": seen_seconds,
            "effective_context_seconds": {name: found["recalled"] for name, found in context.items()},
            "effective_context_seconds_by_psnr": {name: found["psnr"] for name, found in context.items()},
            "floor": list(baselines) or [CHANCE],
            "advantages": advantages,
        },
        bars={name: _bars(figures, away, name, baselines, context, advantages) for name in worlds},
        tables=[
            _context_table(context, baselines, seen_seconds),
            *_advantage_tables(advantages),
            *_route_tables(figures),
        ],
        pictures=[
            Picture(
                name="recall.png",
                caption="Recall and PSNR of the view on return, by the time away; crosses: a full turn",
                write=partial(charts.recall, routes=figures, away=away, context=context, baselines=baselines),
            )
        ],
    )


def _remembers(found: Interval, rivals: Sequence[Interval], top: Interval, guess: Interval) -> bool:
    floor = max([*rivals, guess], key=lambda reached: reached.mean)
    if found.above((floor.mean + top.mean) / 2):
        return True
    is_covered = floor.above(guess.mean) and floor.high >= top.low
    return is_covered and found.mean >= floor.low and found.high >= top.low


def _rivals(figures: Figures, key: str, name: str, baselines: Sequence[str]) -> list[Interval]:
    """The baselines that a world is set against by one route; one of them is itself set against chance alone."""
    return [] if name in baselines else [figures[base][key] for base in baselines]


def _has_moved(figures: Figures, name: str) -> bool:
    return figures[name]["moved"].mean > 0.5


def _passes(figures: Figures, name: str, baselines: Sequence[str], key: str) -> bool:
    """Whether a world remembers by one route."""
    rivals = _rivals(figures, key, name, baselines)
    return _has_moved(figures, name) and _remembers(
        figures[name][key], rivals, figures[CEILING][key], figures[CHANCE][key]
    )


def _context(
    routes: Mapping[str, Figures], away: Mapping[str, float], name: str, baselines: Sequence[str], key: str
) -> float:
    order = sorted(away, key=lambda route: away[route])
    nothing = Interval(mean=np.nan, low=np.nan, high=np.nan, count=0)
    return effective_context(
        [away[route] for route in order],
        [routes[route][name][key] if _has_moved(routes[route], name) else nothing for route in order],
        [_rivals(routes[route], key, name, baselines) for route in order],
        [routes[route][CEILING][key] for route in order],
        [routes[route][CHANCE][key] for route in order],
    )


def _advantages(routes: Mapping[str, Mapping[str, Scores]], name: str, base: str) -> dict[str, dict[str, Interval]]:
    """By how much a world beats a baseline by each route, over pairs of the same start."""
    return {
        route: {key: mean_interval(getattr(scores[name], key) - getattr(scores[base], key)) for key in _QUANTITIES}
        for route, scores in routes.items()
    }


def _bars(
    routes: Mapping[str, Figures],
    away: Mapping[str, float],
    name: str,
    baselines: Sequence[str],
    context: Mapping[str, Mapping[str, float | None]],
    advantages: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Interval]]]],
) -> Bars:
    bars: dict[str, bool | None] = {}
    reached = context[name]["recalled"]
    bars[f"effective context of {CONTEXT_BAR:g} s"] = None if reached is None else reached >= CONTEXT_BAR
    for base, found in advantages.get(name, {}).items():
        tested = [found[route] for route, seconds in away.items() if seconds >= ADVANTAGE_FROM]
        better = all(figures[key].low > 0 for figures in tested for key in _QUANTITIES)
        bars[f"beats {base} at every time away of {ADVANTAGE_FROM:g} s or more"] = better if tested else None
    for route, figures in routes.items():
        for key, what in _QUANTITIES.items():
            bars[f"{what} after {route}"] = _passes(figures, name, baselines, key)
    return bars


def _context_table(
    context: Mapping[str, Mapping[str, float | None]], baselines: Sequence[str], seen_seconds: float
) -> Table:
    floor = "the best baseline, or of chance where it is no better" if baselines else "chance"
    own = " A baseline is itself set against chance." if baselines else ""
    return Table(
        title="Effective context length (s)",
        columns=["", "by retrieval", "by PSNR"],
        rows=[[name, found["recalled"], found["psnr"]] for name, found in context.items()],
        note=(
            f"The longest time away up to which the lower bound exceeds the midpoint of {floor} and the ceiling."
            f"{own} Before leaving, the worlds were shown {seen_seconds:g} s of true frames."
        ),
    )


def _advantage_tables(
    advantages: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Interval]]]],
) -> list[Table]:
    return [
        Table(
            title=f"What {name} has over {base}, paired by start",
            columns=["", "recalled", "PSNR (dB)"],
            rows=[[route, f["recalled"], f["psnr"]] for route, f in found.items()],
        )
        for name, bases in advantages.items()
        for base, found in bases.items()
    ]


def _route_tables(routes: Mapping[str, Figures]) -> list[Table]:
    keys = ("recalled", "psnr", "psnr_departed", "moved", "promoted")
    columns = ["", "recalled", "PSNR to the twin (dB)", "PSNR to the view left (dB)", "moved as driven", "promoted"]
    return [
        Table(
            title=f"Recall on return, {route}",
            columns=columns,
            rows=[[name, *(found.get(key) for key in keys)] for name, found in figures.items()],
            note=(
                f"Recalled: nearest among {NUM_VIEWS} views of the episode, having moved as driven. "
                "Promoted: a chunk was flagged for slow memory while away, where it goes as it leaves fast memory."
            ),
        )
        for route, figures in routes.items()
    ]
