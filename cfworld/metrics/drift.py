"""Drift: does a long rollout still look like the twin, at equal elapsed time?

Colour, sharpness and motion of the generated frames stand beside those of the twin's own episodes without
an end, which differ among themselves: their spread is the yardstick.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from jaxtyping import Float64, UInt8

from cfworld.envs.twins import Twin
from cfworld.errors import ConfigError
from cfworld.export.film_strip import write_film_strip
from cfworld.metrics import images
from cfworld.metrics.bootstrap import Interval, mean_interval, ratio_interval
from cfworld.metrics.fidelity import ENERGY_BAR
from cfworld.metrics.judgement import Judgement, Picture, Table
from cfworld.metrics.plots import charts
from cfworld.metrics.progress import Bar, silent_bar, watched
from cfworld.metrics.recordings import Recording, held_out
from cfworld.metrics.rollouts import WorldLike, rollout, steps_of

__all__ = ["STATISTICS", "DriftConfig", "drift", "run_drift", "statistics"]

STATISTICS = ("red", "green", "blue", "saturation", "sharpness", "motion")
_ENERGIES = ("sharpness", "motion")
COLOUR_BAR = 2.0
"""Colour and saturation must stay within this many of the twin's standard deviations."""
_LAST_PART = 3
"""The bars look at the last third of the moments."""
_STRIP_MOMENTS = 12


@dataclass(kw_only=True, slots=True)
class DriftConfig:
    """How drift is measured.

    Attributes:
        seconds: Lengths of rollouts to judge, in seconds of game time; the longest one is generated.
        every: Seconds between two looks.
        starts: Number of rollouts.
    """

    seconds: list[float] = field(default_factory=lambda: [60.0])
    every: float = 5.0
    starts: int = 8

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        possible = self.every > 0 and all(self.every <= length < math.inf for length in self.seconds)
        if not self.seconds or not possible or self.starts < 2:
            raise ConfigError(
                f"drift has every={self.every}, seconds={self.seconds}, starts={self.starts}; expected "
                "finite times of at least `every`, itself above 0, and at least 2 starts, whose spread is the yardstick"
            )

    def moments(self, fps: int, per_step: int) -> list[int]:
        """The steps at whose end the rollouts are looked at: every now and then, and at each length's end."""
        times = {*np.arange(self.every, max(self.seconds) + 1e-9, self.every).tolist(), *self.seconds}
        return sorted({max(1, round(time * fps / per_step)) for time in times})


def statistics(windows: UInt8[np.ndarray, "*batch F H W 3"]) -> Float64[np.ndarray, "*batch S"]:
    """The statistics of a few consecutive frames, in the order of `STATISTICS`."""
    looks = [
        images.colour(windows).mean(axis=-2),
        images.saturation(windows).mean(axis=-1, keepdims=True),
        images.sharpness(windows).mean(axis=-1, keepdims=True),
        images.motion(windows)[..., None],
    ]
    return np.concatenate(looks, axis=-1)


