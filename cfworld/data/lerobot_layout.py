"""Where things lie in a LeRobot dataset, and what its standard columns are called."""

from pathlib import Path

from cfworld.files import is_file

__all__ = [
    "CHUNK_SIZE",
    "DATA_PATH",
    "EPISODES_PATH",
    "GENERATED_PATH",
    "INFO_PATH",
    "STANDARD_COLUMNS",
    "STATS_PATH",
    "TASKS_PATH",
    "VERSION",
    "VIDEO_PATH",
    "file_of",
    "is_lerobot",
]

VERSION = "v3.0"
CHUNK_SIZE = 1000
"""Files in a folder."""
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
TASKS_PATH = "meta/tasks.parquet"
GENERATED_PATH = "meta/cfworld.json"
"""Beside the format's own: where a generated dataset comes from, and the space of its actions."""
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
STANDARD_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns that every dataset has."""
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def file_of(shard: int) -> dict[str, int]:
    """The chunk and the number within it of the file that holds a shard."""
    chunk, file = divmod(shard, CHUNK_SIZE)
    return {"chunk_index": chunk, "file_index": file}


def is_lerobot(folder: Path) -> bool:
    """Whether a folder holds a LeRobot dataset."""
    return is_file(folder / INFO_PATH)
