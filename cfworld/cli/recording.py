"""Records what rows of a world live through, before anything is drawn or encoded."""

import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from cfworld.cli.live import LiveRows, LiveStep
from cfworld.envs.overlay import Caption
from cfworld.errors import ConfigError

__all__ = ["Recording", "record"]

_MARK_SECONDS = 0.5
_SPILL_BYTES = 10**9
"""More bytes of frames than this wait for the encoder on the disk instead of in memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What was generated, before anything is drawn or encoded."""

    frames: UInt8[np.ndarray, "T B H W 3"]
    """T frames of B worlds."""
    actions: np.ndarray
    """What each frame was made under, [T, B] or [T, B, A], as the world's prompts check it."""
    rewards: np.ndarray
    """float32 [T, B]."""
    hazards: np.ndarray
    """float32 [T, B]."""
    episodes: np.ndarray
    """Which of its world's episodes each frame belongs to, int32 [T, B]."""
    ages: np.ndarray
    """Frames since the episode began, int32 [T, B]."""
    ended: np.ndarray
    """The frame at which an episode really ends, and those of its step after it, bool [T, B]."""
    truncated: np.ndarray
    """The last step of an episode that reaches the world's horizon, bool [T, B]."""
    seconds: list[float]
    """What each step took: generation and decoding, nothing else."""

    def captions(self, index: int, fps: int) -> list[Caption]:
        """What to write on frame `index` of every world: END marks a real end, TIME the horizon."""
        return [
            Caption(
                action=_written(self.actions[index, row]),
                reward=float(self.rewards[index, row]),
                hazard=float(self.hazards[index, row]),
                note=f"episode {episode + 1}  {age / fps:.1f} s",
                banner="END" if ended else "TIME" if truncated else "",
                marked=bool(ended or (episode > 0 and age < _MARK_SECONDS * fps)),
            )
            for row, (episode, age, ended, truncated) in enumerate(
                zip(self.episodes[index], self.ages[index], self.ended[index], self.truncated[index], strict=True)
            )
        ]


def record(live: LiveRows, num_frames: int, folder: Path) -> Recording:
    """Generate frames of every row; drawing and encoding wait, so that they cannot slow it down.

    Args:
        live: the rows.
        num_frames: T; what the last step generates beyond it is left out.
        folder: where frames wait that would crowd the memory, in a file that vanishes with the recording.

    Returns:
        The recording.

    Raises:
        ConfigError: if there is no room for the frames.
    """
    config = live.world.config
    shape = (num_frames, len(live.rows))
    prompts = live.world.generator.prompts
    integers = not prompts.action_dtype.is_floating_point
    recording = Recording(
        frames=_room((*shape, *config.resolution, 3), folder),
        actions=np.zeros((*shape, *prompts.action_shape), np.int64 if integers else np.float32),
        rewards=np.zeros(shape, np.float32),
        hazards=np.zeros(shape, np.float32),
        episodes=np.zeros(shape, np.int32),
        ages=np.zeros(shape, np.int32),
        ended=np.zeros(shape, bool),
        truncated=np.zeros(shape, bool),
        seconds=[],
    )
    with tqdm(total=num_frames * len(live.rows), unit="frame", desc=f"{config.name}: generate") as bar:
        for first in range(0, num_frames, config.frames_per_step):
            kept = min(config.frames_per_step, num_frames - first)
            step = live.step()
            _put(recording, slice(first, first + kept), live, step)
            live.begin_again(step)
            bar.update(kept * len(live.rows))
    return recording


def _room(shape: tuple[int, ...], folder: Path) -> np.ndarray:
    """Zeros for that many pixels, on the disk if they are many."""
    size = math.prod(shape)
    if size <= _SPILL_BYTES:
        return np.zeros(shape, np.uint8)
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ConfigError(
            f"got frames={shape[0]} in worlds={shape[1]}, {size / 1e9:.1f} GB of frames; {folder} has "
            f"{free / 1e9:.1f} GB free: ask for fewer frames or worlds, or for an `out` on a larger disk"
        )
    with tempfile.TemporaryFile(dir=folder) as file:
        return np.memmap(file, np.uint8, "w+", shape=shape)


def _put(recording: Recording, where: slice, live: LiveRows, step: LiveStep) -> None:
    """Write down a step's first frames, as many as `where` has room for."""
    kept, num_frames = where.stop - where.start, live.world.config.frames_per_step
    index = np.arange(kept)[:, None]
    lengths = np.array([row.length for row in live.rows])
    recording.frames[where] = step.frames[:, :kept].swapaxes(0, 1)
    recording.actions[where] = step.actions[:, :kept].swapaxes(0, 1)
    recording.rewards[where] = step.rewards[:, :kept].T
    recording.hazards[where] = step.hazards[:, :kept].T
    recording.episodes[where] = [row.episode for row in live.rows]
    recording.ages[where] = lengths - np.minimum(step.end_frame + 1, num_frames) + index
    recording.ended[where] = index >= step.end_frame
    recording.truncated[where] = step.truncated
    recording.seconds.append(step.seconds)


def _written(action: np.ndarray | np.integer) -> str:
    return " ".join(str(part) if isinstance(part, int) else f"{part:+.2f}" for part in np.atleast_1d(action).tolist())
