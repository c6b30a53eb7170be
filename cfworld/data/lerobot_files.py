"""Where each episode of a LeRobot dataset lies, in format v3 (many episodes to a file) and v2 (one)."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cfworld.data import lerobot_layout as layout
from cfworld.errors import DatasetError

__all__ = ["EpisodeFiles", "data_files", "episode_files", "read_info", "read_table"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeFiles:
    """Where an episode lies.

    Attributes:
        number: Its `episode_index`.
        length: Its rows.
        table: The file that holds them, among those of other episodes maybe.
        videos: By feature the video that holds its frames, and the second at which they begin.
        told: What cfworld wrote of it: seed, policy, options; nothing in the datasets of others.
    """

    number: int
    length: int
    table: Path
    videos: Mapping[str, tuple[Path, float]]
    told: Mapping[str, Any] = field(default_factory=dict)


def read_info(folder: Path) -> dict[str, Any]:
    """The `info.json` of a dataset.

    Raises:
        DatasetError: It is damaged, of a format that cfworld does not read, or holds no episode.
    """
    path = folder / layout.INFO_PATH
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
        version, episodes = str(info["codebase_version"]), int(info["total_episodes"])
        if not (isinstance(info["features"], dict) and float(info["fps"]) > 0 and info["data_path"]):
            raise ValueError("its features are no mapping, or its fps not above 0")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{str(path)!r} is not that of a LeRobot dataset ({error!r}); copy it again") from error
    if not version.startswith(("v2.", "v3.")):
        raise DatasetError(f"dataset {str(folder)!r} is of LeRobot format {version}; expected v3 or v2: convert it")
    if episodes < 1:
        raise DatasetError(f"dataset {str(folder)!r} holds no episode; expected at least one")
    return info


def episode_files(folder: Path, info: Mapping[str, Any]) -> list[EpisodeFiles]:
    """All episodes that a dataset counts, in order.

    Raises:
        DatasetError: The list of its episodes is damaged or incomplete.
    """
    try:
        found = sorted(
            _files_v2(folder, info) if info["codebase_version"].startswith("v2.") else _files_v3(folder, info),
            key=lambda entry: entry.number,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"the episodes of dataset {str(folder)!r} cannot be listed ({error!r}); copy it again"
        ) from error
    count = int(info["total_episodes"])
    found = found[:count]
    if [entry.number for entry in found] != list(range(count)) or min(entry.length for entry in found) < 2:
        raise DatasetError(
            f"dataset {str(folder)!r} lists {len(found)} episodes; expected the {count} that its info.json counts, "
            "each of at least two rows: copy it again"
        )
    return found


def read_table(path: Path, **selection: Any) -> pa.Table:
    """A table, or a part of one.

    Raises:
        DatasetError: It is missing or damaged.
    """
    try:
        return pq.read_table(path, **selection)
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{str(path)!r} cannot be read ({error}); copy the dataset again") from error


def data_files(folder: Path) -> list[Path]:
    """The tables of frames, in order.

    Raises:
        DatasetError: There are none.
    """
    found = sorted(folder.glob("data/chunk-*/*.parquet"))
    if not found:
        raise DatasetError(f"dataset {str(folder)!r} has no data/chunk-*/*.parquet; download its data too")
    return found


def _videos(info: Mapping[str, Any]) -> list[str]:
    return [name for name, feature in info["features"].items() if feature["dtype"] == "video"]


def _files_v3(folder: Path, info: Mapping[str, Any]) -> Iterator[EpisodeFiles]:
    for path in sorted(folder.glob("meta/episodes/chunk-*/*.parquet")):
        names = [name for name in pq.read_schema(path).names if not name.startswith("stats/")]
        for row in pq.read_table(path, columns=names).to_pylist():

            def place(kind: str, row: Mapping[str, Any] = row) -> dict[str, int]:
                return {name: row[f"{kind}/{name}"] for name in ("chunk_index", "file_index")}

            yield EpisodeFiles(
                number=row["episode_index"],
                length=row["length"],
                table=folder / info["data_path"].format(**place("data")),
                videos={
                    key: (
                        folder / info["video_path"].format(video_key=key, **place(f"videos/{key}")),
                        row[f"videos/{key}/from_timestamp"],
                    )
                    for key in _videos(info)
                },
                told={
                    name.removeprefix("cfworld/"): value for name, value in row.items() if name.startswith("cfworld/")
                },
            )


def _files_v2(folder: Path, info: Mapping[str, Any]) -> Iterator[EpisodeFiles]:
    for line in (folder / "meta/episodes.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        number = row["episode_index"]
        place = {"episode_chunk": number // int(info["chunks_size"]), "episode_index": number}
        yield EpisodeFiles(
            number=number,
            length=row["length"],
            table=folder / info["data_path"].format(**place),
            videos={key: (folder / info["video_path"].format(video_key=key, **place), 0.0) for key in _videos(info)},
        )
