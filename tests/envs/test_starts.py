"""Everything that may name a start, and what it is called afterwards."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from PIL import Image

from cfworld import Start, World, WorldState
from cfworld.data import Episode, EpisodeStore, StoreWriter
from cfworld.envs.env_state import EnvState
from cfworld.envs.starts import find_start, moved_address
from cfworld.envs.vector_env import WorldVectorEnv
from cfworld.envs.world_env import WorldEnv
from cfworld.errors import DonatedStateError, StartError
from cfworld.world import Opening
from tests.toy import toy_world

FRAMES = np.random.default_rng(0).integers(0, 256, (21, 64, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def world() -> World:
    return toy_world()


@pytest.fixture(scope="module")
def files(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a picture, a saved state and a dataset of one episode of 20 ticks."""
    folder = tmp_path_factory.mktemp("starts")
    Image.fromarray(FRAMES[0]).save(folder / "picture.png")
    state, _ = world.initial(seeds=[1], starts=[2])
    state.save(folder / "moment.safetensors")
    (folder / "notes.txt").write_text("no picture")
    (folder / "notes.safetensors").write_text("no state")
    episode = Episode(
        frames=FRAMES,
        actions=np.arange(20) % 3,
        rewards=np.zeros(20, np.float32),
        terminated=False,
        truncated=True,
        seed=0,
        source="test/Noise-v0",
        policy="none",
    )
    box = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    for name, episodes in (("noise", [episode]), ("two", [dataclasses.replace(episode, frames=FRAMES[::-1]), episode])):
        writer = StoreWriter(folder / name, observation_space=box, action_space=spaces.Discrete(3), source="test/Noise")
        writer.publish([writer.write_shard(0, 0, episodes)])
    return folder


def test_a_state_on_another_device_is_refused(world: World) -> None:
    state, _ = world.initial(seeds=[1])
    with pytest.raises(StartError, match="a state as a start: got a state on meta; this world is on cpu"):
        find_start(dataclasses.replace(state, seeds=state.seeds.to("meta")), world)


def test_an_index_is_its_own_name(world: World) -> None:
    for index in (3, np.int64(3)):
        chosen = find_start(index, world)
        assert (chosen.start, chosen.name, type(chosen.name)) == (3, 3, int)


def test_a_start_is_named_by_where_it_came_from_or_by_a_digest(world: World, files: Path) -> None:
    start = Start(frames=FRAMES[1:9], actions=np.arange(8) % 3)
    assert find_start(start, world).name == f"sha256:{start.digest}"
    stored = Start.from_episode(files / "noise", tick=8, num_latents=2)
    name = find_start(stored, world).name
    again = find_start(name, world)
    assert isinstance(again.start, Start)
    assert (again.name, again.start.digest) == (name, start.digest)


def test_a_picture_on_disk_is_held_for_as_long_as_the_worlds_own_starts(world: World, files: Path) -> None:
    path = files / "picture.png"
    for given in (path, str(path)):
        chosen = find_start(given, world)
        assert isinstance(chosen.start, Start)
        assert chosen.name == str(path)
        assert np.array_equal(chosen.start.frames, np.repeat(FRAMES[:1], 8, axis=0))


@pytest.mark.parametrize(
    ("moment", "first", "last"), [("#0", 0, 8), ("#0@13", 5, 13), ("#0@8..20", 8, 20), ("#0@0..20", 0, 20)]
)
def test_a_dataset_is_addressed_by_episode_and_tick(
    world: World, files: Path, moment: str, first: int, last: int
) -> None:
    address = f"minari:{files / 'noise'}{moment}"
    chosen = find_start(address, world)
    assert isinstance(chosen.start, Start)
    assert chosen.name == address
    assert np.array_equal(chosen.start.frames, FRAMES[first + 1 : last + 1])
    assert chosen.start.actions is not None
    assert np.array_equal(chosen.start.actions, np.arange(20)[first:last] % 3)


def test_the_address_of_a_moment_in_a_selection_names_the_datasets_own_episode(world: World, files: Path) -> None:
    store = EpisodeStore.open(files / "two")
    start = Start.from_episode(store.select([1]))
    assert start.name == f"minari:{store.folder}#1@0..16"
    again = find_start(start.name, world).start
    assert isinstance(again, Start)
    assert np.array_equal(again.frames, start.frames)


