"""Plots of agents."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.text import Annotation, Text

from cfworld.metrics.bootstrap import Interval
from cfworld.metrics.plots.agent_plots import dream_and_real, spread


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ([0.1, 0.5, 0.9], [0.1, 0.5, 0.9]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.3, 0.5, 0.52], [0.3, 0.46, 0.56]),
        ([0.0, 0.0], [0.0, 0.1]),
        ([0.98, 1.0], [0.9, 1.0]),
    ],
)
def test_heights_are_moved_as_little_as_keeps_them_apart(wanted: list[float], found: list[float]):
    assert spread(np.array(wanted), 0.1) == pytest.approx(found)


def test_scores_of_one_episode_are_set_against_the_diagonal_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lines: list[object] = []
    plot = Axes.plot
    monkeypatch.setattr(Axes, "plot", lambda ax, *given, **more: lines.append(given) or plot(ax, *given, **more))
    found = {"score": Interval(mean=150.0, low=np.nan, high=np.nan, count=1)}
    dream_and_real(tmp_path / "plot.png", {"noop": {"dream": found, "twin": found}})
    assert lines[-1] == ([0, 150.0], [0, 150.0])


def test_no_policy_hides_the_name_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Three of the same scores, as a blind agent has that does nothing, and two a little better."""
    names: list[Annotation] = []
    annotate = Axes.annotate

    def watched(ax: Axes, text: str, xy: tuple[float, float], **more: object) -> Annotation:
        names.append(annotate(ax, text, xy, **more))  # pyright: ignore[reportArgumentType]
        return names[-1]

    monkeypatch.setattr(Axes, "annotate", watched)
    scores = {"noop": 150.0, "blind": 150.0, "still": 150.0, "random": 160.0, "the agent": 170.0}
    policies = {}
    for name, score in scores.items():
        found = Interval(mean=score, low=score - 9, high=score + 9, count=8)
        policies[name] = {"dream": {"score": found}, "twin": {"score": found}}
    dream_and_real(tmp_path / "plot.png", policies)
    assert [name.get_text() for name in names] == list(scores)
    places = [Text.get_window_extent(name) for name in names]
    assert all(below.y1 < above.y0 for below, above in pairwise(places))
