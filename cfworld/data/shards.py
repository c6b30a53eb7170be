"""Writing a Minari dataset as finished shards behind an index of links."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import gymnasium as gym
import h5py
import minari
import numpy as np
from minari.dataset.minari_storage import METADATA_FILE_NAME
from minari.serialization import serialize_space

from cfworld.data.action_space import nested
from cfworld.data.episode import Episode
from cfworld.errors import DatasetError
from cfworld.files import discard_unfinished, locked_folder, write_aside, write_text

__all__ = ["MAIN_FILE_NAME", "ShardSummary", "ShardWriter", "StoreWriter"]

MAIN_FILE_NAME = "main_data.hdf5"
FRAMES_PER_CHUNK = 16


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSummary:
    """What a finished shard holds, one entry for each episode.

    Attributes:
        ticks: Lengths in ticks.
        policies: Names of the policies.
        terminated: Whether each episode really ended.
        returns: Sums of rewards.
    """

    ticks: tuple[int, ...]
    policies: tuple[str, ...]
    terminated: tuple[bool, ...]
    returns: tuple[float, ...]

    def first(self, count: int) -> ShardSummary:
        """The same of the first `count` episodes only."""
        return ShardSummary(
            ticks=self.ticks[:count],
            policies=self.policies[:count],
            terminated=self.terminated[:count],
            returns=self.returns[:count],
        )


@runtime_checkable
class ShardWriter(Protocol):
    """Writes episodes shard by shard; the folder is a complete dataset after every `publish`."""

    folder: Path

    def write_shard(self, shard: int, first_episode: int, episodes: Iterable[Episode]) -> ShardSummary:
        """Writes consecutive episodes, from `first_episode` on, as one finished shard; one at a time."""
        ...

    def finished(self) -> list[int]:
        """The numbers of the finished shards."""
        ...

    def summary(self, shard: int) -> ShardSummary:
        """What a finished shard holds."""
        ...

    def publish(self, dataset: Sequence[ShardSummary]) -> None:
        """Makes the episodes of shards 0, 1, ... the dataset."""
        ...

    def discard_leftovers(self) -> None:
        """Deletes what interrupted writers left aside. Only while the folder is `locked`."""
        ...

    def locked(self) -> AbstractContextManager[None]:
        """Keeps every other writer out of the folder."""
        ...


class StoreWriter:
    """Writes episodes shard by shard; the folder is a complete Minari dataset after every `publish`.

    A shard is one HDF5 file of consecutive episodes in Minari's layout. It is written aside, flushed to the
    disk and renamed, so it exists whole or not at all. The index, which plain Minari opens, links to the
    episodes of the first shards. Minari itself would rewrite its files in place, and choose chunks that are
    slow to read frame by frame.

    Layout under `folder`: `data/main_data.hdf5` and `data/metadata.json` (the index), `data/shards/*.hdf5`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        observation_space: gym.Space,
        action_space: gym.Space,
        source: str,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self._action_space = action_space
        self._metadata = {
            **(metadata or {}),
            "data_format": "hdf5",
            "jpeg_encoding": False,
            "observation_space": serialize_space(observation_space),
            "action_space": serialize_space(action_space),
            "dataset_id": _dataset_id(folder),
            "minari_version": minari.__version__,
            "source": source,
        }

    @property
    def _shards(self) -> Path:
        return self.folder / "data" / "shards"

    def shard_path(self, shard: int) -> Path:
        """Where the finished shard lies."""
        return self._shards / f"{shard:05d}.hdf5"

    def write_shard(self, shard: int, first_episode: int, episodes: Iterable[Episode]) -> ShardSummary:
        """Writes consecutive episodes, from `first_episode` on, as one finished shard; one at a time."""
        with write_aside(self.shard_path(shard)) as aside:
            for offset, episode in enumerate(episodes):
                # Open for no longer than it takes: a simulator started meanwhile would inherit the file's lock.
                with h5py.File(aside, "a" if offset else "w") as file:
                    _write_episode(file, first_episode + offset, episode, self._action_space)
        return self.summary(shard)

    def finished(self) -> list[int]:
        """The numbers of the finished shards."""
        return sorted(int(path.stem) for path in self._shards.glob("[0-9]*.hdf5"))

    def summary(self, shard: int) -> ShardSummary:
        """What a finished shard holds.

        Raises:
            DatasetError: It is damaged.
        """
        path = self.shard_path(shard)
        try:
            with h5py.File(path, "r") as file:
                groups = sorted(file.values(), key=lambda group: group.attrs["id"])
                return ShardSummary(
                    ticks=tuple(int(group.attrs["total_steps"]) for group in groups),
                    policies=tuple(str(group.attrs["policy"]) for group in groups),
                    terminated=tuple(bool(group["terminations"][-1]) for group in groups),
                    returns=tuple(float(group["rewards"][()].sum()) for group in groups),
                )
        except (OSError, KeyError) as error:
            raise DatasetError(
                f"shard {str(path)!r} cannot be read ({error}); delete this file and collect again"
            ) from error

    def publish(self, dataset: Sequence[ShardSummary]) -> None:
        """Makes the episodes of shards 0, 1, ... the dataset.

        Args:
            dataset: What of each shard belongs to it: its first `len(summary.ticks)` episodes.
        """
        data = self.folder / "data"
        index = 0
        with write_aside(data / MAIN_FILE_NAME) as aside, h5py.File(aside, "w", track_order=True) as file:
            for shard, summary in enumerate(dataset):
                for _ in summary.ticks:
                    name = f"episode_{index}"
                    file[name] = h5py.ExternalLink(f"shards/{self.shard_path(shard).name}", name)
                    index += 1
        size = sum(path.stat().st_size for path in self._shards.glob("[0-9]*.hdf5")) / 1e6
        ticks = sum(sum(summary.ticks) for summary in dataset)
        totals = {"total_episodes": index, "total_steps": ticks, "dataset_size": round(size, 1)}
        write_text(data / METADATA_FILE_NAME, json.dumps(self._metadata | totals, indent=1))

    def discard_leftovers(self) -> None:
        """Deletes what interrupted writers left aside. Only while the folder is `locked`."""
        for folder in (self.folder, self.folder / "data", self._shards):
            discard_unfinished(folder)

    def locked(self) -> AbstractContextManager[None]:
        """Keeps every other writer out of the folder; the lock goes with the process that holds it."""
        return locked_folder(self.folder, DatasetError)


