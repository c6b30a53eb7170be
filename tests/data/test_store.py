import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from cfworld.data import Episode, EpisodeStore, StoreWriter
from cfworld.data.readers import Hdf5Reader
from cfworld.data.shards import MAIN_FILE_NAME
from cfworld.errors import DatasetError

IMAGES = spaces.Box(0, 255, (32, 32, 3), np.uint8)


def episode(seed: int, ticks: int = 21, *, terminated: bool = True) -> Episode:
    rng = np.random.default_rng(seed)
    return Episode(
        frames=rng.integers(256, size=(ticks + 1, 32, 32, 3), dtype=np.uint8),
        actions=rng.integers(3, size=ticks),
        rewards=rng.normal(size=ticks).astype(np.float32),
        terminated=terminated,
        truncated=not terminated,
        seed=seed,
        source="test/Source-v0",
        policy=f"policy{seed}",
        variables={"angle": rng.normal(size=ticks + 1).astype(np.float32)},
        options={"god": True} if seed == 2 else {},
    )


EPISODES = [episode(0), episode(1, 5, terminated=False), episode(2, 34)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of three episodes in two shards."""
    folder = tmp_path / "worlds" / "train"
    writer = StoreWriter(folder, observation_space=IMAGES, action_space=spaces.Discrete(3), source="test/Source-v0")
    writer.publish([writer.write_shard(0, 0, EPISODES[:2]), writer.write_shard(1, 2, EPISODES[2:])])
    return folder


def assert_equal(one: Episode, two: Episode) -> None:
    for name in ("frames", "actions", "rewards"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
        assert getattr(one, name).dtype == getattr(two, name).dtype
    for name in ("terminated", "truncated", "seed", "source", "policy", "options"):
        assert getattr(one, name) == getattr(two, name)
    assert one.variables.keys() == two.variables.keys()
    for name in one.variables:
        np.testing.assert_array_equal(one.variables[name], two.variables[name])


def test_what_was_written_is_read_back(folder):
    store = EpisodeStore.open(folder)

    assert len(store) == 3
    assert store.lengths.tolist() == [21, 5, 34]
    assert store.seeds.tolist() == [0, 1, 2]
    assert store.source == "test/Source-v0"
    for index, expected in enumerate(EPISODES):
        assert_equal(store.episode(index), expected)


def test_parts_of_an_episode_equal_slices_of_the_whole(folder):
    store, whole = EpisodeStore.open(folder), EPISODES[2]

    np.testing.assert_array_equal(store.frames(2, 15, 18), whole.frames[15:18])
    part = store.episode(2, 10, 20)
    np.testing.assert_array_equal(part.frames, whole.frames[10:21])
    np.testing.assert_array_equal(part.actions, whole.actions[10:20])
    assert not part.terminated
    assert store.episode(2, 30).terminated


def test_plain_minari_opens_the_dataset(folder, monkeypatch):
    dataset = minari.MinariDataset(folder / "data")

    assert dataset.spec.dataset_id == "worlds/train-v0"
    assert (len(dataset), dataset.total_steps) == (3, 60)
    for data, expected in zip(dataset, EPISODES, strict=True):
        np.testing.assert_array_equal(data.observations, expected.frames)
        np.testing.assert_array_equal(data.actions, expected.actions)
        np.testing.assert_array_equal(data.infos["angle"], expected.variables["angle"])
        assert bool(data.terminations[-1]) == expected.terminated
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(folder.parent.parent))
    assert len(minari.load_dataset("worlds/train")) == 3
    assert len(EpisodeStore.open("worlds/train")) == 3


def test_a_moved_dataset_still_opens(folder):
    moved = folder.rename(folder.with_name("moved"))

    assert_equal(EpisodeStore.open(moved).episode(2), EPISODES[2])


def test_a_store_can_be_sent_to_another_process(folder):
    store = EpisodeStore.open(folder)
    store.frames(0)

    assert_equal(pickle.loads(pickle.dumps(store)).episode(2), EPISODES[2])


def test_an_interrupted_shard_leaves_nothing_behind(folder):
    writer = StoreWriter(folder, observation_space=IMAGES, action_space=spaces.Discrete(3), source="test/Source-v0")

    def interrupted():
        yield EPISODES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.write_shard(2, 3, interrupted())
    assert writer.finished() == [0, 1]
    assert [path.name for path in (folder / "data" / "shards").iterdir() if path.name.startswith(".")] == []


def test_a_shard_that_is_being_written_does_not_count(folder):
    writer = StoreWriter(folder, observation_space=IMAGES, action_space=spaces.Discrete(3), source="test/Source-v0")
    (folder / "data" / "shards" / ".00002-aside.hdf5").symlink_to("renamed-meanwhile")

    writer.publish([writer.summary(0), writer.summary(1)])

    assert len(EpisodeStore.open(folder)) == 3


def foreign(folder: Path, observations: gym.Space, actions: gym.Space, *, jpeg: bool = False) -> Path:
    """A dataset that Minari itself wrote, with one episode of 40 random ticks."""
    observations.seed(0)
    actions.seed(0)
    storage = MinariStorage.new(folder, observation_space=observations, action_space=actions, jpeg_encoding=jpeg)
    seen = [observations.sample() for _ in range(41)]
    storage.update_episodes(
        [
            EpisodeBuffer(
                observations={key: [entry[key] for entry in seen] for key in observations}
                if isinstance(observations, spaces.Dict)
                else seen,
                actions=[actions.sample() for _ in range(40)],
                rewards=[1.0] * 40,
                terminations=[False] * 39 + [True],
                truncations=[False] * 40,
                infos={"speed": np.arange(41.0)},
            )
        ]
    )
    storage.update_metadata({"dataset_id": "foreign-v0", "minari_version": minari.__version__})
    return folder


@pytest.mark.parametrize("jpeg", [False, True])
def test_datasets_of_images_that_minari_wrote_are_read(tmp_path, jpeg):
    folder = foreign(tmp_path / "data", IMAGES, spaces.Box(-1, 1, (2,)), jpeg=jpeg)

    store = EpisodeStore.open(tmp_path)
    episode = store.episode(0)

    expected = minari.MinariDataset(folder)[0]
    np.testing.assert_array_equal(episode.frames, expected.observations)
    np.testing.assert_array_equal(episode.actions, expected.actions)
    np.testing.assert_array_equal(store.frames(0, 3, 9), expected.observations[3:9])
    assert episode.actions.dtype == np.float32
    assert episode.variables["speed"].tolist() == list(range(41))
    assert (episode.seed, episode.source, episode.policy) == (-1, "foreign-v0", "unknown")
    assert episode.terminated


def test_the_frames_may_be_an_entry_of_a_dict(tmp_path):
    entries = {"camera": IMAGES, "other": IMAGES, "speed": spaces.Box(-1, 1, (2,))}
    folder = foreign(tmp_path / "two", spaces.Dict(entries), spaces.Discrete(2))

    with pytest.raises(DatasetError, match=r"image_key=None .* \['camera', 'other'\]"):
        EpisodeStore.open(folder)
    store = EpisodeStore.open(folder, image_key="other")
    expected = minari.MinariDataset(folder)[0].observations["other"]
    np.testing.assert_array_equal(store.frames(0), expected)


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (spaces.Box(-1, 1, (4,)), spaces.Discrete(2), "expected uint8"),
        (spaces.Box(0, 255, (32, 32, 1), np.uint8), spaces.Discrete(2), "expected uint8"),
        (IMAGES, spaces.Box(-1, 1, (2, 2)), "they are Box.*expected Discrete"),
        (IMAGES, spaces.MultiDiscrete([2, 2], start=[0, 1]), "from 0"),
        (IMAGES, spaces.Discrete(2, start=1), "from 0"),
    ],
)
def test_a_dataset_of_something_else_is_refused(tmp_path, observations, actions, message):
    with pytest.raises(DatasetError, match=message):
        EpisodeStore.open(foreign(tmp_path / "data", observations, actions))


def test_a_dataset_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="cfworld collect"):
        EpisodeStore.open(tmp_path / "nowhere")


def damage_index(data: Path) -> None:
    truncate(data / "main_data.hdf5")


def damage_shard(data: Path) -> None:
    truncate(data / "shards" / "00001.hdf5")


def remove_shard(data: Path) -> None:
    (data / "shards" / "00001.hdf5").unlink()


def remove_index(data: Path) -> None:
    (data / "main_data.hdf5").unlink()


def damage_metadata(data: Path) -> None:
    truncate(data / "metadata.json")


def empty_metadata(data: Path) -> None:
    metadata = json.loads((data / "metadata.json").read_text())
    (data / "metadata.json").write_text(json.dumps(metadata | {"total_episodes": 0}))


def shorten_episode(data: Path) -> None:
    import h5py

    with h5py.File(data / "shards" / "00001.hdf5", "a") as file:
        del file["episode_2/observations"]
        file["episode_2/observations"] = EPISODES[2].frames[:9]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [damage_index, damage_shard, remove_shard, remove_index, damage_metadata, empty_metadata, shorten_episode],
)
def test_a_damaged_dataset_is_refused_when_it_is_opened(folder, damage):
    damage(folder / "data")

    with pytest.raises(DatasetError, match="train"):
        EpisodeStore.open(folder)


def reopened(folder: Path, change: Callable[[Any], None]) -> EpisodeStore:
    """The store once something was done to its episode 1."""
    with h5py.File(folder / "data" / MAIN_FILE_NAME, "r+") as file:
        link = file.get("episode_1", getlink=True)
        if isinstance(link, h5py.ExternalLink):
            with h5py.File(folder / "data" / link.filename, "r+") as shard:
                change(shard[link.path])
        else:
            change(file["episode_1"])
    return EpisodeStore.open(folder)


@pytest.mark.parametrize("name", ["actions", "rewards", "terminations", "truncations", "observations"])
def test_an_episode_that_lacks_an_array_is_damaged(folder, name):
    with pytest.raises(DatasetError, match=f"episode 1 .* is damaged or incomplete .*no '{name}'"):
        reopened(folder, lambda group: group.__delitem__(name)).episode(1)


def test_an_episode_that_does_not_tell_its_length_is_damaged(folder):
    with pytest.raises(DatasetError, match=r"episode 1 .* is damaged or incomplete .*no attribute 'total_steps'"):
        reopened(folder, lambda group: group.attrs.__delitem__("total_steps"))


def with_frames(group: Any, frames: np.ndarray) -> None:
    del group["observations"]
    group["observations"] = frames


def test_frames_that_are_smaller_than_stated_are_damage(folder):
    store = reopened(folder, lambda group: with_frames(group, np.zeros((6, 16, 16, 3), np.uint8)))
    for read in (store.episode, store.frames):
        with pytest.raises(DatasetError, match=r"episode 1 .*frames \[6, 16, 16, 3\]; expected 6 of \[32, 32, 3\]"):
            read(1)
    store.episode(0)


def test_an_episode_without_a_step_is_refused(folder):
    def empty(group: Any) -> None:
        with_frames(group, np.zeros((1, 32, 32, 3), np.uint8))
        group.attrs["total_steps"] = 0

    with pytest.raises(DatasetError, match=r"episode 1 of dataset .* is damaged or incomplete .*no step"):
        reopened(folder, empty)


def test_what_cannot_be_an_episode_says_which_one_it_is(folder):
    store = reopened(folder, lambda group: with_frames(group, np.zeros((6, 32, 32, 3), np.float32)))
    with pytest.raises(DatasetError, match=r"episode 1 of dataset .*frames are float32"):
        store.episode(1)


@pytest.mark.parametrize("name", ["terminations", "rewards"])
def test_arrays_that_end_early_are_damage_where_minari_reads_them(tmp_path, name):
    folder = foreign(tmp_path / "data", IMAGES, spaces.Discrete(2), jpeg=True)
    with h5py.File(folder / MAIN_FILE_NAME, "r+") as file:
        del file[f"episode_0/{name}"]
        file[f"episode_0/{name}"] = np.zeros(3, np.float32)
    with pytest.raises(DatasetError, match=f"episode 0 .*its {name} end before entry 39"):
        EpisodeStore.open(tmp_path).episode(0)


def test_a_truncated_file_of_arrow_is_damage(tmp_path):
    storage = MinariStorage.new(
        tmp_path, observation_space=IMAGES, action_space=spaces.Discrete(2), data_format="arrow"
    )
    never = [False] * 4
    frames = list(np.zeros((5, 32, 32, 3), np.uint8))
    storage.update_episodes(
        [EpisodeBuffer(observations=frames, actions=[1] * 4, rewards=[0.0] * 4, terminations=never, truncations=never)]
    )
    for path in tmp_path.rglob("*.arrow"):
        truncate(path)
    with pytest.raises(DatasetError, match=r"is damaged or incomplete .*Arrow"):
        EpisodeStore.open(tmp_path).episode(0)


@pytest.mark.parametrize(("form", "jpeg"), [("hdf5", False), ("hdf5", True), ("arrow", False), ("arrow", True)])
@pytest.mark.parametrize("change", [{"shade": 1}, {"reward": 1.0}])
def test_a_digest_tells_data_from_others_in_files_of_the_same_size(tmp_path, form, jpeg, change):
    def digest(name: str, shade: int = 0, reward: float = 0.0) -> str:
        storage = MinariStorage.new(
            tmp_path / name,
            observation_space=IMAGES,
            action_space=spaces.Discrete(2),
            data_format=form,
            jpeg_encoding=jpeg,
        )
        frames, never = np.zeros((601, 32, 32, 3), np.uint8), [False] * 600
        frames[300] = shade
        episode = {"actions": [1] * 600, "rewards": [reward] * 600, "terminations": never, "truncations": never}
        storage.update_episodes([EpisodeBuffer(observations=list(frames), **episode)])
        return EpisodeStore.open(tmp_path / name).digest()

    before = digest("a")
    shutil.copytree(tmp_path / "a", tmp_path / "copy", copy_function=shutil.copyfile)
    assert EpisodeStore.open(tmp_path / "copy").digest() == before
    assert digest("b", **change) != before


def test_of_compressed_frames_the_size_of_the_files_is_enough(folder, monkeypatch):
    monkeypatch.setattr(Hdf5Reader, "frames", lambda *_: pytest.fail("read"))
    assert len(EpisodeStore.open(folder).digest()) == 64


@pytest.mark.parametrize("action", [-1, 3])
def test_a_stored_action_that_is_none_is_refused(folder, action):
    store = reopened(folder, lambda group: group["actions"].__setitem__(2, action))

    with pytest.raises(DatasetError, match=r"expected Discrete\(3\)"):
        store.episode(1)
    store.episode(0)


def test_an_episode_with_wider_actions_than_the_others_is_damaged(tmp_path):
    box = spaces.Box(-1, 1, (2,), np.float32)
    recorded = [
        replace(one, actions=np.zeros((len(one), width), np.float32))
        for one, width in zip(EPISODES, (2, 3), strict=False)
    ]
    writer = StoreWriter(tmp_path, observation_space=IMAGES, action_space=box, source="test/Source-v0")
    writer.publish([writer.write_shard(0, 0, recorded)])
    store = EpisodeStore.open(tmp_path)
    assert store.episode(0).actions.shape == (21, 2)
    with pytest.raises(DatasetError, match=r"episode 1 .*its actions are \[5, 3\]; expected those of Box"):
        store.episode(1)