def drift(
    made: Mapping[str, Float64[np.ndarray, "B M S"]],
    truth: Float64[np.ndarray, "B M S"],
    seconds: Sequence[float],
    length: str,
) -> Judgement:
    """Judge statistics of rollouts against the twin's at equal elapsed time.

    Args:
        made: the statistics of each world's B rollouts at M moments.
        truth: the twin's, after the same actions.
        seconds: the moments.
        length: how the whole length is called, such as 60s.
    """
    spread = truth.std(axis=0).mean(axis=0)
    late = slice(len(seconds) - max(1, len(seconds) // _LAST_PART), None)
    figures = {
        name: {
            statistic: _statistic_figures(values[..., i], truth[..., i], float(spread[i]), late)
            for i, statistic in enumerate(STATISTICS)
        }
        for name, values in made.items()
    }
    series = {name: values.mean(axis=0).T.tolist() for name, values in {"twin": truth, **made}.items()}
    return Judgement(
        metric=f"drift_{length}",
        figures={
            "seconds": list(seconds),
            "worlds": figures,
            "twin_spread": dict(zip(STATISTICS, spread.tolist(), strict=True)),
            "series": {n: dict(zip(STATISTICS, s, strict=True)) for n, s in series.items()},
        },
        bars={name: _bars(found, length) for name, found in figures.items()},
        tables=[
            Table(
                title=f"Difference from the twin at the end of {length}, in the twin's standard deviations",
                columns=["", *STATISTICS],
                rows=[[name, *(f["deviation"] for f in found.values())] for name, found in figures.items()],
                note=f"{len(truth)} rollouts; the last third of the moments.",
            ),
            Table(
                title=f"Distance from the twin at the end of {length}, in the twin's standard deviations",
                columns=["", *STATISTICS],
                rows=[[name, *(f["distance"] for f in found.values())] for name, found in figures.items()],
            ),
            Table(
                title=f"Energy at the end of {length}, ratio to the twin's",
                columns=["", *_ENERGIES],
                rows=[[name, *(found[e]["ratio"] for e in _ENERGIES)] for name, found in figures.items()],
            ),
        ],
        pictures=[
            Picture(
                name=f"drift_{length}.png",
                caption="Statistics by elapsed time; the band is one standard deviation of the twin's",
                write=partial(charts.drift, made=made, truth=truth, seconds=seconds, names=STATISTICS),
            )
        ],
    )


def run_drift(
    worlds: Mapping[str, WorldLike],
    twin: Twin,
    config: DriftConfig,
    prefix_ticks: int,
    first_seed: int,
    batch: int = 32,
    bar: Bar = silent_bar,
) -> list[Judgement]:
    """Run long rollouts in the twin (without ends) and in the worlds, and judge each length.

    Args:
        worlds: the worlds to judge.
        twin: the simulator; its time limit must lie beyond the rollouts.
        config: how long and how often.
        prefix_ticks: frames before a start.
        first_seed: the first evaluation seed.
        batch: rows generated together.
        bar: shows how far it is.
    """
    world_config = next(iter(worlds.values())).config
    per_step, fps = world_config.frames_per_step, world_config.fps
    moments = config.moments(fps, per_step)
    num_ticks = moments[-1] * per_step
    episodes = held_out(twin, config.starts, num_ticks, prefix_ticks, first_seed=first_seed, god=True)
    counted = watched(episodes, bar, "drift: twin", config.starts, "episode")
    recordings, looks = _twin_looks(counted, moments, per_step)
    steps = steps_of([tick for moment in moments for tick in _window(moment, per_step)], per_step)
    made, strips = {}, {"twin": looks[0, :, -1]}
    for name, world in worlds.items():
        generated = rollout(world, recordings, decode=steps, batch=batch, bar=bar, title=f"drift: {name}")
        windows = np.stack([generated.at(_window(moment, per_step)) for moment in moments], axis=1)
        made[name] = statistics(windows)
        strips[name] = windows[0, :, -1]
    seconds = [moment * per_step / fps for moment in moments]
    truth = statistics(looks)
    judged = []
    for length in config.seconds:
        count = sum(moment <= max(1, round(length * fps / per_step)) for moment in moments)
        early = {name: values[:, :count] for name, values in made.items()}
        judged.append(drift(early, truth[:, :count], seconds[:count], f"{length:g}s"))
    longest = max(range(len(judged)), key=lambda i: config.seconds[i])
    judged[longest] = replace(judged[longest], pictures=[*judged[longest].pictures, _strip(strips, seconds)])
    return judged


def _strip(strips: Mapping[str, UInt8[np.ndarray, "M H W 3"]], seconds: Sequence[float]) -> Picture:
    chosen = np.unique(np.linspace(0, len(seconds) - 1, min(_STRIP_MOMENTS, len(seconds))).astype(int))
    return Picture(
        name="drift_0.png",
        caption="Start 0 by elapsed time: the twin above, generated below",
        write=partial(
            write_film_strip,
            rows={name: frames[chosen] for name, frames in strips.items()},
            labels=[f"{seconds[i]:.0f} s" for i in chosen],
        ),
    )


def _twin_looks(
    recordings: Iterator[Recording], moments: Sequence[int], per_step: int
) -> tuple[list[Recording], UInt8[np.ndarray, "B M F H W 3"]]:
    """Recordings without their frames, and the frames at the moments: minutes of frames fill the memory."""
    kept, looks = [], []
    for recording in recordings:
        looks.append(np.stack([recording.frames[_window(moment, per_step)] for moment in moments]))
        kept.append(recording.without_frames())
    return kept, np.stack(looks)


def _window(moment: int, per_step: int) -> list[int]:
    """Ticks of the last step or two up to the end of step `moment`."""
    return list(range(max(0, moment - 2) * per_step, moment * per_step))


def _statistic_figures(
    values: Float64[np.ndarray, "B M"], truth: Float64[np.ndarray, "B M"], spread: float, late: slice
) -> dict[str, Interval]:
    ours, theirs = values[:, late].mean(axis=1), truth[:, late].mean(axis=1)
    return {
        "value": mean_interval(ours),
        "twin": mean_interval(theirs),
        "deviation": mean_interval((ours - theirs) / max(spread, 1e-9)),
        "distance": mean_interval(np.abs(ours - theirs) / max(spread, 1e-9)),
        "ratio": ratio_interval(ours, theirs),
    }


def _bars(found: Mapping[str, Mapping[str, Interval]], length: str) -> dict[str, bool | None]:
    bars: dict[str, bool | None] = {}
    for statistic, figures in found.items():
        if statistic in _ENERGIES:
            ratio = figures["ratio"]
            passed = ratio.within(*ENERGY_BAR) if not np.isnan(ratio.mean) else None
        else:
            passed = figures["distance"].within(0.0, COLOUR_BAR)
        bars[f"{statistic} as the twin's after {length}"] = passed
    return bars