def test_an_opening_under_a_number_is_named_by_a_digest_and_one_under_a_text_by_an_address() -> None:
    names = [Opening(action=action).name for action in (1, 2, [1, 1], "the sky")]
    assert len(set(names)) == 4
    assert [name.partition(":")[0] for name in names] == ["opening"] * 3 + ["prompt"]


def test_a_saved_state_is_named_by_its_path_and_one_at_hand_by_a_digest(world: World, files: Path) -> None:
    path = files / "moment.safetensors"
    chosen = find_start(path, world)
    assert isinstance(chosen.start, WorldState)
    assert chosen.name == str(path)
    names = [find_start(state, world).name for state in (chosen.start, chosen.start.clone())]
    later, _ = world.step(chosen.start, [0])
    other = find_start(dataclasses.replace(later, ended=torch.zeros_like(later.ended)), world).name
    assert names[0] == names[1] != other
    assert str(names[0]).startswith("state:sha256:")


def test_a_snapshot_of_an_environment_stands_for_its_world(world: World) -> None:
    env = WorldEnv(world)
    env.reset(seed=4)
    snapshot = env.get_state()
    assert find_start(snapshot, world).start is snapshot.world


def test_a_snapshot_from_after_a_users_end_is_refused_and_one_from_after_the_horizon_is_not(world: World) -> None:
    ended = WorldEnv(world, termination_fn=lambda step: [True])
    late = WorldEnv(world, horizon=1, termination_fn=lambda step: [False])
    for env in (ended, late):
        env.reset(seed=4)
        env.step(0)
    with pytest.raises(StartError, match="got a snapshot whose episode has ended"):
        find_start(ended.get_state(), world)
    assert find_start(late.get_state(), world).start is late.get_state().world


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "ships starts 0 to 4"),
        (-1, "ships starts 0 to 4"),
        (True, "got bool"),
        (1.0, "got float"),
        (None, "got NoneType"),
        ({}, "got dict"),
        (FRAMES[0], "got ndarray"),
        ("first", "there is no such file; expected an index"),
        ("nowhere/picture.png", "there is no such file"),
        ("{files}/notes.txt", "cannot be read as a picture"),
        ("{files}/lost.safetensors", "there is no such file"),
        ("{files}/notes.safetensors", "holds no state"),
        ("a ball, " * 50, "there is no such file; expected an index"),
        ("", "there is no such file; expected an index"),
        ("{files}/noise", "there is no such file; expected an index"),
        ("minari:" + "a ball, " * 50 + "#0@8", "there is no dataset"),
        ("minari:{files}/noise", 'expected "minari:DATASET#EPISODE@TICK"'),
        ("minari:{files}/noise#0@", 'expected "minari:DATASET#EPISODE@TICK"'),
        ("minari:{files}/noise#-1@8", 'expected "minari:DATASET#EPISODE@TICK"'),
        ("minari:{files}/elsewhere#0@8", "there is no dataset"),
        ("minari:{files}/noise#1@8", "episodes 0 to 0"),
        ("minari:{files}/noise#0@7", "got tick 7"),
        ("minari:{files}/noise#0@21", "got tick 21"),
        ("minari:{files}/noise#0@9..15", "whole latents"),
        ("minari:{files}/noise#0@15..9", "whole latents"),
        ("minari:{files}/noise#0@9..9", "whole latents"),
    ],
)
def test_what_names_no_start_is_refused(world: World, files: Path, given: Any, message: str) -> None:
    with pytest.raises(StartError, match=message):
        find_start(given.format(files=files) if isinstance(given, str) else given, world)


@pytest.mark.parametrize(
    ("address", "moved"),
    [
        ("picture.png", "there/picture.png"),
        ("minari:noise#3@4..40", "minari:there/noise#3@4..40"),
        ("minari:no-moment", "there/minari:no-moment"),
        ("prompt:" + "a ball, " * 50, "prompt:" + "a ball, " * 50),
    ],
)
def test_the_path_in_an_address_is_looked_for_elsewhere(address: str, moved: str) -> None:
    assert moved_address(address, "there/{}".format) == moved


