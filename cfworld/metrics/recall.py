"""Recall: does what was seen look the same on return?

The camera leaves a view and comes back to the same pose, by a full turn or by leaving and returning. The
view that the world then shows is compared with the twin's, and looked for among 16 views of the episode.
Only what the episode drew anew is compared: the twin's compass looks the same in every episode and needs
no memory. A world that stands still would return perfectly without having left, so a return only counts
where the views moved as they were driven: in all steps together, and in those alone in which the camera did not rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt8

from cfworld.metrics import images
from cfworld.metrics.bootstrap import Interval, mean_interval
from cfworld.metrics.judgement import CEILING, CHANCE

__all__ = ["NUM_VIEWS", "Returned", "Scores", "has_moved", "retrieved", "score"]

NUM_VIEWS = 16
"""Views among which the true one must be nearest."""
MAX_SHIFT = 4
"""Horizontal shift, in pixels, up to which a view is still the same."""
SHIFT_TOLERANCE = 3
"""A step moves the view as driven when its shift is at most this many pixels from the twin's."""
MOVED_SHARE = 0.75
"""A return counts where at least this share of the steps moved the view as driven."""
_LARGEST_SHIFT = 14


@dataclass(frozen=True, kw_only=True, slots=True)
class Returned:
    """What was seen on one route, over B starts; the rows of pixels that do not count are cut off."""

    departed: UInt8[np.ndarray, "B h W 3"]
    """The last real view before leaving."""
    track: UInt8[np.ndarray, "B n h W 3"]
    """The view at the end of each step; the last one is the view on return."""
    promotions: Int64[np.ndarray, " B"] | None = None
    """Chunks flagged for slow memory while away; None for what has no memory of ours."""
    given: int = 0
    """Steps at the beginning that were not made but given."""
    resting: Bool[np.ndarray, " n"] | None = None
    """Steps in which the camera was to stand still; None where there are none."""

    @property
    def back(self) -> UInt8[np.ndarray, "B h W 3"]:
        """The view on return."""
        return self.track[:, -1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """How B returns by one route went."""

    recalled: Float64[np.ndarray, " B"]
    """1 where the true view is nearest to the one shown and the camera had moved as driven, else 0."""
    psnr: Float64[np.ndarray, " B"]
    """Of the view on return against the twin's, in dB."""
    moved: Float64[np.ndarray, " B"] | None = None
    """1 where the camera moved as it was driven, else 0."""
    psnr_departed: Float64[np.ndarray, " B"] | None = None
    """Of the view on return against the view that was left, in dB."""
    promoted: Float64[np.ndarray, " B"] | None = None
    """1 where a chunk was flagged for slow memory while away, else 0."""

    def figures(self) -> dict[str, Interval]:
        """Means over the starts, of what was measured."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: mean_interval(found) for name, found in values.items() if found is not None}


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
    """Whether the camera moved as it was driven: a world that stands still has nothing to return from.

    However long a rest is, it does not make up for ways that were not taken.
    """
    as_driven = np.abs(step_shifts(made) - step_shifts(truth)) <= SHIFT_TOLERANCE
    own = np.arange(as_driven.shape[1]) >= made.given
    ways = own if truth.resting is None else own & ~truth.resting
    return np.all([as_driven[:, steps].mean(axis=1) >= MOVED_SHARE for steps in (own, ways)], axis=0)


def score(
    made: Mapping[str, Returned],
    truth: Returned,
    ceiling: UInt8[np.ndarray, "B h W 3"],
    candidates: UInt8[np.ndarray, "B V h W 3"],
    seed: int = 0,
) -> dict[str, Scores]:
    """Score the returns by one route.

    Args:
        made: what each world showed.
        truth: what the twin showed.
        ceiling: the twin's view on return through the tokenizer.
        candidates: views of the episode, the last one the twin's view on return.
        seed: draws the view that stands for chance.

    Returns:
        The scores of each world, of the ceiling and of chance.
    """
    last = candidates.shape[1] - 1
    scores = {}
    for name, seen in made.items():
        moved = has_moved(seen, truth)
        scores[name] = Scores(
            recalled=(moved & (retrieved(seen.back, candidates) == last)).astype(np.float64),
            psnr=images.psnr(seen.back, truth.back),
            moved=moved.astype(np.float64),
            psnr_departed=images.psnr(seen.back, seen.departed),
            promoted=None if seen.promotions is None else (seen.promotions > 0).astype(np.float64),
        )
    scores[CEILING] = Scores(
        recalled=(retrieved(ceiling, candidates) == last).astype(np.float64), psnr=images.psnr(ceiling, truth.back)
    )
    rows = np.arange(len(candidates))
    other = candidates[rows, np.random.default_rng(seed).integers(last, size=len(rows))]
    scores[CHANCE] = Scores(recalled=np.full(len(rows), 1 / (last + 1)), psnr=images.psnr(other, truth.back))
    return scores
