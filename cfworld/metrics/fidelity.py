"""Fidelity: how near a generated future is to the twin's, at given times after the start.

Two references stand beside the world: the last real frame repeated, and the tokenizer's own
reconstruction of the twin's frames, which is the ceiling. PSNR favours blur and a standing picture, hence
the ratios of high-frequency energy and of motion energy to the twin's, which should be near 1. PSNR over
moving pixels looks where the last frame is wrong, so that any change does better there: it belongs beside
PSNR over all pixels.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from jaxtyping import Float64, UInt8

from cfworld.errors import ConfigError
from cfworld.export.film_strip import write_film_strip
from cfworld.metrics import images
from cfworld.metrics.bootstrap import Interval, mean_interval, ratio_interval
from cfworld.metrics.judgement import CEILING, LAST_FRAME, Judgement, Picture, Table
from cfworld.metrics.plots import charts
from cfworld.metrics.recordings import Recording
from cfworld.metrics.rollouts import Rollout, steps_of

__all__ = [
    "ENERGY_BAR",
    "FidelityConfig",
    "fidelity",
    "fidelity_steps",
    "tick_count",
]

ENERGY_BAR = (0.7, 1.3)
"""The mean high-frequency energy and motion energy, as ratios to the twin's, must lie within this range."""
_QUANTITIES = {
    "psnr": "PSNR over all pixels (dB)",
    "ssim": "SSIM",
    "moving_psnr": "PSNR over moving pixels (dB)",
    "psnr_gain": "PSNR over all pixels, paired gain over the last frame (dB)",
    "moving_psnr_gain": "PSNR over moving pixels, paired gain over the last frame (dB)",
    "sharpness_ratio": "High-frequency energy, ratio to the twin's",
    "motion_ratio": "Motion energy, ratio to the twin's",
}
_PLOTTED = {key: title for key, title in _QUANTITIES.items() if not key.endswith("gain")}
_STRIPS = 4

Figures = dict[str, list[Interval]]
"""By quantity, an interval for each time."""


