"""Single arrays of single episodes out of the files of a LeRobot dataset."""

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from gymnasium import spaces
from PIL import Image

from cfworld.data.action_space import nested
from cfworld.data.lerobot_files import EpisodeFiles, episode_files, read_table
from cfworld.data.lerobot_layout import STANDARD_COLUMNS
from cfworld.data.lerobot_spaces import action_space, as_array, image_spaces
from cfworld.data.pictures import rgb_pixels
from cfworld.data.readers import Reader
from cfworld.data.video_frames import video_frames

__all__ = ["LeRobotReader"]


class LeRobotReader(Reader):
    """Reads whole episodes, and keeps the last one.

    An episode of R rows has R - 1 ticks: row t holds frame t and the action that led to frame t + 1; what the action
    of the last row led to was not recorded. Rewards are `next.reward`, or 0 where there is none. An episode terminated
    if its last row or the one before says so, by `next.terminated` or else by `next.done`; otherwise it was cut off.
    Other features of one number are what the simulator told of every frame.

    Args:
        folder: Where `meta/info.json` lies.
        info: What stands in it.
        generated: What cfworld wrote beside it, or nothing.
        image_key: Which feature holds the frames.
    """

    def __init__(self, folder: Path, info: Mapping[str, Any], generated: Mapping[str, Any], image_key: str) -> None:
        super().__init__(folder, image_spaces(info), action_space(folder, info, generated), image_key)
        self.counts_actions = "action_space" not in generated
        self._features: dict[str, dict[str, Any]] = dict(info["features"])
        self._fps = float(info["fps"])
        self._files: list[EpisodeFiles] = episode_files(folder, info)
        self._last: tuple[int, pa.Table] | None = None
        self._images: tuple[int, np.ndarray] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None, "_images": None}

    def attributes(self, count: int) -> list[dict[str, Any]]:
        """The attributes of the first `count` episodes."""
        found = []
        for entry in self._files[:count]:
            told = dict(entry.told)
            options = json.loads(told.pop("options", "{}"))
            found.append(
                {"total_steps": entry.length - 1, **told, **{f"options/{name}": v for name, v in options.items()}}
            )
        return found

    def frames(self, index: int, start: int, stop: int) -> np.ndarray:
        """Frames `start` to `stop - 1` of an episode, uint8 `[n, H, W, 3]`."""
        if self._images is None or self._images[0] != index:
            self._images = index, self._all_frames(index)
        return self._images[1][start:stop]

    def array(self, index: int, name: str, start: int, stop: int) -> np.ndarray:
        """Entries `start` to `stop - 1` of what has a name."""
        if name == "actions":
            values = self._column(index, "action")
            return values.reshape(len(values), *(self.action_space.shape or ()))[start:stop]
        if name.startswith("actions/"):
            return self._part_of_actions(index, name.removeprefix("actions/"))[start:stop]
        if name == "rewards":
            if "next.reward" not in self._features:
                return np.zeros(stop - start, np.float32)
            return self._column(index, "next.reward")[start:stop]
        last = np.arange(start, stop) == self._files[index].length - 2
        return last & (self._terminated(index) == (name == "terminations"))

    def files(self) -> list[Path]:
        """The files that hold the data."""
        kinds = ("data", "images", "meta", "videos")
        return [path for path in super().files() if path.relative_to(self.folder).parts[0] in kinds]

    def contents(self, lengths: Mapping[int, int]) -> Iterator[bytes]:
        """The metadata, among them the statistics of actions and rewards."""
        del lengths
        meta = self.folder / "meta"
        yield from (path.read_bytes() for path in self.files() if path.is_relative_to(meta))

    def variables(self, index: int, start: int, stop: int) -> dict[str, np.ndarray]:
        """Entries `start` to `stop - 1` of what the simulator told at every frame, float32 each."""
        names = [
            name
            for name, feature in self._features.items()
            if list(feature["shape"]) == [1] and str(feature["dtype"]).startswith(("float", "int", "uint", "bool"))
            if name not in STANDARD_COLUMNS and name != "action" and not name.startswith(("action.", "next."))
        ]
        return {name: self._column(index, name)[start:stop].astype(np.float32) for name in names}

    def _part_of_actions(self, index: int, name: str) -> np.ndarray:
        if "action" in self._features:  # all parts side by side, as cfworld writes them
            return nested(self.action_space, self._column(index, "action"))[name]
        assert isinstance(self.action_space, spaces.Dict)
        values = self._column(index, f"action.{name}")
        return values.reshape(len(values), *(self.action_space[name].shape or ()))

    def _terminated(self, index: int) -> bool:
        for name in ("next.terminated", "next.done"):
            if name in self._features:
                return bool(self._column(index, name)[-2:].any())
        return False

    def _all_frames(self, index: int) -> np.ndarray:
        entry, key = self._files[index], str(self.image_key)
        assert self.image_space.shape is not None
        height, width, _ = self.image_space.shape
        if key in entry.videos:
            path, begin = entry.videos[key]
            return video_frames(path, begin, entry.length, self._fps, (height, width))
        return np.stack([self._pixels(index, image) for image in self._table(index)[key].to_pylist()])

    def _pixels(self, index: int, image: Mapping[str, Any]) -> np.ndarray:
        try:
            source = io.BytesIO(image["bytes"]) if image["bytes"] else self.folder / image["path"]
            with Image.open(source) as picture:
                return rgb_pixels(picture)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise self.damaged(index, error) from error

    def _column(self, index: int, name: str) -> np.ndarray:
        table = self._table(index)
        if name not in table.column_names:
            raise self.damaged(index, f"it has no {name!r}")
        return as_array(table[name])

    def _table(self, index: int) -> pa.Table:
        if self._last is None or self._last[0] != index:
            entry = self._files[index]
            table = read_table(entry.table, filters=[("episode_index", "==", entry.number)])
            if len(table) != entry.length:
                raise self.damaged(index, f"{len(table)} rows; expected {entry.length}")
            self._last = index, table.sort_by("frame_index")
        return self._last[1]
