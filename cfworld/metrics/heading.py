"""Where the camera looks, told by a compass in the frames: a world whose heading drifts brings another view back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jaxtyping import Int64, UInt8

from cfworld.data import panorama
from cfworld.metrics.bootstrap import Interval, mean_interval
from cfworld.metrics.judgement import Judgement, Picture, Table
from cfworld.metrics.plots import charts
from cfworld.metrics.recall import MAX_SHIFT

__all__ = ["COMPASSES", "Compass", "add_headings"]

Shown = Mapping[str, UInt8[np.ndarray, "B n H W 3"]]
"""What was seen by one route at the end of each step, by the "twin" and by each world."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compass:
    """How to read the heading off the frames of a twin."""

    read: Callable[[UInt8[np.ndarray, "*batch H W 3"]], Int64[np.ndarray, "*batch"]]
    """Headings of frames, in pixels of panning."""
    circumference: int
    """Pixels of a full turn."""

    def beside(
        self, headings: Int64[np.ndarray, "*batch"], truth: Int64[np.ndarray, "*batch"]
    ) -> Int64[np.ndarray, "*batch"]:
        """How far headings lie beside the true ones, in pixels to the right, the shorter way around."""
        half = self.circumference // 2
        return (headings - truth + half) % self.circumference - half


COMPASSES: Mapping[str, Compass] = {
    "cfworld/PanoramaReal-v0": Compass(read=panorama.read_heading, circumference=panorama.CIRCUMFERENCE)
}
"""The twins whose frames tell the heading, by their ids."""


def add_headings(judged: Judgement, compass: Compass, routes: Mapping[str, Shown], step_seconds: float) -> Judgement:
    """Recall's judgement with the errors of the heading: on return by each route, and along the longest of them."""
    errors = {}
    for route, shown in routes.items():
        read = {name: compass.read(frames) for name, frames in shown.items()}
        truth = read.pop("twin")
        errors[route] = {name: compass.beside(headings, truth) for name, headings in read.items()}
    returns = {
        route: {
            name: {
                "error": mean_interval(np.abs(found[:, -1])),
                "within": mean_interval(np.abs(found[:, -1]) <= MAX_SHIFT),
            }
            for name, found in worlds.items()
        }
        for route, worlds in errors.items()
    }
    longest = max(errors, key=lambda route: next(iter(errors[route].values())).shape[1])
    picture = Picture(
        name="heading.png",
        caption=f"Error of the heading, {longest}: median, and the middle half of the starts",
        write=partial(charts.heading, errors=errors[longest], step_seconds=step_seconds, tolerance=MAX_SHIFT),
    )
    return replace(
        judged,
        figures={**judged.figures, "headings": returns},
        tables=[*judged.tables, _table(returns)],
        pictures=[*judged.pictures, picture],
    )


def _table(returns: Mapping[str, Mapping[str, Mapping[str, Interval]]]) -> Table:
    return Table(
        title="Error of the heading on return (pixels)",
        columns=["", "world", "mean", f"share within {MAX_SHIFT} pixels"],
        rows=[
            [route, name, found["error"], found["within"]]
            for route, worlds in returns.items()
            for name, found in worlds.items()
        ],
        note="By the compass in the frames, against the simulator's. Retrieval allows for as many pixels.",
    )