@dataclass(kw_only=True, slots=True)
class FidelityConfig:
    """When fidelity is measured.

    Attributes:
        seconds: Times after the start, in seconds of game time.
    """

    seconds: list[float] = field(default_factory=lambda: [0.1, 0.5, 1.0, 2.0, 5.0])

    def __post_init__(self) -> None:
        """Refuse times that are not after the start, never come, or are not in order."""
        times = self.seconds
        if not times or not all(0 < time < math.inf for time in times) or sorted(set(times)) != list(times):
            raise ConfigError(f"fidelity.seconds is {self.seconds}; expected rising times above 0, all of them finite")

    def num_ticks(self, fps: int, per_step: int) -> int:
        """Ticks to the last time, rounded up to whole steps."""
        return -(-tick_count(self.seconds[-1], fps) // per_step) * per_step


def tick_count(seconds: float, fps: int) -> int:
    """Ticks from the start to a time, at least 1: the frame after so many ticks is judged."""
    return max(1, round(seconds * fps))


def fidelity_steps(config: FidelityConfig, fps: int, per_step: int) -> set[int]:
    """The steps whose frames `fidelity` looks at."""
    ticks = [tick for seconds in config.seconds for tick in _window(tick_count(seconds, fps), per_step)]
    return steps_of([tick for tick in ticks if tick >= 0], per_step)


def fidelity(
    rollouts: Mapping[str, Rollout],
    ceiling: Rollout,
    recordings: Sequence[Recording],
    config: FidelityConfig,
    fps: int,
) -> Judgement:
    """Judge rollouts against the recordings that they continue.

    Args:
        rollouts: what each world made of the recordings, with the frames of `fidelity_steps`.
        ceiling: what the tokenizer makes of the recordings, from `tokenizer_rollout`.
        recordings: B starts with the twin's continuation.
        config: when to look.
        fps: frames per second of game time.

    Returns:
        Figures and bars by world. Starts whose episode has ended do not count.
    """
    per_step = next(iter(ceiling.frames.values())).shape[1]
    prefix = np.stack([recording.prefix[-per_step - 1 :] for recording in recordings])
    truth = np.stack([recording.frames for recording in recordings])
    valid = np.stack([recording.valid for recording in recordings])
    sources: dict[str, Callable[[Sequence[int]], np.ndarray]] = {
        **{name: made.at for name, made in rollouts.items()},
        LAST_FRAME: lambda ticks: np.repeat(prefix[:, -1:], len(ticks), axis=1),
        CEILING: ceiling.at,
    }
    figures: dict[str, Figures] = {name: {key: [] for key in _QUANTITIES} for name in sources}
    for seconds in config.seconds:
        ticks = _window(tick_count(seconds, fps), per_step)
        counted = valid[:, ticks[-1]]
        true_window = _frames(ticks, prefix, lambda later: truth[:, later])[counted]
        values = {
            name: window_values(_frames(ticks, prefix, source)[counted], true_window, prefix[counted, -1])
            for name, source in sources.items()
        }
        for name in sources:
            for key, interval in _intervals(values[name], values[LAST_FRAME]).items():
                figures[name][key].append(interval)
    bars = {name: _bars(figures[name], figures[LAST_FRAME], figures[CEILING], config.seconds) for name in rollouts}
    counts = [tick_count(seconds, fps) for seconds in config.seconds]
    return Judgement(
        metric="fidelity",
        figures={"seconds": list(config.seconds), "predictors": figures},
        bars=bars,
        tables=[_table(key, title, figures, config.seconds) for key, title in _QUANTITIES.items()],
        pictures=[
            Picture(
                name="fidelity.png",
                caption="Fidelity by time after the start, with 95 % intervals",
                write=partial(charts.fidelity, figures=figures, seconds=config.seconds, titles=_PLOTTED),
            ),
            *_strips(rollouts, prefix, truth, counts, config.seconds),
        ],
    )


def window_values(
    frames: UInt8[np.ndarray, "n F H W 3"],
    truth: UInt8[np.ndarray, "n F H W 3"],
    before: UInt8[np.ndarray, "n H W 3"],
) -> dict[str, Float64[np.ndarray, " n"]]:
    """What one predictor shows at one time, a number for each start.

    Args:
        frames: consecutive frames up to that time; only motion looks at all of them.
        truth: the twin's.
        before: the last frame before the start, against which pixels move.

    Returns:
        PSNR, SSIM, PSNR over moving pixels (NaN where hardly any moves), and high-frequency and motion
        energy, each beside the twin's.
    """
    last, true_last = frames[:, -1], truth[:, -1]
    moving = images.moving_pixels(true_last, before)
    return {
        "psnr": images.psnr(last, true_last),
        "ssim": images.ssim(last, true_last),
        "moving_psnr": images.psnr(last, true_last, moving),
        "sharpness": images.sharpness(last),
        "true_sharpness": images.sharpness(true_last),
        "motion": images.motion(frames),
        "true_motion": images.motion(truth),
    }


def _intervals(values: Mapping[str, np.ndarray], last_frame: Mapping[str, np.ndarray]) -> dict[str, Interval]:
    """Figures over the starts; gains are paired with the last frame repeated."""
    means = {key: mean_interval(values[key]) for key in ("psnr", "ssim", "moving_psnr")}
    gains = {f"{key}_gain": mean_interval(values[key] - last_frame[key]) for key in ("psnr", "moving_psnr")}
    ratios = {f"{key}_ratio": ratio_interval(values[key], values[f"true_{key}"]) for key in ("sharpness", "motion")}
    return {**means, **gains, **ratios}


def _window(count: int, per_step: int) -> range:
    """Ticks of a step and a frame up to the given frame; negative ones lie before the start."""
    return range(count - 1 - per_step, count)


def _frames(
    ticks: range, prefix: np.ndarray, source: Callable[[Sequence[int]], np.ndarray]
) -> UInt8[np.ndarray, "B F H W 3"]:
    past = [prefix.shape[1] + tick for tick in ticks if tick < 0]
    return np.concatenate([prefix[:, past], source([tick for tick in ticks if tick >= 0])], axis=1)


def _bars(world: Figures, last_frame: Figures, ceiling: Figures, seconds: Sequence[float]) -> dict[str, bool | None]:
    """Bars at each time; PSNR counts where the intervals do not overlap.

    Where the tokenizer itself does not beat the last frame, no world can be asked to.
    """
    bars: dict[str, bool | None] = {}
    for i, time in enumerate(seconds):
        for key, what in (("psnr", "all pixels"), ("moving_psnr", "moving pixels")):
            possible = ceiling[key][i].above(last_frame[key][i])
            passed = world[key][i].above(last_frame[key][i])
            bars[f"beats the last frame on {what} at {time:g} s"] = passed if possible else None
        for key, what in (("sharpness_ratio", "as sharp"), ("motion_ratio", "moves as much")):
            measured = not np.isnan(world[key][i].mean)
            passed = world[key][i].within(*ENERGY_BAR)
            bars[f"{what} as the twin at {time:g} s"] = passed if measured else None
    return bars


def _table(key: str, title: str, figures: Mapping[str, Figures], seconds: Sequence[float]) -> Table:
    counts = [interval.count for interval in next(iter(figures.values()))[key]]
    return Table(
        title=title,
        columns=["", *(f"{time:g} s" for time in seconds)],
        rows=[[name, *found[key]] for name, found in figures.items()],
        note=f"Starts: {', '.join(map(str, counts))}.",
    )


def _strips(
    rollouts: Mapping[str, Rollout],
    prefix: np.ndarray,
    truth: np.ndarray,
    counts: Sequence[int],
    seconds: Sequence[float],
) -> list[Picture]:
    """Film strips of the first starts, the twin above the worlds."""
    ticks = [count - 1 for count in counts]
    labels = ["start", *(f"{time:g} s" for time in seconds)]
    rows = {"twin": truth[:, ticks], **{name: made.at(ticks) for name, made in rollouts.items()}}
    return [
        Picture(
            name=f"fidelity_{i}.png",
            caption=f"Start {i}: the twin above, generated below",
            write=partial(
                write_film_strip,
                rows={name: np.concatenate([prefix[i, -1:], found[i]]) for name, found in rows.items()},
                labels=labels,
            ),
        )
        for i in range(min(_STRIPS, len(truth)))
    ]
