"""The columns of a LeRobot dataset: what each is called and holds, and an episode as their values."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from gymnasium import spaces
from PIL import Image

from cfworld.data import Episode
from cfworld.data.action_space import action_dtype, leaves, num_columns
from cfworld.data.lerobot_layout import STANDARD_COLUMNS

__all__ = ["IMAGE", "episode_columns", "episode_table", "features_of", "schema_of"]

IMAGE = "observation.image"
_IMAGE_TYPE = pa.struct({"bytes": pa.binary(), "path": pa.string()})
_TYPES = {"int64": pa.int64(), "float32": pa.float32(), "bool": pa.bool_()}


def features_of(
    action_space: spaces.Space, resolution: tuple[int, int], fps: int, variables: Sequence[str], *, use_videos: bool
) -> dict[str, dict[str, Any]]:
    """The `features` of info.json.

    Args:
        action_space: The space of the actions.
        resolution: Height and width of the frames.
        fps: Frames per second.
        variables: What the world tells of every frame.
        use_videos: Whether the frames lie in videos, not in the table.
    """
    height, width = resolution
    image: dict[str, Any] = {"dtype": "image", "shape": [height, width, 3], "names": ["height", "width", "channels"]}
    if use_videos:
        told = {"height": height, "width": width, "codec": "h264", "pix_fmt": "yuv420p", "is_depth_map": False}
        told |= {"fps": fps, "channels": 3}
        info = {f"video.{name}": value for name, value in told.items()} | {"has_audio": False}
        image = {**image, "dtype": "video", "info": info}
    names = _action_names(action_space)
    action = {"dtype": np.dtype(action_dtype(action_space)).name, "shape": [len(names)], "names": names}
    features = {IMAGE: image, "action": action, "next.reward": _scalar("float32")}
    features |= {f"next.{name}": _scalar("bool") for name in ("done", "terminated", "truncated")}
    features |= {name: _scalar("float32") for name in variables}
    return features | {name: _scalar("float32" if name == "timestamp" else "int64") for name in STANDARD_COLUMNS}


def schema_of(features: dict[str, dict[str, Any]]) -> pa.Schema:
    """The columns of the tables: all features but videos. A feature of one number is a number, not a list."""
    return pa.schema({name: _type(feature) for name, feature in features.items() if feature["dtype"] != "video"})


def episode_columns(
    episode: Episode, features: dict[str, dict[str, Any]], index: int, first_frame: int, fps: int
) -> dict[str, np.ndarray]:
    """An episode of T ticks as T + 1 rows: row t holds frame t, the action that follows it, and what that led to.

    The last frame has no action after it: its row repeats the last one, with no reward, and is `next.done` like the row
    before it.

    Args:
        episode: The episode.
        features: As `features_of` gives them.
        index: The episode's number.
        first_frame: Number of its first row among those of all episodes.
        fps: Frames per second.

    Returns:
        The values of every feature by its name, [T + 1, ...].
    """
    rows = len(episode.frames)
    at = np.arange(rows)
    ended = at >= rows - 2
    actions = episode.actions[np.minimum(at, rows - 2)]
    columns = {
        IMAGE: episode.frames,
        "action": actions.reshape(rows) if features["action"]["shape"] == [1] else actions,
        "next.reward": np.append(episode.rewards, np.float32(0)),
        "next.done": ended,
        "next.terminated": ended & episode.terminated,
        "next.truncated": ended & episode.truncated,
        **episode.variables,
        "timestamp": (at / fps).astype(np.float32),
        "frame_index": at,
        "episode_index": np.full(rows, index),
        "index": first_frame + at,
        "task_index": np.zeros(rows, np.int64),
    }
    return {name: columns[name] for name in features}


def episode_table(columns: dict[str, np.ndarray], schema: pa.Schema) -> pa.Table:
    """The columns of an episode that go into a table; images as PNG."""
    arrays = []
    for field in schema:
        values = columns[field.name]
        if field.type == _IMAGE_TYPE:
            images = [{"bytes": _png(frame), "path": f"frame-{at:06d}.png"} for at, frame in enumerate(values)]
            arrays.append(pa.array(images, _IMAGE_TYPE))
        elif values.ndim == 2:
            arrays.append(pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1]))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _scalar(dtype: str) -> dict[str, Any]:
    return {"dtype": dtype, "shape": [1], "names": None}


def _type(feature: dict[str, Any]) -> pa.DataType:
    if feature["dtype"] == "image":
        return _IMAGE_TYPE
    (size,) = feature["shape"]
    return _TYPES[feature["dtype"]] if size == 1 else pa.list_(_TYPES[feature["dtype"]], size)


def _action_names(space: spaces.Space) -> list[str]:
    """One name for every number of an action."""
    names = []
    for name, part in leaves(space):
        size = num_columns(part)
        name = name or "action"
        names += [name] if size == 1 else [f"{name}_{place}" for place in range(size)]
    return names


def _png(frame: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, format="PNG", compress_level=1)
    return buffer.getvalue()
