"""The heads: is the predicted reward right, and do episodes end as often as the hazard says?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Float64

from cfworld.metrics.bootstrap import Interval, mean_interval
from cfworld.metrics.judgement import Bars, Judgement, Picture, Table
from cfworld.metrics.plots import charts
from cfworld.metrics.recordings import Recording
from cfworld.metrics.rollouts import Rollout

__all__ = ["Calibration", "calibration", "expected_calibration_error", "heads", "step_hazard"]

ENDS_BAR = (0.5, 2.0)
"""The expected number of ends must lie within this range of the number that the twin had."""
REWARD_TOLERANCE = 0.0025
"""Where the twin's reward never changes, the mean squared error of a tick's reward must stay below this."""
MIN_ENDS = 5
"""With fewer ends than this in the twin, the number of ends is not judged."""
_Z = 1.96
"""Standard deviations to either side within which 95 % of a normal distribution lie."""
_QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """A calibration curve: bins of steps, in the order of the predicted probability."""

    predicted: Float64[np.ndarray, " K"]
    """Mean predicted probability of each bin."""
    observed: Float64[np.ndarray, " K"]
    """Share of its steps in which the episode ended."""
    counts: Float64[np.ndarray, " K"]
    """Number of its steps."""

    def bounds(self) -> tuple[Float64[np.ndarray, " K"], Float64[np.ndarray, " K"]]:
        """Ends of the 95 % intervals of the observed shares (Wilson 1927), which hold where none ended or all did."""
        spread = _Z**2 / self.counts
        centre = (self.observed + spread / 2) / (1 + spread)
        half = np.sqrt(spread * (self.observed * (1 - self.observed) + spread / 4)) / (1 + spread)
        return centre - half, centre + half


def step_hazard(hazards: Float[np.ndarray, "*batch F"]) -> Float64[np.ndarray, "*batch"]:
    """Probability of ending within a step, 1 - prod(1 - hazard), of its ticks' hazards."""
    return 1 - np.prod(1 - hazards.astype(np.float64), axis=-1)


