"""Control: does the world do what the action says, and not merely something plausible?

From one start every action is held for a while. A generated rollout is right when, among the twin's own
rollouts under each action, the one under the same action moved most alike.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Float64, Int64, UInt8

from cfworld.envs.twins import Twin
from cfworld.errors import ConfigError
from cfworld.export.film_strip import write_film_strip
from cfworld.metrics import images
from cfworld.metrics.bootstrap import Interval, mean_interval
from cfworld.metrics.judgement import CEILING, Judgement, Picture, Table
from cfworld.metrics.plots import charts
from cfworld.metrics.progress import Bar, silent_bar, watched
from cfworld.metrics.recordings import Recording, record
from cfworld.metrics.rollouts import WorldLike, reconstructed, rollout

__all__ = ["CONTROL_BAR", "ControlConfig", "control", "distances", "motion_descriptor", "probe_actions", "run_control"]

SEPARATION = 0.005
"""Root mean square distance of descriptors from which two of the twin's rollouts count as different."""
CONTROL_BAR = 0.95
"""The share of right rollouts must reach this part of the tokenizer's, and lie above chance."""
_BOX = 4


@dataclass(kw_only=True, slots=True)
class ControlConfig:
    """How control is measured.

    Attributes:
        seconds: How long each action is held, in seconds of game time.
        starts: Starts to act from, no more than the evaluation has; None for all of those.
    """

    seconds: float = 0.6
    starts: int | None = None

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        if not 0 < self.seconds < math.inf or (self.starts is not None and self.starts < 1):
            raise ConfigError(
                f"control has seconds={self.seconds} and starts={self.starts}; expected more than 0 of each, and "
                "a finite time"
            )


def probe_actions(space: spaces.Space[Any]) -> np.ndarray:
    """The actions that are held: all discrete ones, or rest and both ends of each axis of a box.

    Returns:
        int64 [A], or float32 [A, components].
    """
    if isinstance(space, spaces.Discrete):
        return np.arange(int(space.n))
    if not isinstance(space, spaces.Box):
        raise ConfigError(f"the action space is {space}; expected Discrete or Box")
    rest = np.clip(np.zeros_like(space.low), space.low, space.high)
    ends = np.tile(rest, (2 * len(rest), 1))
    for i in range(len(rest)):
        ends[2 * i, i], ends[2 * i + 1, i] = space.low[i], space.high[i]
    return np.concatenate([rest[None], ends]).astype(np.float32)


