"""Reading the episodes of a Minari or LeRobot dataset, whole or in part."""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from jaxtyping import Int64, UInt8
from minari.dataset.minari_storage import METADATA_FILE_NAME, MinariStorage

from cfworld.data.action_space import unusable
from cfworld.data.episode import Episode
from cfworld.data.lerobot_layout import GENERATED_PATH, INFO_PATH, is_lerobot
from cfworld.data.readers import Hdf5Reader, MinariReader, Reader, damaged
from cfworld.errors import CfworldError, DatasetError, MissingDependencyError
from cfworld.files import is_file

__all__ = ["EpisodeStore", "is_image_space"]


class EpisodeStore:
    """The episodes of a dataset of images, read on demand.

    Any Minari dataset will do whose observations are uint8 `[H, W, 3]` images (or a Dict that holds one) and
    whose actions are Discrete or MultiDiscrete (from 0), MultiBinary, a Box with one axis, Text, or a Dict of these;
    and any LeRobot dataset (v3 or v2) with a camera and actions. A store may be pickled and used in several processes.

    Attributes:
        folder: Where the dataset lies.
        metadata: What the dataset says about itself.
        observation_space: The space of its frames.
        action_space: The space of its actions.
        counts_actions: Whether the sizes of its discrete actions are only what occurs in the data.
        texts: The different texts among its actions, which number them; none where there is no Text.
        source: The id of the environment it was recorded in.
        lengths: Ticks of each episode, int64 `[E]`.
        seeds: Seed of each episode, int64 `[E]`; -1 when it is not known.
        policies: Name of the policy of each episode.
        options: Options of each episode's reset.
    """

    def __init__(self, folder: Path, metadata: Mapping[str, Any], reader: Reader) -> None:
        self.folder = folder
        self.metadata = metadata
        self.observation_space = reader.image_space
        self.action_space = reader.action_space
        self.counts_actions = reader.counts_actions
        self.source = _source(metadata)
        self._reader = reader
        self._stored: Int64[np.ndarray, " E"] = np.arange(int(metadata["total_episodes"]))
        attributes = reader.attributes(int(metadata["total_episodes"]))
        self.lengths: Int64[np.ndarray, " E"] = np.array([a["total_steps"] for a in attributes], np.int64)
        if (self.lengths < 1).any():
            raise reader.damaged(int(self.lengths.argmin()), "it has no step")
        self.texts = reader.read_texts(self.lengths.tolist())
        self.seeds: Int64[np.ndarray, " E"] = np.array([_seed(a.get("seed")) for a in attributes], np.int64)
        self.policies: list[str] = [str(a.get("policy", "unknown")) for a in attributes]
        self.options: list[dict[str, Any]] = [_options(a) for a in attributes]

    @classmethod
    def open(cls, path_or_id: str | Path, *, image_key: str | None = None) -> EpisodeStore:
        """Opens a dataset.

        Args:
            path_or_id: A dataset folder (of Minari's also its `data` folder), or the id of a local Minari dataset;
                "minari:" or "lerobot:" may stand before it.
            image_key: Which entry of a Dict observation, or which camera, holds the frames; needed when several could.

        Raises:
            DatasetError: There is no such dataset, it is damaged, or it holds no usable images or actions.
            MissingDependencyError: It is a LeRobot dataset, and pyarrow is not installed.
        """
        kind, address = _address(path_or_id)
        with _damage_of(f"dataset {address!r}"):
            if kind == "lerobot" or (kind == "" and is_lerobot(Path(address))):
                return cls._open_lerobot(Path(address), image_key)
            return cls._open_minari(_find(address), image_key)

    @classmethod
    def _open_minari(cls, folder: Path, image_key: str | None) -> EpisodeStore:
        metadata = _metadata(folder)
        storage = MinariStorage.read(folder)
        key = _image_key(folder, storage.observation_space, image_key)
        _check_actions(folder, storage.action_space)
        plain = metadata.get("data_format") == "hdf5" and not storage.jpeg_encoding
        reader = Hdf5Reader(folder, storage, key) if plain else MinariReader(folder, storage, key)
        return cls(folder, metadata, reader)

    @classmethod
    def _open_lerobot(cls, folder: Path, image_key: str | None) -> EpisodeStore:
        if not is_lerobot(folder):
            raise DatasetError(
                f"there is no LeRobot dataset {str(folder)!r}: no {INFO_PATH} in it; give its folder, and download it "
                "first if it lies elsewhere"
            )
        try:
            from cfworld.data.lerobot_files import read_info
            from cfworld.data.lerobot_reader import LeRobotReader
            from cfworld.data.lerobot_spaces import image_spaces
        except ModuleNotFoundError as error:
            raise MissingDependencyError.with_hint("a LeRobot dataset", str(error.name), "lerobot") from error
        info = read_info(folder)
        path = folder / GENERATED_PATH
        generated = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        key = _image_key(folder, image_spaces(info), image_key)
        assert key is not None
        reader = LeRobotReader(folder, info, generated, key)
        _check_actions(folder, reader.action_space)
        source = generated.get("source") or info.get("robot_type") or folder.name
        return cls(folder, {**info, **generated, "source": source}, reader)

    def select(self, episodes: Sequence[int] | Int64[np.ndarray, " E"]) -> EpisodeStore:
        """A store of some of these episodes, numbered anew in the given order; `metadata` says which they are."""
        chosen = np.asarray(episodes, np.int64)
        listed: list[int] = chosen.tolist()
        other = copy.copy(self)
        other._stored = self._stored[chosen]
        other.metadata = {**self.metadata, "episodes": other._stored.tolist()}
        other.lengths, other.seeds = self.lengths[chosen], self.seeds[chosen]
        other.policies = [self.policies[index] for index in listed]
        other.options = [self.options[index] for index in listed]
        return other

    def stored_number(self, index: int) -> int:
        """Number of an episode in the dataset itself, of which this store may hold a selection."""
        return int(self._stored[index])

    def digest(self) -> str:
        """What tells the data from others; a copy has the same.

        Frames are read only where they are not compressed. Elsewhere their files count by their size.

        Raises:
            DatasetError: A stored episode is damaged.
        """
        found = hashlib.sha256()
        for path in self._reader.files():
            found.update(f"{path.relative_to(self.folder).as_posix()}: {path.stat().st_size}\n".encode())
        lengths = dict(zip(self._stored.tolist(), self.lengths.tolist(), strict=True))
        for part in self._reader.contents(lengths):
            found.update(part)
        return found.hexdigest()

    def __len__(self) -> int:
        """The number of episodes E."""
        return len(self.lengths)

    def frames(self, index: int, start: int = 0, stop: int | None = None) -> UInt8[np.ndarray, "n H W 3"]:
        """Frames `start` to `stop - 1` of an episode; frame 0 is the reset frame, frame T the last.

        Args:
            index: Which episode.
            start: The first frame, from 0 to T.
            stop: One beyond the last frame; None means T + 1.

        Raises:
            DatasetError: The stored episode is damaged.
        """
        ticks = self._ticks(index)
        stop = ticks + 1 if stop is None else stop
        if not 0 <= start < stop <= ticks + 1:
            raise IndexError(f"frames [{start}:{stop}] of episode {index}; it has frames [0:{ticks + 1}]")
        stored = self.stored_number(index)
        with self._damage_in(stored):
            return self._frames(stored, start, stop)

    def episode(self, index: int, start: int = 0, stop: int | None = None) -> Episode:
        """An episode, or its ticks `start` to `stop - 1` as an episode of their own.

        Args:
            index: Which episode.
            start: The first tick, from 0 to T - 1.
            stop: One beyond the last tick; None means T.

        Raises:
            DatasetError: The stored episode is damaged.
        """
        ticks = self._ticks(index)
        stop = ticks if stop is None else stop
        if not 0 <= start < stop <= ticks:
            raise IndexError(f"ticks [{start}:{stop}] of episode {index}; it has ticks [0:{ticks}]")
        read, stored = self._reader, self.stored_number(index)
        with self._damage_in(stored):
            recorded: dict[str, Any] = {
                "frames": self._frames(stored, start, stop + 1),
                "actions": read.actions(stored, start, stop),
                "rewards": read.array(stored, "rewards", start, stop).astype(np.float32),
                "terminated": bool(read.array(stored, "terminations", stop - 1, stop)[-1]),
                "truncated": bool(read.array(stored, "truncations", stop - 1, stop)[-1]),
                "variables": read.variables(stored, start, stop + 1),
            }
        try:
            return Episode(
                **recorded,
                seed=int(self.seeds[index]),
                source=self.source,
                policy=self.policies[index],
                options=self.options[index],
            )
        except DatasetError as error:
            raise read.damaged(stored, error) from error

    def _frames(self, stored: int, start: int, stop: int) -> np.ndarray:
        images, size = self._reader.frames(stored, start, stop), self.observation_space.shape
        if images.shape != (stop - start, *(size or ())):
            raise self._reader.damaged(
                stored, f"frames {list(images.shape)}; expected {stop - start} of {list(size or ())}"
            )
        return images

    def _damage_in(self, stored: int) -> AbstractContextManager[None]:
        return _damage_of(f"episode {stored} of dataset {str(self.folder)!r}")

    def _ticks(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"episode {index}; the dataset holds episodes [0:{len(self)}]")
        return int(self.lengths[index])


