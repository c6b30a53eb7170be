"""From the reports of single runs to figures over seeds."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ablation.execute import DONE
from benchmarks.ablation.plan import Run
from benchmarks.ablation.variants import VARIANTS
from cfworld.metrics.bootstrap import Interval
from cfworld.metrics.effective_context import effective_context

__all__ = ["CONTINUED", "SUMMARY", "across_seeds", "collected", "contexts", "continuations", "summarised"]

SUMMARY: Mapping[str, str] = {
    "effective_context": "ECL (s)",
    "recalled": "recall",
    "psnr": "PSNR on return (dB)",
    "colour": "colour off (SD)",
    "sharpness": "sharpness ratio",
    "motion": "motion ratio",
    "promotion_rate": "promotion rate",
    "nominal_span": "nominal span (s)",
    "minutes": "minutes",
}
"""Figures of the table, by key."""
CONTINUED: Mapping[str, str] = {"world": "teacher", "baseline": "teacher without ERFT"}
"""Who continues, by the names of the reports."""
_COLOURS = ("red", "green", "blue", "saturation")
_T_QUANTILES = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
"""97.5 % quantiles of Student's t for 1 to 10 degrees of freedom."""


def across_seeds(values: Sequence[float | None]) -> Interval:
    """Mean over seeds with Student's 95 % interval: a few seeds are too few to resample.

    With one seed there is no interval: its bounds are NaN.
    """
    known = np.array([value for value in values if value is not None], np.float64)
    if len(known) < 2:
        mean = float(known[0]) if len(known) else np.nan
        return Interval(mean=mean, low=np.nan, high=np.nan, count=len(known))
    quantile = _T_QUANTILES[min(len(known) - 1, len(_T_QUANTILES)) - 1]
    mean, half = float(known.mean()), float(quantile * known.std(ddof=1) / np.sqrt(len(known)))
    return Interval(mean=mean, low=mean - half, high=mean + half, count=len(known))


def collected(runs: Sequence[Run]) -> dict[str, dict[int, dict[str, Any]]]:
    """Figures of every evaluation that is done, by variant and seed.

    Args:
        runs: a plan.
    """
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for run in runs:
        report = run.folder / "report.json"
        if run.variant and (run.folder / DONE).is_file() and report.is_file():
            figures = _figures(json.loads(report.read_text(encoding="utf-8")))
            found.setdefault(run.variant, {})[run.seed] = figures | {"minutes": _minutes(run, runs)}
    for seed in {run.seed for run in runs}:
        reached = contexts({name: seeds[seed] for name, seeds in found.items() if seed in seeds})
        for name, seconds in reached.items():
            found[name][seed]["effective_context"] = seconds
    return found


def continuations(runs: Sequence[Run]) -> dict[str, dict[float, dict[str, Interval]]]:
    """Figures over seeds of teachers that continue the student: by who continues, age of the context and quantity."""
    found: dict[str, dict[float, dict[str, list[float | None]]]] = {}
    for run in runs:
        report = run.folder / "report.json"
        if not (run.continues and (run.folder / DONE).is_file() and report.is_file()):
            continue
        figures = json.loads(report.read_text(encoding="utf-8"))["metrics"]["continuation"]
        for name, quantities in figures["continuations"].items():
            for key, intervals in quantities.items():
                for age, interval in zip(figures["ages"], intervals, strict=True):
                    by_age = found.setdefault(CONTINUED.get(name, name), {}).setdefault(age, {})
                    by_age.setdefault(key, []).append(interval["mean"])
    return {
        name: {age: {key: across_seeds(values) for key, values in keys.items()} for age, keys in ages.items()}
        for name, ages in found.items()
    }


def contexts(variants: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    """Effective context of each variant of one seed: against the best baseline, and the baselines' against chance."""
    baselines = [figures for name, figures in variants.items() if VARIANTS[name].baseline]
    reached: dict[str, float | None] = {}
    for name, figures in variants.items():
        away = sorted(figures["recall"])
        if not away:
            reached[name] = None
            continue
        rivals = [] if VARIANTS[name].baseline else baselines
        reached[name] = effective_context(
            away,
            [_recalled(figures["recall"][time]) for time in away],
            [
                [_interval(rival["recall"][time]["recalled"]) for rival in rivals if time in rival["recall"]]
                for time in away
            ],
            [_interval(figures["recall"][time]["ceiling"]) for time in away],
            [_interval(figures["recall"][time]["chance"]) for time in away],
        )
    return reached


def summarised(seeds: Mapping[int, Mapping[str, Any]]) -> dict[str, Interval]:
    """The figures of the table, over the seeds of one variant."""
    return {key: across_seeds([figures.get(key) for figures in seeds.values()]) for key in SUMMARY}


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """What the table needs of one report."""
    metrics = report["metrics"]
    recall = metrics.get("recall", {"routes": {}, "away": {}})
    by_time = {
        float(seconds): {
            "recalled": recall["routes"][route]["world"]["recalled"],
            "psnr": recall["routes"][route]["world"]["psnr"],
            "moved": recall["routes"][route]["world"]["moved"],
            "ceiling": recall["routes"][route]["tokenizer"]["recalled"],
            "chance": recall["routes"][route]["chance"]["recalled"],
        }
        for route, seconds in recall["away"].items()
    }
    drifts = [figures for name, figures in metrics.items() if name.startswith("drift_")]
    drift = max(drifts, key=lambda found: found["seconds"][-1])["worlds"]["world"] if drifts else {}
    kept = metrics.get("promotions", {}).get("world", {})
    return {
        "recall": by_time,
        "full_turn": recall["routes"].get("full turn", {}).get("world", {}).get("recalled"),
        "recalled": _mean([found["recalled"]["mean"] for found in by_time.values()]),
        "psnr": _mean([found["psnr"]["mean"] for found in by_time.values()]),
        "colour": _mean([abs(drift[name]["deviation"]["mean"]) for name in _COLOURS]) if drift else None,
        "sharpness": drift["sharpness"]["ratio"]["mean"] if drift else None,
        "motion": drift["motion"]["ratio"]["mean"] if drift else None,
        "promotion_rate": kept["promotion_rate"]["mean"] if kept else None,
        "nominal_span": kept.get("nominal_span_seconds"),
    }


def _recalled(figures: Mapping[str, Any]) -> Interval:
    """Recall after one time; not measured where the camera did not move as it was driven, as in `cfworld evaluate`."""
    interval = _interval(figures["recalled"])
    return interval if figures["moved"]["mean"] > 0.5 else replace(interval, mean=np.nan, low=np.nan, high=np.nan)


def _interval(figures: Mapping[str, Any]) -> Interval:
    values = {name: np.nan if figures[name] is None else figures[name] for name in ("mean", "low", "high")}
    return Interval(**values, count=figures["count"])


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _minutes(run: Run, runs: Sequence[Run]) -> float:
    """Minutes of the trainings that an evaluation stands on, shared ones included."""
    by_folder = {run.folder: run for run in runs}
    needed, found = [run], dict[Path, Run]()
    while needed:
        for argument in needed.pop().arguments:
            folder = Path(argument.partition("=")[2]).parent
            if argument.endswith("/export") and folder in by_folder and folder not in found:
                found[folder] = by_folder[folder]
                needed.append(found[folder])
    done = [folder / DONE for folder in found]
    return round(sum(json.loads(path.read_text(encoding="utf-8"))["minutes"] for path in done if path.is_file()), 2)
