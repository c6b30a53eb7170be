"""What all plots share."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cfworld.metrics.bootstrap import Interval
from cfworld.metrics.plots import charts


def drawn(tmp_path: Path, names: list[str], num_panels: int) -> tuple[Figure, list[Axes]]:
    """Panels that all hold a curve of every name, with one legend."""
    with charts.panels(tmp_path / "plot.png", num_panels) as axes:
        for ax in axes:
            for name in names:
                ax.plot([0, 1], [0, 1], label=name)
        charts.legend_below(axes)
    figure = axes[0].get_figure()
    assert isinstance(figure, Figure)
    return figure, axes


@pytest.mark.parametrize("num_panels", [1, 2, 4])
@pytest.mark.parametrize("names", [["world"], ["world", "last frame", "a student with a window of 23", "tokenizer"]])
def test_a_legend_names_every_curve_once_and_covers_no_panel(tmp_path: Path, names: list[str], num_panels: int):
    figure, axes = drawn(tmp_path, names, num_panels)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == names
    place = legend.get_window_extent()
    assert figure.bbox.x0 <= place.x0 < place.x1 <= figure.bbox.x1
    assert not any(place.overlaps(ax.get_window_extent()) for ax in axes)


def test_a_legend_leaves_the_panels_as_tall_as_they_were(tmp_path: Path):
    heights = []
    for names in (["world"], [f"a student with another memory, number {i}" for i in range(6)]):
        _, (ax,) = drawn(tmp_path, names, 1)
        heights.append(ax.get_window_extent().height)
    assert heights[1] == pytest.approx(heights[0], rel=0.05)


def test_a_part_of_the_memory_has_one_colour_in_all_panels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    colours: list[tuple[str, str]] = []
    scatter = Axes.scatter

    def watched(ax: Axes, *given: object, color: str, label: str, **more: object) -> object:
        colours.append((label, color))
        return scatter(ax, *given, color=color, label=label, **more)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Axes, "scatter", watched)
    effects = {
        name: SimpleNamespace(kinds=kinds, ages=np.zeros((len(kinds), 2)), sizes=np.zeros((len(kinds), 2)))
        for name, kinds in {"world": ["fast"], "baseline": ["sink", "slow", "fast"]}.items()
    }
    charts.probe(tmp_path / "probe.png", effects)
    assert [kind for kind, _ in colours] == ["fast", "sink", "slow", "fast"]
    assert len(set(colours)) == 3


@pytest.mark.parametrize(
    ("routes", "label"),
    [
        (["away 4 s", "full turn"], "seconds away (crosses: full turn)"),
        (["away 4 s"], "seconds away"),
    ],
)
def test_recall_says_what_stands_beside_its_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, routes: list[str], label: str
):
    labels: list[str] = []
    monkeypatch.setattr(Axes, "set", lambda ax, *, title, xlabel: labels.append(xlabel))
    found = {key: Interval(mean=0.5, low=0.4, high=0.6, count=8) for key in ("recalled", "psnr")}
    charts.recall(tmp_path / "recall.png", {route: {"world": found} for route in routes}, {"away 4 s": 4.0}, {})
    assert labels == [label] * 2


def test_the_legend_of_recall_says_which_contexts_are_ones_over_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    labels: list[str] = []
    monkeypatch.setattr(charts, "band", lambda ax, x, intervals, name, colour: labels.append(name))
    found = {key: Interval(mean=0.5, low=0.4, high=0.6, count=8) for key in ("recalled", "psnr")}
    context = {"world": {"recalled": 2.4, "psnr": 0.0}, "window": {"recalled": 9.6, "psnr": 2.4}}
    route = {"away 4 s": dict.fromkeys(context, found)}
    charts.recall(tmp_path / "recall.png", route, {"away 4 s": 4.0}, context, ["window"])
    assert labels[:2] == [
        "world (over the best baseline: ECL 2.4 s, by PSNR 0 s)",
        "window (over chance: ECL 9.6 s, by PSNR 2.4 s)",
    ]


def test_curves_without_names_have_no_legend(tmp_path: Path):
    figure, _ = drawn(tmp_path, [], 2)
    assert not figure.legends