def test_an_episode_begins_where_its_options_say_and_logs_what_brings_it_back(world: World, files: Path) -> None:
    env = WorldEnv(world)
    for given in (files / "picture.png", f"minari:{files / 'noise'}#0@13", files / "moment.safetensors", 3):
        first, info = env.reset(seed=5, options={"start": given})
        assert env.step(1)[4]["start"] == info["start"]
        again, repeated = WorldEnv(world).reset(seed=5, options={"start": info["start"]})
        assert np.array_equal(first, again)
        assert repeated["start"] == info["start"]
        json.dumps(info["start"])


def test_starts_to_draw_from_may_be_of_every_kind(world: World, files: Path) -> None:
    state = WorldState.load(files / "moment.safetensors")
    env = WorldEnv(world, starts=[2, files / "picture.png", Start(frames=FRAMES[:4]), state])
    assert env.starts is not None
    assert {env.reset(seed=seed)[1]["start"] for seed in range(30)} == set(env.starts)
    with pytest.raises(StartError, match="there is no such file"):
        WorldEnv(world, starts=[0, files / "lost.png"])


def test_a_snapshot_as_a_start_begins_an_episode_of_its_own(world: World, tmp_path: Path) -> None:
    env = WorldEnv(world, obs="latent", horizon=3, termination_fn=lambda step: [False] * len(step.latents))
    env.reset(seed=4)
    env.step(1)
    env.step(2)
    snapshot = env.get_state()
    forked = env.step(0)[0]
    observation, info = env.reset(seed=9, options={"start": snapshot})
    assert np.array_equal(observation, snapshot.world.latents.flatten().numpy())
    assert str(info["start"]).startswith("state:")
    steps = [env.step(0) for _ in range(3)]
    assert not np.array_equal(steps[0][0], forked)
    assert [step[3] for step in steps] == [False, False, True]
    snapshot.save(tmp_path / "snapshot.safetensors")
    env.reset(seed=9, options={"start": tmp_path / "snapshot.safetensors"})
    assert np.array_equal(env.step(0)[0], steps[0][0])


def test_rows_of_a_vector_environment_begin_each_at_its_own_start(world: World, files: Path) -> None:
    picture = str(files / "picture.png")
    envs, env = WorldVectorEnv(3, world), WorldEnv(world)
    seen, info = envs.reset(seed=5, options={"start": [picture, 3, None]})
    assert info["start"][:2].tolist() == [picture, 3]
    for row, start in enumerate([picture, 3, int(info["start"][2])]):
        assert np.array_equal(env.reset(seed=5 + row, options={"start": start})[0], seen[row])
    _, info = envs.reset(seed=5, options={"start": picture})
    assert info["start"].tolist() == [picture] * 3
    envs.get_state().save(files / "rows.safetensors")
    assert EnvState.load(files / "rows.safetensors").starts == (picture,) * 3


def test_a_start_that_is_refused_leaves_the_episode_as_it_was(world: World) -> None:
    env, other = WorldEnv(world), WorldEnv(world)
    for one in (env, other):
        one.reset(seed=5)
    with pytest.raises(StartError):
        env.reset(options={"start": "nowhere.png"})
    assert np.array_equal(env.step(1)[0], other.step(1)[0])


def test_a_seed_of_more_than_64_bits_is_refused(world: World) -> None:
    with pytest.raises(StartError, match="64 bits"):
        WorldEnv(world).reset(seed=2**64)


def test_what_does_not_fit_the_world_is_refused_before_any_episode(world: World) -> None:
    foreign, _ = toy_world(seed=7).initial(seeds=[0])
    given, _ = world.initial(seeds=[0])
    wrong = {
        "whole steps of 4": Start(frames=FRAMES[:6]),
        "integer multiples": Start(frames=FRAMES[:8, :32]),
        "do not fit this world": Start(frames=FRAMES[:8], actions=np.full(8, 3)),
        "expected one of this world": foreign,
    }
    for message, start in wrong.items():
        with pytest.raises(StartError, match=message):
            find_start(start, world)
    world.step(given, [0], donate=True)
    with pytest.raises(DonatedStateError):
        find_start(given, world)