@contextmanager
def _damage_of(what: str) -> Iterator[None]:
    """Whatever goes wrong in reading what is not as its format says becomes a DatasetError that names it."""
    try:
        yield
    except CfworldError:
        raise
    except (AssertionError, AttributeError, LookupError, TypeError, ValueError, gym.error.Error) as error:
        raise DatasetError(damaged(what, repr(error))) from error


def _address(path_or_id: str | Path) -> tuple[str, str]:
    """The kind of dataset that an address names, if it does, and the rest of it."""
    kind, colon, rest = str(path_or_id).partition(":")
    return (kind, rest) if colon and kind in ("minari", "lerobot") else ("", str(path_or_id))


def _find(path_or_id: str | Path) -> Path:
    root = os.environ.get("MINARI_DATASETS_PATH", Path("~/.minari/datasets").expanduser())
    path = Path(path_or_id)
    for folder in (path, path / "data", root / path / "data"):
        if is_file(folder / METADATA_FILE_NAME):
            return folder
    raise DatasetError(
        f"there is no dataset {str(path_or_id)!r}: no {METADATA_FILE_NAME} in it, in its data folder, or under "
        f"{str(root)!r}, and no {INFO_PATH} of LeRobot's; collect it with `cfworld collect` or download it with "
        "`minari download`"
    )


