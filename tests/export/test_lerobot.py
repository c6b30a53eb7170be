"""The files of a LeRobot dataset, field by field, as format v3.0 has them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gymnasium import spaces
from PIL import Image

from cfworld.data import EpisodeStore
from cfworld.errors import ConfigError
from cfworld.export.lerobot import LeRobotWriter
from tests.export.episodes import TICKS, episode, frame, plan, world
from tests.export.video_tools import read
from tests.toy import BOX, MULTI

STATISTICS = ["min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99"]
FEATURES = [
    "observation.image",
    "action",
    "next.reward",
    "next.done",
    "next.terminated",
    "next.truncated",
    "hazard",
    "timestamp",
    "frame_index",
    "episode_index",
    "index",
    "task_index",
]


def write(out: Path, *, actions: Any = None, world_actions: Any = None, **changes: Any) -> Path:
    """Three episodes of 5, 7 and 4 rows in two files."""
    toy = world(**({"actions": world_actions} if world_actions else {}))
    writer = LeRobotWriter(plan(out, **changes), toy, ["hazard"])
    episodes = [episode(number, actions) for number in range(3)]
    writer.publish([writer.write_shard(0, 0, episodes[:2]), writer.write_shard(1, 2, episodes[2:])])
    return out


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("videos"), task="dodge")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("images"), use_videos=False)


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_files_lie_where_the_format_looks_for_them(videos: Path, images: Path) -> None:
    both = {"meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/cfworld.json"}
    both |= {f"{place}/chunk-000/file-00{n}.parquet" for place in ("data", "meta/episodes") for n in (0, 1)}
    assert names(videos) == both | {f"videos/observation.image/chunk-000/file-00{number}.mp4" for number in (0, 1)}
    assert names(images) == both


def test_info_describes_the_dataset(videos: Path) -> None:
    info = json.loads((videos / "meta/info.json").read_text())
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": "toy",
        "total_episodes": 3,
        "total_frames": 16,
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 10,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "generated": True,
    }
    assert list(features) == FEATURES
    image = features["observation.image"]
    assert (image["dtype"], image["shape"], image["names"]) == ("video", [64, 64, 3], ["height", "width", "channels"])
    assert image["info"] == {
        "video.height": 64,
        "video.width": 64,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": 10,
        "video.channels": 3,
        "has_audio": False,
    }
    assert features["action"] == {"dtype": "int64", "shape": [1], "names": ["action"]}
    assert features["timestamp"] == {"dtype": "float32", "shape": [1], "names": None}
    assert features["next.done"] == {"dtype": "bool", "shape": [1], "names": None}


def test_images_in_tables_are_no_videos(images: Path) -> None:
    info = json.loads((images / "meta/info.json").read_text())
    assert info["video_path"] is None
    assert info["features"]["observation.image"] == {
        "dtype": "image",
        "shape": [64, 64, 3],
        "names": ["height", "width", "channels"],
    }


def test_a_table_holds_one_row_for_every_frame(videos: Path) -> None:
    table = pq.read_table(videos / "data/chunk-000/file-000.parquet")
    assert table.schema.names == FEATURES[1:]  # what is a video is in no table
    integer, real, boolean = pa.int64(), pa.float32(), pa.bool_()
    assert table.schema.types == [integer, real, *[boolean] * 3, real, real, *[integer] * 4]
    assert table["episode_index"].to_pylist() == [0] * 5 + [1] * 7
    assert table["frame_index"].to_pylist() == [*range(5), *range(7)]
    assert table["index"].to_pylist() == list(range(12))
    assert table["timestamp"].to_numpy() == pytest.approx([*np.arange(5) / 10, *np.arange(7) / 10])
    assert table["action"].to_pylist() == [0, 1, 2, 0, 0, 0, 1, 2, 0, 1, 2, 2]  # the last frame repeats the last one
    assert table["next.reward"].to_pylist() == [0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 0]
    ends = [False] * 3 + [True] * 2 + [False] * 5 + [True] * 2
    assert table["next.done"].to_pylist() == ends
    assert table["next.terminated"].to_pylist() == ends[:5] + [False] * 7
    assert table["next.truncated"].to_pylist() == [False] * 5 + ends[5:]
    assert set(table["task_index"].to_pylist()) == {0}


def test_the_frames_of_a_second_file_are_numbered_on(videos: Path) -> None:
    table = pq.read_table(videos / "data/chunk-000/file-001.parquet")
    assert table["index"].to_pylist() == [12, 13, 14, 15]
    assert table["frame_index"].to_pylist() == [0, 1, 2, 3]


def test_images_are_png_bytes_that_hold_every_pixel(images: Path) -> None:
    table = pq.read_table(images / "data/chunk-000/file-000.parquet")
    assert table.schema.field("observation.image").type == pa.struct({"bytes": pa.binary(), "path": pa.string()})
    stored = table["observation.image"][7].as_py()
    assert stored["path"] == "frame-000002.png"
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(stored["bytes"]))), frame(1, 2))


def test_actions_of_several_numbers_are_lists_of_fixed_length(tmp_path: Path) -> None:
    boxes = np.array([[0.5, 1.5], [-1, 0], [1, 2], [0, 0], [0, 1], [0, 2]], np.float32)
    write(tmp_path, actions=boxes, world_actions=BOX, use_videos=False)
    action = json.loads((tmp_path / "meta/info.json").read_text())["features"]["action"]
    assert action == {"dtype": "float32", "shape": [2], "names": ["action_0", "action_1"]}
    table = pq.read_table(tmp_path / "data/chunk-000/file-000.parquet")
    assert pa.types.is_fixed_size_list(table.schema.field("action").type)
    assert table["action"].to_pylist()[:3] == [[0.5, 1.5], [-1, 0], [1, 2]]


def test_the_table_of_episodes_says_where_each_lies(videos: Path) -> None:
    rows = [
        row
        for number in (0, 1)
        for row in pq.read_table(videos / f"meta/episodes/chunk-000/file-00{number}.parquet").to_pylist()
    ]
    assert [row["episode_index"] for row in rows] == [0, 1, 2]
    assert [row["length"] for row in rows] == [5, 7, 4]
    assert [row["tasks"] for row in rows] == [["dodge"]] * 3
    assert [(row["dataset_from_index"], row["dataset_to_index"]) for row in rows] == [(0, 5), (5, 12), (12, 16)]
    for kind in ("data", "meta/episodes", "videos/observation.image"):
        assert [(row[f"{kind}/chunk_index"], row[f"{kind}/file_index"]) for row in rows] == [(0, 0), (0, 0), (0, 1)]
    times = [tuple(row[f"videos/observation.image/{end}_timestamp"] for end in ("from", "to")) for row in rows]
    assert times == [(0.0, 0.5), (0.5, 1.2), (0.0, 0.4)]
    assert [row["cfworld/seed"] for row in rows] == [100, 101, 102]
    assert {f"stats/{feature}/{name}" for feature in FEATURES for name in STATISTICS} <= rows[0].keys()


def test_a_video_holds_the_frames_of_its_episodes_one_after_the_other(videos: Path) -> None:
    path = videos / "videos/observation.image/chunk-000/file-000.mp4"
    said, frames = read(path, 64, 64)
    assert all(word in said for word in ("Video: h264", "yuv420p", " 10 fps"))
    expected = [frame(number, tick) for number in (0, 1) for tick in range(TICKS[number] + 1)]
    assert frames.shape == (12, 64, 64, 3)
    assert np.abs(frames - np.stack(expected).astype(int)).mean() < 2


def test_tasks_are_found_by_their_text(videos: Path) -> None:
    tasks = pd.read_parquet(videos / "meta/tasks.parquet")
    assert tasks.index.tolist() == ["dodge"]
    assert tasks["task_index"].tolist() == [0]


def test_statistics_are_those_of_all_rows(videos: Path) -> None:
    stats = json.loads((videos / "meta/stats.json").read_text())
    assert list(stats) == FEATURES
    assert all(sorted(entry) == sorted(STATISTICS) for entry in stats.values())
    rewards = np.array([0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 0, 2, 3, 4, 0])
    reward = {name: value[0] for name, value in stats["next.reward"].items()}
    assert reward["count"] == 16
    assert [reward[name] for name in ("min", "max", "mean", "std")] == pytest.approx(
        [0, 6, rewards.mean(), rewards.std()]
    )
    pixels = np.concatenate([episode(number).frames for number in range(3)]) / 255
    for name in ("min", "max", "mean", "std"):
        found = np.array(stats["observation.image"][name])
        assert found.shape == (3, 1, 1)
        assert found.ravel() == pytest.approx(getattr(pixels, name)(axis=(0, 1, 2)))
    assert stats["observation.image"]["count"] == [16]


@pytest.mark.parametrize("kind", ["videos", "images"])
def test_an_export_loads_back_equal_field_by_field(request: pytest.FixtureRequest, kind: str) -> None:
    store = EpisodeStore.open(f"lerobot:{request.getfixturevalue(kind)}")
    assert store.lengths.tolist() == list(TICKS)
    assert store.metadata["generated"] is True
    for number in range(3):
        found, expected = store.episode(number), episode(number)
        assert np.array_equal(found.actions, expected.actions)
        assert np.array_equal(found.rewards, expected.rewards)
        assert np.array_equal(found.variables["hazard"], expected.variables["hazard"])
        for name in ("terminated", "truncated", "seed", "source", "policy", "options"):
            assert getattr(found, name) == getattr(expected, name)
        if kind == "images":
            assert np.array_equal(found.frames, expected.frames)
        else:
            assert np.abs(found.frames - expected.frames.astype(int)).max() <= 12


def test_discrete_actions_of_several_components_keep_their_space(tmp_path: Path) -> None:
    choices = np.array([[0, 1, 2], [1, 0, 0], [1, 1, 1], [0, 0, 2], [0, 0, 0], [1, 1, 0]])
    write(tmp_path, actions=choices, world_actions=MULTI, use_videos=False)
    store = EpisodeStore.open(tmp_path)
    assert store.action_space == spaces.MultiDiscrete([2, 2, 3])
    assert np.array_equal(store.episode(1).actions, choices)


def test_frames_that_no_video_holds_are_refused(tmp_path: Path) -> None:
    odd = world()
    odd.tokenizer.resolution = [63, 64]
    with pytest.raises(ConfigError, match=r"are 63x64; videos need an even .* use_videos=false"):
        LeRobotWriter(plan(tmp_path), odd, ["hazard"])