def _write_episode(file: h5py.File, index: int, episode: Episode, action_space: gym.Space) -> None:
    group = file.create_group(f"episode_{index}")
    group.attrs.update({"id": index, "seed": episode.seed, "total_steps": len(episode), "policy": episode.policy})
    group.attrs.update({f"options/{name}": value for name, value in episode.options.items()})
    frames = episode.frames
    group.create_dataset(
        "observations",
        data=frames,
        chunks=(min(FRAMES_PER_CHUNK, len(frames)), *frames.shape[1:]),
        compression="gzip",
        compression_opts=1,
    )
    last = np.arange(len(episode)) == len(episode) - 1
    actions = nested(action_space, episode.actions)
    for name, part in actions.items() if isinstance(actions, dict) else [("", actions)]:
        group[f"actions/{name}" if name else "actions"] = part
    group["rewards"] = episode.rewards
    group["terminations"] = last & episode.terminated
    group["truncations"] = last & episode.truncated
    infos = group.create_group("infos")
    for name, values in episode.variables.items():
        infos[name] = values


def _dataset_id(folder: Path) -> str:
    """A Minari id out of the last two folder names: `datasets/doom/train` -> `doom/train-v0`."""
    parts = folder.resolve().parts[-2:]
    names = ["".join(char if char.isalnum() or char in "-_" else "_" for char in part) for part in parts]
    return "/".join(name.strip("/") or "_" for name in names) + "-v0"