def _metadata(folder: Path) -> dict[str, Any]:
    path = folder / METADATA_FILE_NAME
    try:
        metadata = json.loads(path.read_text())
        episodes = int(metadata["total_episodes"])
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{str(path)!r} is not the metadata of a Minari dataset ({error!r}); copy or collect the dataset again"
        ) from error
    if episodes < 1:
        raise DatasetError(f"dataset {str(folder)!r} holds no episode; expected at least one")
    return metadata


def is_image_space(space: gym.Space) -> bool:
    """Whether the observations of a space are uint8 `[H, W, 3]` images."""
    box = isinstance(space, spaces.Box)
    return box and space.dtype == np.uint8 and len(space.shape) == 3 and space.shape[-1] == 3


def _image_key(folder: Path, space: gym.Space, key: str | None) -> str | None:
    if not isinstance(space, spaces.Dict):
        if key is None and is_image_space(space):
            return None
        raise DatasetError(
            f"observations of {str(folder)!r} are {space} (image_key={key!r}); expected uint8 [H, W, 3] "
            "images, or a Dict that holds them and the image_key that names them"
        )
    images = [name for name, entry in space.spaces.items() if is_image_space(entry)]
    if key in images or (key is None and len(images) == 1):
        return key or images[0]
    raise DatasetError(
        f"image_key={key!r} in the observations of {str(folder)!r}; expected one of its uint8 [H, W, 3] "
        f"entries: {images}"
    )


def _check_actions(folder: Path, space: gym.Space) -> None:
    if problem := unusable(space):
        raise DatasetError(f"a world cannot learn from the actions of {str(folder)!r}: {problem}")


def _source(metadata: Mapping[str, Any]) -> str:
    spec = json.loads(metadata["env_spec"]) if metadata.get("env_spec") else {}
    return str(metadata.get("source") or spec.get("id") or metadata.get("dataset_id") or "unknown")


def _seed(seed: Any) -> int:
    return -1 if seed is None else int(seed)


def _options(attributes: Mapping[str, Any]) -> dict[str, Any]:
    entries = {name: value for name, value in attributes.items() if name.startswith("options/")}
    return {
        name.removeprefix("options/"): value.item() if isinstance(value, np.generic) else value
        for name, value in entries.items()
    }
