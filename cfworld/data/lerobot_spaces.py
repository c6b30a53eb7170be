"""The spaces of a LeRobot dataset, which only names types and shapes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from gymnasium import spaces
from minari.serialization import deserialize_space

from cfworld.data.lerobot_files import data_files, read_table
from cfworld.errors import DatasetError

__all__ = ["action_space", "as_array", "image_spaces"]


def image_spaces(info: Mapping[str, Any]) -> spaces.Dict:
    """The features that are colour images, in tables or videos, as spaces [H, W, 3]."""
    found: dict[str, spaces.Space[Any]] = {}
    for name, feature in info["features"].items():
        shape = list(feature["shape"])
        if feature["dtype"] in ("image", "video") and len(shape) == 3 and 3 in (shape[0], shape[-1]):
            size = shape[:2] if shape[-1] == 3 else shape[1:]
            found[name] = spaces.Box(0, 255, (*size, 3), np.uint8)
    return spaces.Dict(found)


def action_space(folder: Path, info: Mapping[str, Any], generated: Mapping[str, Any]) -> spaces.Space[Any]:
    """The space of the feature `action`, or a Dict of the features `action.<name>`.

    Integers are discrete: so many as the data hold, counted from 0. Floats are a box without bounds.

    Args:
        folder: The dataset.
        info: Its `info.json`.
        generated: What cfworld wrote beside it, which holds the space itself; or nothing.

    Raises:
        DatasetError: There are no actions, or they are neither numbers nor lists of numbers.
    """
    if "action_space" in generated:
        return deserialize_space(json.dumps(generated["action_space"]))
    parts = {name: part for name, part in info["features"].items() if name.startswith("action.")}
    if "action" in info["features"]:
        return _space(folder, "action", info["features"]["action"])
    if parts:
        return spaces.Dict({name.removeprefix("action."): _space(folder, name, part) for name, part in parts.items()})
    raise DatasetError(
        f"dataset {str(folder)!r} has features {sorted(info['features'])}; expected one called action, or several "
        "called action.<name>"
    )


def _space(folder: Path, name: str, feature: Mapping[str, Any]) -> spaces.Space[Any]:
    dtype, shape = str(feature["dtype"]), list(feature["shape"])
    if len(shape) == 1 and dtype.startswith("float"):
        return spaces.Box(-np.inf, np.inf, (shape[0],), np.float32)
    if len(shape) == 1 and dtype == "bool":
        return spaces.MultiBinary(shape[0])
    if len(shape) == 1 and dtype.startswith(("int", "uint")):
        most = np.max([_most(read_table(path, columns=[name])[name], shape[0]) for path in data_files(folder)], axis=0)
        return spaces.Discrete(int(most[0]) + 1) if shape[0] == 1 else spaces.MultiDiscrete(most + 1)
    raise DatasetError(f"{name} of dataset {str(folder)!r} is {dtype} {shape}; expected numbers, or a list of numbers")


def _most(column: pa.ChunkedArray, size: int) -> np.ndarray:
    """The greatest value of each component."""
    return as_array(column).reshape(-1, size).max(axis=0)


def as_array(column: pa.ChunkedArray) -> np.ndarray:
    """A column of numbers, or of lists of equally many numbers, as an array [T] or [T, n].

    Raises:
        ValueError: If lists are missing, or of different lengths.
    """
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        lengths = pc.call_function("list_value_length", [column]).unique().to_pylist()
        if len(lengths) > 1 or None in lengths:
            raise ValueError(f"got lists of {lengths} numbers; expected them equally long")
        joined = column.combine_chunks()
        values = joined.flatten().to_numpy(zero_copy_only=False)
        return values.reshape(len(column), -1)
    return column.to_numpy()
