"""What a scenario leaves: a video of its branches side by side, a film strip, figures and a dataset."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import UInt8

from cfworld.data.action_space import leaves
from cfworld.data.episode import Episode
from cfworld.data.shards import StoreWriter
from cfworld.envs import BranchResult, ScenarioResult
from cfworld.envs.overlay import Caption, annotate, tile
from cfworld.envs.spaces import frame_space
from cfworld.errors import ConfigError
from cfworld.export.film_strip import write_film_strip
from cfworld.export.video import open_video

__all__ = ["check_dataset", "write_scenario_dataset", "write_scenario_strip", "write_scenario_video"]

_STRIP_FRAMES = 16
_LABEL = 20
"""Characters of an action that have room under a frame."""


def write_scenario_video(
    path: str | Path, result: ScenarioResult, scale: int = 6, progress: Callable[..., Iterable[int]] = iter
) -> None:
    """Write the branches side by side, each with its action, reward, hazard and name, as MP4.

    Args:
        path: the file.
        result: what came of the scenario.
        scale: pixels of the video per pixel of a frame.
        progress: is put around the numbers of the frames.
    """
    num_frames = max(len(branch.reward) for branch in result.branches)
    with open_video(path, result.fps) as video:
        for index in progress(range(num_frames)):
            pictures = [
                annotate(branch.frames[min(index + 1, len(branch.reward))], _caption(branch, index), scale)
                for branch in result.branches
            ]
            video.add(tile(pictures))


def write_scenario_strip(path: str | Path, result: ScenarioResult) -> None:
    """Write frames of every branch, a row each, as PNG; a branch is dark after its end."""
    num_frames = max(len(branch.frames) for branch in result.branches)
    chosen = np.linspace(0, num_frames - 1, min(_STRIP_FRAMES, num_frames)).round().astype(int)
    rows = {branch.name: np.stack([_shown(branch, index) for index in chosen.tolist()]) for branch in result.branches}
    write_film_strip(path, rows, [f"{index / result.fps:.1f} s" for index in chosen.tolist()])


def check_dataset(action_space: spaces.Space[Any]) -> None:
    """Refuse actions that a dataset of a scenario cannot hold.

    Raises:
        ConfigError: if there are texts among them.
    """
    if any(isinstance(part, spaces.Text) for _, part in leaves(action_space)):
        raise ConfigError("got dataset among the outputs of a world whose actions hold texts; leave it out")


def write_scenario_dataset(
    folder: str | Path,
    result: ScenarioResult,
    action_space: spaces.Space[Any],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write one episode per branch as a Minari dataset, which says of itself that it was generated.

    Args:
        folder: the dataset's; what it held is replaced.
        result: what came of the scenario.
        action_space: the world's.
        metadata: what the dataset says about itself besides.

    Raises:
        ConfigError: if there are texts among the actions.
        DatasetError: if another process writes there.
    """
    check_dataset(action_space)
    resolution = result.branches[0].frames.shape[1:3]
    writer = StoreWriter(
        Path(folder),
        observation_space=frame_space(resolution),
        action_space=action_space,
        source=result.world,
        metadata={"generated": True, "scenario": result.name, "simulator": result.source, **(metadata or {})},
    )
    with writer.locked():
        writer.discard_leftovers()
        writer.publish([writer.write_shard(0, 0, [_episode(result, branch) for branch in result.branches])])


def _episode(result: ScenarioResult, branch: BranchResult) -> Episode:
    def variable(values: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros(1, np.float32), values])

    integers = np.issubdtype(branch.actions.dtype, np.integer)
    return Episode(
        frames=branch.frames,
        actions=branch.actions.astype(np.int64 if integers else np.float32),
        rewards=branch.reward,
        terminated=branch.terminated,
        truncated=not branch.terminated,
        seed=result.seed,
        source=result.world,
        policy=f"{result.name}/{branch.name}",
        variables={"hazard": variable(branch.hazard), "novelty": variable(branch.novelty)},
        options={"start": result.start, "fork": branch.fork, "noise": str(branch.noise)},
    )


def _caption(branch: BranchResult, index: int) -> Caption:
    """What is written under frame `index` + 1 of a branch, which waits at its last one."""
    last = min(index, len(branch.reward) - 1)
    ended = branch.terminated and last == len(branch.reward) - 1
    return Caption(
        action=branch.labels[last][:_LABEL],
        reward=float(branch.reward[last]),
        hazard=float(branch.hazard[last]),
        note=f"{branch.name}  {(last + 1) / branch.fps:.1f} s",
        banner="END" if ended else "",
        marked=ended,
    )


def _shown(branch: BranchResult, index: int) -> UInt8[np.ndarray, "H W 3"]:
    if index < len(branch.frames):
        return branch.frames[index]
    return branch.frames[-1] // 4
