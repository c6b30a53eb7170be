"""Recall: does what was seen look the same on return?

The camera leaves a view and comes back to the same pose, by a full turn or by leaving and returning. The
view that the world then shows is compared with the twin's, and looked for among 16 views of the episode.
Only what the episode drew anew is compared: the twin's compass looks the same in every episode and needs
no memory. A world that stands still would return perfectly without having left, so a return only counts
where the views moved as they were driven.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from cfworld.metrics import images, plots
from cfworld.metrics.bootstrap import Interval, mean_interval
from cfworld.metrics.judgement import Bars, Judgement, Picture, Table

__all__ = [
    "CEILING",
    "CHANCE",
    "NUM_VIEWS",
    "Returned",
    "effective_context",
    "has_moved",
    "judge_routes",
    "recall",
    "retrieved",
]

NUM_VIEWS = 16
"""Views among which the true one must be nearest."""
MAX_SHIFT = 4
"""Horizontal shift, in pixels, up to which a view is still the same."""
SHIFT_TOLERANCE = 3
"""A step moves the view as driven when its shift is at most this many pixels from the twin's."""
MOVED_SHARE = 0.75
"""A return counts where at least this share of the steps moved the view as driven."""
_LARGEST_SHIFT = 14
CEILING, CHANCE = "tokenizer", "chance"


@dataclass(frozen=True, kw_only=True, slots=True)
class Returned:
    """What was seen on one route, over B starts; the rows of pixels that do not count are cut off."""

    departed: UInt8[np.ndarray, "B h W 3"]
    """The last real view before leaving."""
    track: UInt8[np.ndarray, "B n h W 3"]
    """The view at the end of each step; the last one is the view on return."""

    @property
    def back(self) -> UInt8[np.ndarray, "B h W 3"]:
        """The view on return."""
        return self.track[:, -1]


def retrieved(
    views: UInt8[np.ndarray, "B h W 3"], candidates: UInt8[np.ndarray, "B V h W 3"]
) -> Int64[np.ndarray, " B"]:
    """Which candidate is nearest to each view, best over horizontal shifts of up to `MAX_SHIFT` pixels."""
    width = views.shape[2]
    centre = candidates[..., MAX_SHIFT : width - MAX_SHIFT, :].astype(np.float32)
    errors = []
    for shift in range(2 * MAX_SHIFT + 1):
        shifted = views[:, None, :, shift : width - 2 * MAX_SHIFT + shift].astype(np.float32)
        errors.append(((shifted - centre) ** 2).mean(axis=(-3, -2, -1)))
    return np.min(errors, axis=0).argmin(axis=1)


def step_shifts(seen: Returned) -> Int64[np.ndarray, "B n"]:
    """Horizontal shift of the view in each step, in pixels, by the best match of the brightness."""
    views = images.luma(np.concatenate([seen.departed[:, None], seen.track], axis=1))
    before, after = views[:, :-1], views[:, 1:]
    width = views.shape[-1]
    errors = []
    for shift in range(-_LARGEST_SHIFT, _LARGEST_SHIFT + 1):
        kept = slice(max(0, -shift), width - max(0, shift))
        moved = slice(max(0, shift), width - max(0, -shift))
        errors.append(((after[..., moved] - before[..., kept]) ** 2).mean(axis=(-2, -1)))
    return np.argmin(errors, axis=0) - _LARGEST_SHIFT


def has_moved(made: Returned, truth: Returned) -> Bool[np.ndarray, " B"]:
    """Whether the camera moved as it was driven: a world that stands still has nothing to return from."""
    as_driven = np.abs(step_shifts(made) - step_shifts(truth)) <= SHIFT_TOLERANCE
    return as_driven.mean(axis=1) >= MOVED_SHARE


def effective_context(
    away: Sequence[float], recalls: Sequence[Interval], baseline: Sequence[float], ceiling: Sequence[float]
) -> float:
    """ECL: the largest d such that recall's lower bound exceeds the midpoint of baseline and ceiling up to d.

    Args:
        away: times d, rising, in seconds.
        recalls: recall at each time.
        baseline: what a model without long memory, or chance, reaches at each.
        ceiling: what the tokenizer allows at each.

    Returns:
        The time, or 0 if the shortest one is not reached.
    """
    reached = 0.0
    for time, recalled, floor, top in zip(away, recalls, baseline, ceiling, strict=True):
        if not recalled.above((floor + top) / 2):
            break
        reached = time
    return reached


