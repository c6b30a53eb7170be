"""Agents in dream and in reality: how well they do, which are better than which, and whether the dream knows it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from cfworld.agents.evaluate import Scores
from cfworld.metrics.bootstrap import Interval, mean_interval
from cfworld.metrics.markdown_table import RIGHT, markdown_table

__all__ = ["PolicyScores", "agent_figures", "agent_table", "paired_difference", "rank_correlation"]


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyScores:
    """How one policy did, by place: "dream", "twin", or both."""

    policy: str
    places: Mapping[str, Scores]
    about: Mapping[str, Any] = field(default_factory=dict)
    """What its card says of it."""


def paired_difference(one: Scores, other: Scores) -> Interval:
    """By how much the first does better on the same seeds; where one played fewer, on those that both played."""
    count = min(len(one.returns), len(other.returns))
    return mean_interval(one.returns[:count] - other.returns[:count])


def rank_correlation(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> float:
    """Spearman's correlation: of the ranks, equal values sharing theirs; NaN where either side is constant."""
    ranks = [_ranks(np.asarray(values, float)) for values in (one, other)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def agent_figures(found: Sequence[PolicyScores], baselines: Sequence[str]) -> dict[str, Any]:
    """Everything that the table shows, and every single return.

    Args:
        found: the policies.
        baselines: the policies among them that others are compared with.
    """
    by_name = {scores.policy: scores for scores in found}
    figures: dict[str, Any] = {"policies": {}}
    for scores in found:
        figures["policies"][scores.policy] = {
            **{place: _place(values) for place, values in scores.places.items()},
            "paired": {
                place: {
                    name: paired_difference(values, by_name[name].places[place])
                    for name in baselines
                    if name != scores.policy and name in by_name and place in by_name[name].places
                }
                for place, values in scores.places.items()
            },
            "about": dict(scores.about),
        }
    both = [scores for scores in found if {"dream", "twin"} <= scores.places.keys()]
    means = [np.array([scores.places[place].returns.mean() for scores in both]) for place in ("dream", "twin")]
    figures["rank_correlation"] = {
        "value": rank_correlation(*means) if len(both) > 1 else None,
        "policies": len(both),
    }
    return figures


def agent_table(figures: Mapping[str, Any], baselines: Sequence[str], about: Mapping[str, Any]) -> str:
    """The figures as Markdown.

    Args:
        figures: what `agent_figures` gave.
        baselines: see there.
        about: what was evaluated and how, shown at the top.
    """
    policies: Mapping[str, Any] = figures["policies"]
    lines = ["# Agents in dream and in reality", "", *(f"- {name}: {value}" for name, value in about.items()), ""]
    lines += ["Scores are mean returns with 95 % bootstrap intervals over episodes.", ""]
    heads = ["policy", "dream", "sd", "twin", "sd", "cut off in the twin"]
    rows = [
        [name, *_cells(entry.get("dream")), *_cells(entry.get("twin")), _share(entry.get("twin"))]
        for name, entry in policies.items()
    ]
    lines += [*_table(heads, rows), ""]
    compared = [name for name in baselines if name in policies]
    for place in ("twin", "dream"):
        rows = [
            [name, *(_written(entry["paired"][place].get(other)) for other in compared)]
            for name, entry in policies.items()
            if place in entry["paired"]
        ]
        if rows and compared:
            lines += [f"## Better than, in the {place}", "", "Differences on the same seeds; bold where the interval "]
            lines[-1] += "lies above zero."
            lines += ["", *_table(["policy", *compared], rows), ""]
    correlation = figures["rank_correlation"]
    if correlation["value"] is not None and not np.isnan(correlation["value"]):
        lines += [
            f"Rank correlation (Spearman) of dream and twin over {correlation['policies']} policies: "
            f"{correlation['value']:.2f}.",
            "",
        ]
    return "\n".join(lines)


def _place(scores: Scores) -> dict[str, Any]:
    return {
        "score": mean_interval(scores.returns),
        "sd": float(scores.returns.std(ddof=1)) if len(scores.returns) > 1 else float("nan"),
        "ticks": mean_interval(scores.ticks),
        "cut_off": float(1 - scores.ended.mean()),
        "returns": scores.returns,
    }


def _ranks(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Ranks from 1, those of equal values averaged."""
    below = (values[None] < values[:, None]).sum(axis=1)
    equal = (values[None] == values[:, None]).sum(axis=1)
    return below + (equal + 1) / 2


def _cells(place: Mapping[str, Any] | None) -> list[str]:
    if place is None:
        return ["-", "-"]
    return [_interval(place["score"]), "-" if np.isnan(place["sd"]) else f"{place['sd']:.0f}"]


def _share(place: Mapping[str, Any] | None) -> str:
    return "-" if place is None else f"{place['cut_off']:.2f}"


def _interval(interval: Interval) -> str:
    bounds = "" if np.isnan(interval.low) else f" [{interval.low:.1f}, {interval.high:.1f}]"
    return f"{interval.mean:.1f}{bounds}"


def _written(difference: Interval | None) -> str:
    if difference is None:
        return "-"
    if np.isnan(difference.low):
        return f"{difference.mean:+.1f}"
    text = f"{difference.mean:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]"
    return f"**{text}**" if difference.low > 0 else text


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return markdown_table(heads, rows, ["---", *[RIGHT] * (len(heads) - 1)])
