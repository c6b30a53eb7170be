"""Generated episodes as a LeRobot dataset of format v3.0."""

import json
import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from minari.serialization import serialize_space

from cfworld.data import Episode
from cfworld.data import lerobot_layout as layout
from cfworld.data.shards import ShardSummary
from cfworld.envs.spaces import world_action_space
from cfworld.errors import ConfigError, DatasetError
from cfworld.export.lerobot_features import IMAGE, episode_columns, episode_table, features_of, schema_of
from cfworld.export.lerobot_stats import STATISTICS, episode_stats, joined_stats
from cfworld.export.provenance import ExportPlan
from cfworld.export.video import VideoWriter
from cfworld.files import discard_unfinished, locked_folder, write_aside, write_json
from cfworld.world import WorldConfig

__all__ = ["LeRobotWriter"]

_ASIDE = ".unfinished"
"""Where unfinished files of the data lie: LeRobot reads every file of the other folders."""
_GOP = 2
_MEGABYTE = 2**20


class LeRobotWriter:
    """Writes episodes shard by shard; the folder is a LeRobot dataset after every `publish`.

    A shard is one file of each kind: a table of all its frames, a table of its episodes, and a video. Each is written
    aside and renamed, the table of episodes last: a shard exists if that does. `meta/info.json`, which says how many
    episodes the dataset has, is written after all of them, so what it says is always there; LeRobot passes over the
    rows of a shard that it does not count yet.

    The frame numbers of a shard go on from those of the shards before it, which must be there.

    Args:
        plan: The export.
        world: The world's configuration.
        variables: What the world tells of every frame.

    Raises:
        ConfigError: A video cannot hold the world's frames.
    """

    def __init__(self, plan: ExportPlan, world: WorldConfig, variables: Sequence[str]) -> None:
        config = plan.config
        self.folder = Path(config.out)
        self._plan = plan
        self._world = world
        self._crf = config.crf
        self._use_videos = config.use_videos
        if self._use_videos and any(size % 2 for size in world.resolution):
            raise ConfigError(
                f"the frames of {world.name!r} are {world.resolution[0]}x{world.resolution[1]}; videos need an even "
                "height and width: set use_videos=false"
            )
        self._space = world_action_space(world.actions)
        self._features = features_of(self._space, world.resolution, world.fps, variables, use_videos=self._use_videos)
        self._schema = schema_of(self._features)
        self._task = config.task or f"Act in the world {world.name}."

    def write_shard(self, shard: int, first_episode: int, episodes: Iterable[Episode]) -> ShardSummary:
        """Writes consecutive episodes, from `first_episode` on, as one finished shard; one at a time."""
        frame, rows = self._frames_before(shard), []
        begin = frame
        with ExitStack() as files:
            table = files.enter_context(self._aside(self._path(layout.DATA_PATH, shard)))
            video = None
            if self._use_videos:
                # Entered after the table and so renamed before it, when the encoder has ended.
                aside = files.enter_context(self._aside(self._path(layout.VIDEO_PATH, shard)))
                video = VideoWriter(aside, self._world.fps, self._crf, _GOP)
                files.callback(video.close)
            tables = files.enter_context(pq.ParquetWriter(table, self._schema))
            for number, episode in enumerate(episodes, start=first_episode):
                columns = episode_columns(episode, self._features, number, frame, self._world.fps)
                tables.write_table(episode_table(columns, self._schema))
                if video is not None:
                    for image in episode.frames:
                        video.add(image)
                rows.append(self._row(shard, number, episode, frame, frame - begin, episode_stats(columns)))
                frame += len(episode.frames)
        with self._aside(self._path(layout.EPISODES_PATH, shard)) as aside:
            pq.write_table(pa.Table.from_pylist(rows), aside)
        return self.summary(shard)

    def finished(self) -> list[int]:
        """The numbers of the finished shards."""
        found = self.folder.glob("meta/episodes/chunk-*/file-*.parquet")
        return sorted(
            int(path.parent.name.removeprefix("chunk-")) * layout.CHUNK_SIZE + int(path.stem.removeprefix("file-"))
            for path in found
        )

    def summary(self, shard: int) -> ShardSummary:
        """What a finished shard holds.

        Raises:
            DatasetError: It is damaged.
        """
        table = self._episodes(shard, ["length", "cfworld/policy", "cfworld/terminated", "cfworld/return"])
        return ShardSummary(
            ticks=tuple(length - 1 for length in table["length"].to_pylist()),
            policies=tuple(table["cfworld/policy"].to_pylist()),
            terminated=tuple(table["cfworld/terminated"].to_pylist()),
            returns=tuple(table["cfworld/return"].to_pylist()),
        )

    def publish(self, dataset: Sequence[ShardSummary]) -> None:
        """Makes the episodes of shards 0, 1, ... the dataset.

        Args:
            dataset: What of each shard belongs to it: its first `len(summary.ticks)` episodes.
        """
        columns = [f"stats/{feature}/{name}" for feature in self._features for name in STATISTICS]
        parts = [self._episodes(shard, columns).slice(0, len(summary.ticks)) for shard, summary in enumerate(dataset)]
        table = pa.concat_tables(parts)
        stats = {}
        for feature in self._features:
            values = {name: table[f"stats/{feature}/{name}"].to_pylist() for name in STATISTICS}
            episodes = [{name: np.array(values[name][row]) for name in STATISTICS} for row in range(len(table))]
            stats[feature] = joined_stats(episodes)
        with self._aside(self.folder / layout.TASKS_PATH) as aside:
            pq.write_table(_tasks(self._task), aside)
        write_json(self.folder / layout.STATS_PATH, stats)
        write_json(
            self.folder / layout.GENERATED_PATH,
            {
                "generated": True,
                "source": self._plan.source,
                "provenance": self._plan.provenance,
                "action_space": json.loads(str(serialize_space(self._space))),
                "action_names": self._world.actions.names,
                "frames_per_step": self._world.frames_per_step,
            },
        )
        write_json(self.folder / layout.INFO_PATH, self._info(dataset))

    def discard_leftovers(self) -> None:
        """Deletes what interrupted writers left aside. Only while the folder is `locked`."""
        for folder in (self.folder, self.folder / "meta", self.folder / _ASIDE):
            discard_unfinished(folder)

    def locked(self) -> AbstractContextManager[None]:
        """Keeps every other writer out of the folder; the lock goes with the process that holds it."""
        return locked_folder(self.folder, DatasetError)

    def _info(self, dataset: Sequence[ShardSummary]) -> dict[str, Any]:
        ticks = [ticks for summary in dataset for ticks in summary.ticks]
        return {
            "codebase_version": layout.VERSION,
            "robot_type": self._world.name,
            "total_episodes": len(ticks),
            "total_frames": sum(ticks) + len(ticks),
            "total_tasks": 1,
            "chunks_size": layout.CHUNK_SIZE,
            "data_files_size_in_mb": self._size("data/chunk-*/*.parquet", 100),
            "video_files_size_in_mb": self._size("videos/*/chunk-*/*.mp4", 200),
            "fps": self._world.fps,
            "splits": {"train": f"0:{len(ticks)}"},
            "data_path": layout.DATA_PATH,
            "video_path": layout.VIDEO_PATH if self._use_videos else None,
            "features": self._features,
            "generated": True,
        }

    def _row(
        self, shard: int, number: int, episode: Episode, frame: int, in_file: int, stats: dict[str, dict[str, Any]]
    ) -> dict[str, Any]:
        """What the table of episodes says of one: where it lies, its statistics, and where it comes from."""
        length, place = len(episode.frames), layout.file_of(shard)
        row: dict[str, Any] = {"episode_index": number, "tasks": [self._task], "length": length}
        row |= {f"data/{name}": value for name, value in place.items()}
        row |= {"dataset_from_index": frame, "dataset_to_index": frame + length}
        if self._use_videos:
            times = {"from_timestamp": in_file / self._world.fps, "to_timestamp": (in_file + length) / self._world.fps}
            row |= {f"videos/{IMAGE}/{name}": value for name, value in (place | times).items()}
        for feature, values in stats.items():
            row |= {f"stats/{feature}/{name}": value.tolist() for name, value in values.items()}
        row |= {f"meta/episodes/{name}": value for name, value in place.items()}
        told = {
            "seed": episode.seed,
            "policy": episode.policy,
            "options": json.dumps(dict(episode.options), sort_keys=True),
            "terminated": episode.terminated,
            "return": float(episode.rewards.sum()),
        }
        return row | {f"cfworld/{name}": value for name, value in told.items()}

    def _frames_before(self, shard: int) -> int:
        return 0 if shard == 0 else self._episodes(shard - 1, ["dataset_to_index"])["dataset_to_index"][-1].as_py()

    def _episodes(self, shard: int, columns: list[str]) -> pa.Table:
        path = self._path(layout.EPISODES_PATH, shard)
        try:
            return pq.read_table(path, columns=columns)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{str(path)!r} cannot be read ({error}); delete this file and export again") from error

    def _path(self, template: str, shard: int) -> Path:
        return self.folder / template.format(video_key=IMAGE, **layout.file_of(shard))

    def _aside(self, path: Path) -> AbstractContextManager[Path]:
        return write_aside(path, self.folder / _ASIDE)

    def _size(self, pattern: str, usual: int) -> int:
        """The size that files of a kind stay below, in megabytes."""
        largest = max((path.stat().st_size for path in self.folder.glob(pattern)), default=0)
        return max(usual, math.ceil(largest / _MEGABYTE))


def _tasks(task: str) -> pa.Table:
    """Tasks as pandas stores them: the text is the index, which it finds by the schema's metadata."""
    index = {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    column = index | {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64"}
    pandas = {"index_columns": ["task"], "column_indexes": [], "columns": [column, index], "pandas_version": "2.0.0"}
    table = pa.table({"task_index": pa.array([0], pa.int64()), "task": pa.array([task], pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
