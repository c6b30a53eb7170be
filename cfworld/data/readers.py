"""Single arrays of single episodes out of the files of a Minari dataset."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
from gymnasium import spaces
from minari.dataset.minari_storage import MinariStorage

from cfworld.data.action_space import flat, leaves, num_columns, sizes
from cfworld.data.shards import MAIN_FILE_NAME
from cfworld.errors import DatasetError

__all__ = ["Hdf5Reader", "MinariReader", "Reader", "damaged"]

_FRAMES_AT_ONCE = 256
_BYTES_AT_ONCE = 2**20


class Reader(ABC):
    """Access to single arrays of single episodes.

    Args:
        folder: Where the dataset lies.
        observation_space: The space of its images, or a Dict that holds it.
        action_space: The space of its actions.
        image_key: Which entry of a Dict holds the images.
    """

    counts_actions = False
    """Whether the sizes of discrete actions are not known, but counted: there may be more than occur in the data."""

    def __init__(
        self, folder: Path, observation_space: spaces.Space, action_space: spaces.Space, image_key: str | None
    ) -> None:
        self.folder = folder
        self.image_key = image_key
        self.image_space = observation_space if image_key is None else cast(spaces.Dict, observation_space)[image_key]
        self.action_space = action_space
        self._numbers: dict[str, int] = {}

    @abstractmethod
    def attributes(self, count: int) -> list[dict[str, Any]]:
        """The attributes of the first `count` episodes."""

    @abstractmethod
    def frames(self, index: int, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop - 1` of an episode, uint8 `[n, H, W, 3]`."""

    def actions(self, index: int, start: int, stop: int) -> np.ndarray:
        """Entries `start` to `stop - 1` of the actions, laid out as `cfworld.data.action_space` says.

        Raises:
            DatasetError: They are missing, or one is none of the action space.
        """
        parts = {name: self._part(index, name, part, start, stop) for name, part in leaves(self.action_space)}
        return flat(self.action_space, parts)

    def read_texts(self, lengths: Sequence[int]) -> list[str]:
        """All texts among the actions of episodes of these lengths, sorted; `actions` numbers them so from now on."""
        found: set[str] = set()
        for name, part in leaves(self.action_space):
            if isinstance(part, spaces.Text):
                for index, ticks in enumerate(lengths):
                    found.update(self._text(index, name, 0, ticks))
        self._numbers = {text: number for number, text in enumerate(sorted(found))}
        return sorted(found)

    def _part(self, index: int, name: str, part: spaces.Space, start: int, stop: int) -> np.ndarray:
        if isinstance(part, spaces.Text):
            return np.array([self._numbers[text] for text in self._text(index, name, start, stop)], np.int64)
        values = self.array(index, _action_path(name), start, stop)
        if values.size != len(values) * num_columns(part):
            raise self.damaged(index, f"its {_action_path(name)} are {list(values.shape)}; expected those of {part}")
        counts = np.array(sizes(part))
        if len(counts) and len(values):
            components = values.reshape(len(values), len(counts))
            if values.dtype.kind not in "biu" or (components < 0).any() or (components >= counts).any():
                found = np.unique(values)[[0, -1]].tolist()
                raise self.damaged(index, f"actions from {found[0]} to {found[1]}; expected {part}")
        return values

    def _text(self, index: int, name: str, start: int, stop: int) -> list[str]:
        values = self.array(index, _action_path(name), start, stop).tolist()
        return [text.decode("utf-8") if isinstance(text, bytes) else text for text in values]

    @abstractmethod
    def array(self, index: int, name: str, start: int, stop: int) -> np.ndarray:
        """Entries `start` to `stop - 1` of rewards, terminations or truncations, or of a part of the actions.

        Raises:
            DatasetError: They are missing.
        """

    @abstractmethod
    def variables(self, index: int, start: int, stop: int) -> dict[str, np.ndarray]:
        """Entries `start` to `stop - 1` of what the simulator told at every frame, float32 each."""

    def files(self) -> list[Path]:
        """The files that hold the data."""
        return sorted(path for path in self.folder.glob("**/[!.]*") if path.is_file())

    def contents(self, lengths: Mapping[int, int]) -> Iterator[bytes]:
        """What tells data from others of the same size; nothing where that would mean to decompress all frames.

        Args:
            lengths: Ticks of each episode.
        """
        del lengths
        yield from ()

    def damaged(self, index: int, reason: object) -> DatasetError:
        """The error for an episode that cannot be read."""
        return DatasetError(damaged(f"episode {index} of dataset {str(self.folder)!r}", reason))

    def _complete(self, index: int, name: str, values: np.ndarray, start: int, stop: int) -> np.ndarray:
        if len(values) != stop - start:
            raise self.damaged(index, f"its {name} end before entry {stop - 1}")
        return values