def motion_descriptor(
    frames: UInt8[np.ndarray, "*batch T H W 3"], before: UInt8[np.ndarray, "*batch H W 3"]
) -> Float[np.ndarray, "*batch D"]:
    """What moved since `before`: brightness differences, averaged over boxes, each frame's mean taken out.

    The mean is taken out so that a drift of colour is not mistaken for motion; the boxes forgive blur and
    noise.

    Args:
        frames: T moments after the start.
        before: the last frame before it.
    """
    change = images.luma(frames) - images.luma(before)[..., None, :, :]
    *batch, height, width = change.shape
    boxes = change.reshape(*batch, height // _BOX, _BOX, width // _BOX, _BOX).mean(axis=(-3, -1))
    boxes = boxes - boxes.mean(axis=(-2, -1), keepdims=True)
    return boxes.reshape(*batch[:-1], -1)


def distances(made: Float[np.ndarray, "B A D"], truth: Float[np.ndarray, "B A D"]) -> Float64[np.ndarray, "B A A2"]:
    """Root mean square distance of each made descriptor from the truth under each action."""
    difference = made[:, :, None].astype(np.float64) - truth[:, None]
    return np.sqrt((difference**2).mean(axis=-1))


def control(
    made: Mapping[str, UInt8[np.ndarray, "B A T H W 3"]],
    truth: UInt8[np.ndarray, "B A T H W 3"],
    before: UInt8[np.ndarray, "B H W 3"],
    alive: Bool[np.ndarray, " B"],
    action_names: Sequence[str],
) -> Judgement:
    """Judge rollouts under each action against the twin's.

    Args:
        made: what each world showed at T moments under each of A actions; `tokenizer` is the ceiling.
        truth: what the twin showed.
        before: the last frame before the start.
        alive: starts from which the twin lived on under every action.
        action_names: names of the actions.

    Returns:
        Shares of right rollouts and their bars, by world. Starts where two of the twin's rollouts look
        alike do not count.
    """
    starts = np.repeat(before[:, None], truth.shape[1], axis=1)
    true_motion = motion_descriptor(truth, starts)
    counted = alive & (_nearest_pair(distances(true_motion, true_motion)) > SEPARATION)
    nearest = {
        name: distances(motion_descriptor(frames, starts), true_motion).argmin(axis=-1)[counted]
        for name, frames in made.items()
    }
    shares = {name: mean_interval(_share(found)) for name, found in nearest.items()}
    confusion = {name: _confusion(found) for name, found in nearest.items()}
    chance = 1 / len(action_names)
    title = "Share of actions whose generated motion is nearest to the twin's under the same action"
    return Judgement(
        metric="control",
        figures={
            "share": shares,
            "chance": chance,
            "starts": len(counted),
            "starts_that_differ": int(counted.sum()),
            "confusion": confusion,
            "actions": list(action_names),
        },
        bars={
            name: {f"control at least {CONTROL_BAR:.0%} of the ceiling": _passed(share, shares[CEILING], chance)}
            for name, share in shares.items()
            if name != CEILING
        },
        tables=[
            Table(
                title=title,
                columns=["", "share", *(f"under {action}" for action in action_names)],
                rows=[
                    *([name, share, *_diagonal(confusion[name])] for name, share in shares.items()),
                    ["chance", chance, *(chance for _ in action_names)],
                ],
                note=f"{int(counted.sum())} of {len(counted)} starts count: there the twin's actions differ.",
            )
        ],
        pictures=[
            Picture(
                name="control.png",
                caption="Nearest of the twin's rollouts (columns) for each action given (rows)",
                write=partial(charts.confusion, matrices=confusion, names=action_names),
            )
        ],
    )


def run_control(
    worlds: Mapping[str, WorldLike],
    twin: Twin,
    recordings: Sequence[Recording],
    config: ControlConfig,
    batch: int = 32,
    bar: Bar = silent_bar,
) -> Judgement:
    """Hold every action from every start, in the twin and in the worlds, and judge.

    Args:
        worlds: the worlds to judge; the tokenizer of the first one is the ceiling.
        twin: the simulator.
        recordings: the starts.
        config: how long to act.
        batch: rows generated together.
        bar: shows how far it is.
    """
    recordings = recordings[: config.starts]
    first = next(iter(worlds.values()))
    per_step = first.config.frames_per_step
    num_steps = max(1, round(config.seconds * first.config.fps / per_step))
    actions = probe_actions(twin.action_space)
    held = np.stack([np.repeat(action[None], num_steps * per_step, axis=0) for action in actions])
    acted = (_replay(twin, recording, each) for recording in recordings for each in held)
    replays = list(watched(acted, bar, "control: twin", len(recordings) * len(held), "rollout"))
    rows = [recording for recording in recordings for _ in actions]
    last_ticks = [per_step * (step + 1) - 1 for step in range(num_steps)]

    def grid(frames: np.ndarray) -> np.ndarray:
        return frames.reshape(len(recordings), len(actions), *frames.shape[1:])

    all_truth = np.stack([replay.frames for replay in replays])
    made = {}
    for name, world in worlds.items():
        generated = rollout(
            world,
            rows,
            actions=np.tile(held, _tiling(recordings, held)),
            batch=batch,
            bar=bar,
            title=f"control: {name}",
        )
        made[name] = grid(generated.at(last_ticks))
    made[CEILING] = grid(reconstructed(first, all_truth)[:, last_ticks])
    truth = grid(all_truth[:, last_ticks])
    before = np.stack([recording.prefix[-1] for recording in recordings])
    alive = np.array([replay.end == num_steps * per_step for replay in replays]).reshape(len(recordings), -1)
    names = _names(actions)
    judged = control(made, truth, before, np.asarray(alive.all(axis=1)), names)
    strip = partial(_write_strip, rows={"twin": truth[0], **{k: v[0] for k, v in made.items()}}, names=names)
    picture = Picture(name="control_0.png", caption="Start 0 after each action was held", write=strip)
    return Judgement(
        metric=judged.metric,
        figures={**judged.figures, "seconds": num_steps * per_step / first.config.fps},
        bars=judged.bars,
        tables=judged.tables,
        pictures=[*judged.pictures, picture],
    )


def _tiling(recordings: Sequence[Recording], held: np.ndarray) -> tuple[int, ...]:
    return (len(recordings), *(1 for _ in held.shape[1:]))


def _replay(twin: Twin, recording: Recording, actions: np.ndarray) -> Recording:
    again = record(twin, recording.seed, recording.history, actions, len(recording.prefix), recording.god)
    assert again is not None, "the twin is not deterministic: an episode that reached its start did not do so again"
    return again


def _nearest_pair(table: Float64[np.ndarray, "B A A2"]) -> Float64[np.ndarray, " B"]:
    """Smallest distance between two different actions."""
    return (table + np.where(np.eye(table.shape[-1]) > 0, np.inf, 0.0)).min(axis=(-2, -1))


def _share(nearest: Int64[np.ndarray, "B A"]) -> Float64[np.ndarray, " B"]:
    return (nearest == np.arange(nearest.shape[1])).mean(axis=1)


def _passed(share: Interval, ceiling: Interval, chance: float) -> bool | None:
    """Whether a share reaches its part of the ceiling; None where even the ceiling is no better than chance."""
    if not ceiling.above(chance):
        return None
    return share.above(chance) and share.mean >= CONTROL_BAR * ceiling.mean


def _confusion(nearest: Int64[np.ndarray, "B A"]) -> Float64[np.ndarray, "A A"]:
    """Share of starts, by the action given and by the action whose truth was nearest."""
    if len(nearest) == 0:
        return np.full((nearest.shape[1],) * 2, np.nan)
    return (nearest[:, :, None] == np.arange(nearest.shape[1])).mean(axis=0)


def _diagonal(matrix: np.ndarray) -> list[float]:
    return [float(value) for value in np.diagonal(matrix)]


def _names(actions: np.ndarray) -> list[str]:
    if actions.ndim == 1:
        return [f"action {action}" for action in actions]
    return ["(" + ", ".join(f"{value:g}" for value in action) + ")" for action in actions]


def _write_strip(path: Any, rows: Mapping[str, np.ndarray], names: Sequence[str]) -> None:
    write_film_strip(path, {name: frames[:, -1] for name, frames in rows.items()}, names)