def recall(
    made: Mapping[str, Returned],
    truth: Returned,
    ceiling: UInt8[np.ndarray, "B h W 3"],
    candidates: UInt8[np.ndarray, "B V h W 3"],
    seed: int = 0,
) -> dict[str, dict[str, Interval]]:
    """Figures of one route.

    Args:
        made: what each world showed.
        truth: what the twin showed.
        ceiling: the twin's view on return through the tokenizer.
        candidates: views of the episode, the last one the twin's view on return.
        seed: draws the view that stands for chance.

    Returns:
        For each world, the ceiling and chance: `recalled` (left, and the true view is nearest), `psnr`
        against the twin's view on return (dB), `moved`; for worlds also `psnr_departed` against the view
        that was left.
    """
    last = candidates.shape[1] - 1
    figures = {}
    for name, seen in made.items():
        moved = has_moved(seen, truth)
        figures[name] = {
            "recalled": mean_interval(moved & (retrieved(seen.back, candidates) == last)),
            "psnr": mean_interval(images.psnr(seen.back, truth.back)),
            "moved": mean_interval(moved),
            "psnr_departed": mean_interval(images.psnr(seen.back, seen.departed)),
        }
    other = np.random.default_rng(seed).integers(last, size=len(candidates))
    figures[CEILING] = {
        "recalled": mean_interval(retrieved(ceiling, candidates) == last),
        "psnr": mean_interval(images.psnr(ceiling, truth.back)),
    }
    figures[CHANCE] = {
        "recalled": Interval(mean=1 / (last + 1), low=1 / (last + 1), high=1 / (last + 1), count=len(candidates)),
        "psnr": mean_interval(images.psnr(candidates[np.arange(len(candidates)), other], truth.back)),
    }
    return figures


def judge_routes(
    routes: Mapping[str, Mapping[str, Mapping[str, Interval]]],
    away: Mapping[str, float],
    worlds: Sequence[str],
) -> Judgement:
    """Put the routes' figures together.

    Args:
        routes: the figures of `recall`, by route.
        away: seconds from leaving to returning of the routes that leave and return.
        worlds: names of the worlds; one called `baseline` stands in for chance.
    """
    floor = "baseline" if "baseline" in worlds else CHANCE
    context = {name: _context(routes, away, name, floor) for name in worlds}
    return Judgement(
        metric="recall",
        figures={"routes": routes, "away": away, "effective_context_seconds": context, "floor": floor},
        bars={name: _bars(routes, name, floor) for name in worlds},
        tables=[
            Table(
                title=f"Recall on return, {route}",
                columns=[
                    "",
                    "recalled",
                    "PSNR to the twin (dB)",
                    "PSNR to the view left (dB)",
                    "moved as driven",
                ],
                rows=[
                    [name, *(f.get(key) for key in ("recalled", "psnr", "psnr_departed", "moved"))]
                    for name, f in figures.items()
                ],
                note=f"Recalled: nearest among {NUM_VIEWS} views of the episode, having moved as driven.",
            )
            for route, figures in routes.items()
        ],
        pictures=[
            Picture(
                name="recall.png",
                caption="Recall and PSNR of the view on return, by route",
                write=partial(plots.recall, routes=routes),
            )
        ],
    )


def _context(routes: Mapping, away: Mapping[str, float], name: str, floor: str) -> float | None:
    if not away:
        return None
    order = sorted(away, key=lambda route: away[route])
    return effective_context(
        [away[route] for route in order],
        [routes[route][name]["recalled"] for route in order],
        [routes[route][floor]["recalled"].mean for route in order],
        [routes[route][CEILING]["recalled"].mean for route in order],
    )


def _bars(routes: Mapping[str, Mapping[str, Mapping[str, Interval]]], name: str, floor: str) -> Bars:
    bars: dict[str, bool | None] = {}
    for route, figures in routes.items():
        for key, what in (("recalled", "recalls the view"), ("psnr", "shows the view")):
            midpoint = (figures[floor][key].mean + figures[CEILING][key].mean) / 2
            moved = figures[name]["moved"].mean > 0.5
            bars[f"{what} after {route}"] = moved and figures[name][key].above(midpoint)
    return bars