class Hdf5Reader(Reader):
    """Reads only what is asked for, straight from the HDF5 file."""

    def __init__(self, folder: Path, storage: MinariStorage, image_key: str | None) -> None:
        super().__init__(folder, storage.observation_space, storage.action_space, image_key)
        self._file: h5py.File | None = None
        self._process = -1

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_file": None, "_process": -1}

    def attributes(self, count: int) -> list[dict[str, Any]]:
        """The attributes of the first `count` episodes."""
        found = []
        for index in range(count):
            attributes = dict(self._group(index).attrs)
            if "total_steps" not in attributes:
                raise self.damaged(index, "it has no attribute 'total_steps'")
            expected = int(attributes["total_steps"]) + 1
            stored = self._images(index).shape[0]
            if stored != expected:
                raise self.damaged(index, f"{stored} frames; expected {expected}")
            found.append(attributes)
        return found

    def frames(self, index: int, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop - 1` of an episode, uint8 `[n, H, W, 3]`."""
        return self._read(index, self._images(index), start, stop)

    def array(self, index: int, name: str, start: int, stop: int) -> np.ndarray:
        """Entries `start` to `stop - 1` of what has a name."""
        return self._read(index, self._entry(index, name), start, stop)

    def variables(self, index: int, start: int, stop: int) -> dict[str, np.ndarray]:
        """Entries `start` to `stop - 1` of what the simulator told at every frame, float32 each."""
        group = self._group(index)
        infos = group.get("infos", {})
        count = int(group.attrs["total_steps"]) + 1
        return {
            name: values[start:stop].astype(np.float32)
            for name, values in infos.items()
            if isinstance(values, h5py.Dataset) and values.shape == (count,) and values.dtype.kind in "biuf"
        }

    def contents(self, lengths: Mapping[int, int]) -> Iterator[bytes]:
        """Actions, rewards and ends, and frames that are not compressed: others would be as long."""
        for index, ticks in lengths.items():
            yield self.actions(index, 0, ticks).tobytes()
            for name in ("rewards", "terminations"):
                yield self.array(index, name, 0, ticks).tobytes()
            if not _is_compressed(self._images(index)):
                for start in range(0, ticks + 1, _FRAMES_AT_ONCE):
                    yield self.frames(index, start, min(start + _FRAMES_AT_ONCE, ticks + 1)).tobytes()

    def _read(self, index: int, dataset: Any, start: int, stop: int) -> np.ndarray:
        try:
            values = dataset[start:stop]
        except OSError as error:
            raise self.damaged(index, error) from error
        return self._complete(index, dataset.name.rpartition("/")[2], values, start, stop)

    def _images(self, index: int) -> Any:
        if self.image_key is None:
            return self._entry(index, "observations")
        return self._entry(index, f"observations/{self.image_key}")

    def _entry(self, index: int, name: str) -> Any:
        entry = self._group(index).get(name)
        if not isinstance(entry, h5py.Dataset):
            raise self.damaged(index, f"it has no {name!r}")
        return entry

    def _group(self, index: int) -> Any:
        if self._file is None or self._process != os.getpid():
            self._file, self._process = self._opened(), os.getpid()
        try:
            return self._file[f"episode_{index}"]
        except (KeyError, OSError) as error:
            raise self.damaged(index, error) from error

    def _opened(self) -> h5py.File:
        path = self.folder / MAIN_FILE_NAME
        try:
            return h5py.File(path, "r")
        except OSError as error:
            raise DatasetError(
                f"{str(path)!r} cannot be read ({error}); it is truncated or no HDF5 file: copy or collect "
                "the dataset again"
            ) from error


class MinariReader(Reader):
    """Reads whole episodes through Minari (JPEG, Arrow and Parquet); keeps the last one."""

    def __init__(self, folder: Path, storage: MinariStorage, image_key: str | None) -> None:
        super().__init__(folder, storage.observation_space, storage.action_space, image_key)
        self._storage = storage
        self._last: tuple[int, dict[str, Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None}

    def attributes(self, count: int) -> list[dict[str, Any]]:
        """The attributes of the first `count` episodes."""
        try:
            found = [dict(entry) for entry in self._storage.get_episode_metadata(range(count))]
        except (OSError, KeyError) as error:
            raise DatasetError(
                f"dataset {str(self.folder)!r} is damaged or incomplete ({error}); copy it again"
            ) from error
        for index, attributes in enumerate(found):
            if "total_steps" not in attributes:
                raise self.damaged(index, "it has no attribute 'total_steps'")
        return found

    def contents(self, lengths: Mapping[int, int]) -> Iterator[bytes]:
        """The files themselves; of Parquet's the sizes tell. HDF5 rounds those of JPEGs, and Arrow packs nothing."""
        del lengths
        if self._storage.FORMAT != "parquet":
            for path in self.files():
                with path.open("rb") as file:
                    while part := file.read(_BYTES_AT_ONCE):
                        yield part

    def frames(self, index: int, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop - 1` of an episode, uint8 `[n, H, W, 3]`."""
        observations = self._entry(index, "observations")
        return (observations if self.image_key is None else observations[self.image_key])[start:stop]

    def array(self, index: int, name: str, start: int, stop: int) -> np.ndarray:
        """Entries `start` to `stop - 1` of what has a name."""
        return self._complete(index, name, np.asarray(self._entry(index, name)[start:stop]), start, stop)

    def variables(self, index: int, start: int, stop: int) -> dict[str, np.ndarray]:
        """Entries `start` to `stop - 1` of what the simulator told at every frame, float32 each."""
        episode = self._episode(index)
        count = len(self._entry(index, "rewards")) + 1
        arrays = {name: np.asarray(values) for name, values in (episode.get("infos") or {}).items()}
        return {
            name: values[start:stop].astype(np.float32)
            for name, values in arrays.items()
            if values.shape == (count,) and values.dtype.kind in "biuf"
        }

    def _entry(self, index: int, name: str) -> Any:
        entry: Any = self._episode(index)
        for key in name.split("/", 1):
            entry = entry.get(key) if isinstance(entry, dict) else None
        if entry is None:
            raise self.damaged(index, f"it has no {name!r}")
        return entry

    def _episode(self, index: int) -> dict[str, Any]:
        if self._last is None or self._last[0] != index:
            try:
                self._last = index, next(iter(self._storage.get_episodes([index])))
            except (OSError, KeyError) as error:
                raise self.damaged(index, error) from error
        return self._last[1]


def damaged(what: str, reason: object) -> str:
    """The message about something that cannot be read."""
    return f"{what} is damaged or incomplete ({reason}); copy or collect the dataset again"


def _is_compressed(dataset: h5py.Dataset) -> bool:
    """Whether its size depends on what it holds; other filters order bytes, or add checksums to them."""
    plist = dataset.id.get_create_plist()
    filters = {plist.get_filter(place)[0] for place in range(plist.get_nfilters())}
    return bool(filters - {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})


def _action_path(name: str) -> str:
    return f"actions/{name}" if name else "actions"