def calibration(
    predicted: Float64[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    quantiles: Sequence[float] = _QUANTILES,
) -> Calibration:
    """Calibration curve of probabilities of a rare event: the bins are finest where they are high.

    Args:
        predicted: probability of each trial.
        happened: its outcome.
        quantiles: of the predictions, where bins meet; equal predictions are never parted.
    """
    edges = np.unique(np.quantile(predicted, quantiles))
    place = np.searchsorted(edges, predicted, side="left")
    counts = np.bincount(place, minlength=len(edges) + 1).astype(np.float64)
    used = counts > 0
    total = np.bincount(place, predicted, len(edges) + 1)[used]
    ends = np.bincount(place, happened.astype(np.float64), len(edges) + 1)[used]
    return Calibration(predicted=total / counts[used], observed=ends / counts[used], counts=counts[used])


def expected_calibration_error(curve: Calibration) -> float:
    """Distance of predicted from observed probability, bins weighted by counts (Naeini et al. 2015)."""
    return float(np.average(np.abs(curve.predicted - curve.observed), weights=curve.counts))


def heads(rollouts: Mapping[str, Rollout], recordings: Sequence[Recording], per_step: int) -> Judgement:
    """Judge predicted rewards and hazards against what happened in the twin after the same actions.

    Args:
        rollouts: what each world made of the recordings.
        recordings: the starts with the twin's continuation, whole steps.
        per_step: frames per step.

    Returns:
        Figures and bars by world. Ticks after the twin's end do not count.
    """
    rewards = np.stack([recording.rewards for recording in recordings])
    ends = np.array([recording.end for recording in recordings])
    counted = np.arange(rewards.shape[1]) <= ends[:, None]
    outcome = np.asarray(_steps(np.arange(rewards.shape[1]) == ends[:, None], per_step).any(axis=-1))
    at_risk = _steps(counted, per_step)[..., 0]
    figures, bars, curves = {}, {}, {}
    for name, made in rollouts.items():
        ticks = rewards.shape[1]
        reward = reward_figures(made.rewards[:, :ticks], rewards, counted)
        hazard = step_hazard(_steps(made.hazards[:, :ticks], per_step))
        curves[name] = calibration(hazard[at_risk], outcome[at_risk])
        figures[name] = {
            **reward,
            **end_figures(hazard, outcome, at_risk),
            "expected_calibration_error": expected_calibration_error(curves[name]),
            "curve": {
                "predicted": curves[name].predicted,
                "observed": curves[name].observed,
                "counts": curves[name].counts,
            },
        }
        bars[name] = _bars(figures[name])
    steps, happened = int(at_risk.sum()), int(outcome[at_risk].sum())
    return Judgement(
        metric="heads",
        figures={"worlds": figures, "steps_at_risk": steps, "ends": happened},
        bars=bars,
        tables=[
            Table(
                title="Reward of a tick: mean squared error",
                columns=["", "error", "error of the best constant", "paired gain"],
                rows=[[name, f["reward_error"], f["constant_error"], f["reward_gain"]] for name, f in figures.items()],
            ),
            Table(
                title="End of the episode within a step",
                columns=[
                    "",
                    "ends expected",
                    "ends in the twin",
                    "calibration error",
                    "log loss",
                    "of a constant",
                ],
                rows=[
                    [
                        name,
                        f["ends_expected"],
                        happened,
                        f["expected_calibration_error"],
                        f["log_loss"],
                        f["constant_log_loss"],
                    ]
                    for name, f in figures.items()
                ],
                note=f"{steps} steps in which the twin's episode still ran.",
            ),
        ],
        pictures=[
            Picture(
                name="calibration.png",
                caption="Calibration of the hazard, with 95 % intervals of each bin",
                write=partial(charts.calibration, curves=curves),
            )
        ],
    )


def reward_figures(
    predicted: Float[np.ndarray, "B T"], rewards: Float[np.ndarray, "B T"], counted: Bool[np.ndarray, "B T"]
) -> dict[str, Interval]:
    """Mean squared error of the predicted rewards, of the constant that would do best, and what they gain over it.

    Heads learn the expected reward, which a squared error asks for: an absolute one would ask for the median, which is
    0 where rewards are rare.
    """
    constant = rewards[counted].mean()
    error = _row_mean(np.square(predicted - rewards), counted)
    constant_error = _row_mean(np.square(constant - rewards), counted)
    return {
        "reward_error": mean_interval(error),
        "constant_error": mean_interval(constant_error),
        "reward_gain": mean_interval(constant_error - error),
    }


def end_figures(
    hazard: Float64[np.ndarray, "B K"], outcome: Bool[np.ndarray, "B K"], at_risk: Bool[np.ndarray, "B K"]
) -> dict[str, float]:
    """Ends expected and seen over the steps at risk, and the log loss beside a constant hazard's."""
    p, y = hazard[at_risk], outcome[at_risk]
    return {
        "ends_expected": float(p.sum()),
        "ends_seen": float(y.sum()),
        "log_loss": _log_loss(p, y),
        "constant_log_loss": _log_loss(np.full_like(p, y.mean()), y),
    }


def _log_loss(p: np.ndarray, y: np.ndarray) -> float:
    p = np.clip(p, 1e-6, 1 - 1e-6)
    return float(-np.where(y, np.log(p), np.log1p(-p)).mean())


def _row_mean(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    return (values * counted).sum(axis=1) / counted.sum(axis=1)


def _steps(values: np.ndarray, per_step: int) -> np.ndarray:
    """[B, T] as [B, T / F, F]."""
    return values.reshape(len(values), -1, per_step)


def _bars(figures: Mapping[str, float | Interval]) -> Bars:
    error, constant, gain = figures["reward_error"], figures["constant_error"], figures["reward_gain"]
    assert isinstance(error, Interval)
    assert isinstance(constant, Interval)
    assert isinstance(gain, Interval)
    exact = constant.mean == 0  # the twin's reward never changes, and nothing can be gained
    expected, seen = figures["ends_expected"], figures["ends_seen"]
    assert isinstance(expected, float)
    assert isinstance(seen, float)
    rewarded = {"reward better than a constant": gain.above(0.0)}
    return {
        **({"reward as steady as the twin's": error.mean < REWARD_TOLERANCE} if exact else rewarded),
        "as many ends as in the twin": None if seen < MIN_ENDS else bool(ENDS_BAR[0] <= expected / seen <= ENDS_BAR[1]),
    }
