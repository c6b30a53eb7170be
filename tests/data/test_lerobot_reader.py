"""LeRobot datasets that others wrote. `lerobot_v3` was recorded with LeRobot 0.6.1 itself, its video is AV1."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from gymnasium import spaces
from PIL import Image

from cfworld.data import EpisodeStore
from cfworld.errors import DatasetError

RECORDED = Path(__file__).parent / "lerobot_v3"
ROWS = (5, 7, 4)


def pixels(number: int, tick: int) -> np.ndarray:
    """What was recorded."""
    grey = np.clip(60 + 40 * number + 15 * tick + np.mgrid[:64, :64][1], 0, 255)
    return np.stack([grey, 255 - grey, np.full_like(grey, 20 * tick)], -1).astype(np.uint8)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RECORDED, tmp_path / "copy"))


def change_info(folder: Path, **changes: Any) -> None:
    path = folder / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def write_v2(folder: Path, features: dict[str, Any], columns: dict[str, Any], version: str = "v2.1") -> None:
    """One episode of format v2."""
    (folder / "meta").mkdir(parents=True)
    (folder / "data/chunk-000").mkdir(parents=True)
    length = len(next(iter(columns.values())))
    info = {"codebase_version": version, "total_episodes": 1, "chunks_size": 1000, "fps": 10, "features": features}
    info["data_path"] = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
    (folder / "meta/info.json").write_text(json.dumps(info))
    (folder / "meta/episodes.jsonl").write_text(json.dumps({"episode_index": 0, "tasks": ["go"], "length": length}))
    numbers = {"episode_index": [0] * length, "frame_index": list(range(length))}
    pq.write_table(pa.table(columns | numbers), folder / "data/chunk-000/episode_000000.parquet")


def test_the_rows_of_an_episode_become_frames_and_the_ticks_between_them() -> None:
    store = EpisodeStore.open(f"lerobot:{RECORDED}")
    assert store.lengths.tolist() == [4, 6, 3]
    assert (store.seeds.tolist(), store.policies[0], store.source) == ([-1] * 3, "unknown", "lerobot_v3")
    for number, rows in enumerate(ROWS):
        episode = store.episode(number)
        truth = np.stack([pixels(number, tick) for tick in range(rows)])
        assert np.abs(episode.frames - truth.astype(int)).max() <= 6
        actions = [(number + tick / 10, -tick) for tick in range(rows - 1)]
        assert np.array_equal(episode.actions, np.array(actions, np.float32))
        assert episode.rewards.tolist() == [tick / 2 for tick in range(rows - 1)]


def test_an_episode_that_is_done_in_its_last_row_ends_with_its_last_frame() -> None:
    store = EpisodeStore.open(RECORDED)
    assert [store.episode(number).terminated for number in range(3)] == [True, False, True]
    assert [store.episode(number).truncated for number in range(3)] == [False, True, False]


def test_parts_of_an_episode_and_pickled_stores_hold_the_same() -> None:
    store = pickle.loads(pickle.dumps(EpisodeStore.open(RECORDED)))
    whole, part = store.episode(1), store.episode(1, 2, 5)
    assert np.array_equal(part.frames, whole.frames[2:6])
    assert np.array_equal(part.actions, whole.actions[2:5])
    assert not part.terminated


def test_chosen_episodes_are_numbered_anew() -> None:
    store = EpisodeStore.open(RECORDED)
    chosen = store.select([2, 0])
    assert len(chosen) == 2
    assert chosen.lengths.tolist() == [3, 4]
    assert chosen.metadata["episodes"] == [2, 0]
    assert np.array_equal(chosen.episode(0).actions, store.episode(2).actions)
    assert chosen.select([1]).metadata["episodes"] == [0]


def test_format_v2_with_images_and_discrete_actions(tmp_path: Path) -> None:
    frames = [pixels(0, tick) for tick in range(4)]
    for tick, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{tick}.png")
    features = {
        "camera": {"dtype": "image", "shape": [3, 64, 64], "names": ["channels", "height", "width"]},
        "action": {"dtype": "int64", "shape": [1], "names": None},
        "battery": {"dtype": "float32", "shape": [1], "names": None},
    }
    images = [{"bytes": (tmp_path / f"{tick}.png").read_bytes(), "path": None} for tick in range(4)]
    write_v2(tmp_path / "v2", features, {"camera": images, "action": [0, 4, 1, 2], "battery": [4.0, 3.0, 2.0, 1.0]})
    store = EpisodeStore.open(f"lerobot:{tmp_path / 'v2'}")
    assert store.action_space == spaces.Discrete(5)
    assert store.counts_actions
    episode = store.episode(0)
    assert np.array_equal(episode.frames, np.stack(frames))
    assert episode.actions.tolist() == [0, 4, 1]
    assert episode.rewards.tolist() == [0, 0, 0]
    assert episode.variables["battery"].tolist() == [4, 3, 2, 1]


def test_pictures_of_more_than_8_bits_are_refused_instead_of_cut_off(tmp_path: Path) -> None:
    for tick in range(2):
        Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(tmp_path / f"{tick}.png")
    features = {
        "camera": {"dtype": "image", "shape": [3, 64, 64], "names": ["channels", "height", "width"]},
        "action": {"dtype": "int64", "shape": [1], "names": None},
    }
    images = [{"bytes": (tmp_path / f"{tick}.png").read_bytes(), "path": None} for tick in range(2)]
    write_v2(tmp_path / "v2", features, {"camera": images, "action": [0, 1]})
    with pytest.raises(DatasetError, match="mode I;16; expected 8 bits a value"):
        EpisodeStore.open(f"lerobot:{tmp_path / 'v2'}").episode(0)


def test_parts_of_an_action_become_a_dict(tmp_path: Path) -> None:
    number = {"dtype": "float32", "shape": [1], "names": None}
    features = {
        "camera": {"dtype": "video", "shape": [64, 64, 3], "names": None},
        "action.arm": {"dtype": "float32", "shape": [2], "names": None},
        "action.grip": number,
    }
    write_v2(tmp_path / "v2", features, {"action.arm": [[1.0, 2.0]] * 3, "action.grip": [3.0] * 3})
    change_info(tmp_path / "v2", video_path="videos/{video_key}/{episode_index}.mp4")
    store = EpisodeStore.open(tmp_path / "v2")
    assert isinstance(store.action_space, spaces.Dict)
    assert set(store.action_space) == {"arm", "grip"}
    assert store._reader.actions(0, 0, 2).tolist() == [[1, 2, 3]] * 2


@pytest.mark.parametrize("wrong", [[[1.0], [2.0, 3.0, 4.0]], [[1.0, 2.0], None]])
def test_actions_of_different_lengths_are_damaged_even_if_their_numbers_add_up(
    tmp_path: Path, wrong: list[Any]
) -> None:
    features = {
        "camera": {"dtype": "video", "shape": [64, 64, 3], "names": None},
        "action": {"dtype": "float32", "shape": [2], "names": None},
    }
    write_v2(tmp_path / "v2", features, {"action": [[1.0, 2.0], *wrong]})
    change_info(tmp_path / "v2", video_path="videos/{video_key}/{episode_index}.mp4")
    with pytest.raises(ValueError, match=r"got lists of \[.*\] numbers; expected them equally long"):
        EpisodeStore.open(tmp_path / "v2")._reader.actions(0, 0, 2)


def test_a_digest_tells_other_data_of_the_same_lengths_and_not_a_copy(copied: Path) -> None:
    before = EpisodeStore.open(RECORDED).digest()
    assert EpisodeStore.open(copied).digest() == before
    (copied / "figures.json").write_text("{}")
    assert EpisodeStore.open(copied).digest() == before
    path = copied / "meta/stats.json"
    path.write_text(path.read_text().replace("1", "2"))
    assert EpisodeStore.open(copied).digest() != before


def test_the_camera_is_named_where_there_are_several(copied: Path) -> None:
    features = json.loads((copied / "meta/info.json").read_text())["features"]
    change_info(copied, features=features | {"wrist": {"dtype": "image", "shape": [32, 32, 3], "names": None}})
    with pytest.raises(DatasetError, match=r"entries: \['observation.image', 'wrist'\]"):
        EpisodeStore.open(copied)
    assert EpisodeStore.open(copied, image_key="observation.image").observation_space.shape == (64, 64, 3)


def without_data(folder: Path) -> None:
    features = json.loads((folder / "meta/info.json").read_text())["features"]
    change_info(folder, features=features | {"action": {"dtype": "int64", "shape": [1], "names": None}})
    shutil.rmtree(folder / "data")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: change_info(folder, codebase_version="v4.0"), "format v4.0; expected v3 or v2"),
        (lambda folder: change_info(folder, total_episodes=4), "lists 3 episodes; expected the 4"),
        (lambda folder: change_info(folder, total_episodes=0), "holds no episode"),
        (lambda folder: (folder / "meta/info.json").write_text("{"), "copy it again"),
        (lambda folder: (folder / "meta/episodes/chunk-000/file-000.parquet").write_bytes(b"PAR1"), "cannot be listed"),
        (lambda folder: change_info(folder, video_path=None), "copy' is damaged or incomplete"),
        (lambda folder: change_info(folder, features={"action": {"dtype": "float32"}}), "incomplete .*'shape'"),
        (lambda folder: change_info(folder, features={"action": {"shape": [2]}}), "incomplete .*'dtype'"),
        (lambda folder: (folder / "meta/cfworld.json").write_text('{"generated": tr'), "incomplete .*JSONDecodeError"),
        (lambda folder: (folder / "meta/cfworld.json").write_text("[]"), "copy' is damaged or incomplete"),
        (without_data, "has no data/.*; download its data too"),
    ],
)
def test_damaged_and_foreign_datasets_are_refused(copied: Path, damage: Any, message: str) -> None:
    damage(copied)
    with pytest.raises(DatasetError, match=message):
        EpisodeStore.open(copied)


def test_a_video_that_is_cut_off_is_found_out_when_it_is_read(copied: Path) -> None:
    path = copied / "videos/observation.image/chunk-000/file-000.mp4"
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(DatasetError, match=r"file-000.mp4.* gave 0 of 4 frames from second 1.2"):
        EpisodeStore.open(copied).episode(2)


@pytest.mark.parametrize("shape", [[32, 128, 3], [128, 32, 3], [32, 32, 3]])
def test_frames_of_another_size_than_is_said_are_refused_and_not_cut_anew(copied: Path, shape: list[int]) -> None:
    features = json.loads((copied / "meta/info.json").read_text())["features"]
    features["observation.image"]["shape"] = shape
    change_info(copied, features=features)
    with pytest.raises(DatasetError, match=f"has frames of 64x64; expected {shape[0]}x{shape[1]}, .*height first"):
        EpisodeStore.open(copied).episode(0)


def test_a_dataset_without_actions_or_at_another_place_is_refused(copied: Path) -> None:
    features = json.loads((copied / "meta/info.json").read_text())["features"]
    del features["action"]
    change_info(copied, features=features)
    with pytest.raises(DatasetError, match="expected one called action"):
        EpisodeStore.open(copied)
    with pytest.raises(DatasetError, match=r"no meta/info.json in it"):
        EpisodeStore.open("lerobot:nowhere")
