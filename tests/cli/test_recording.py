from pathlib import Path

import numpy as np
import pytest
import torch

from cfworld.cli.live import LiveRows, policies
from cfworld.cli.recording import record
from cfworld.envs.seeding import episode_seed
from cfworld.envs.world_env import WorldEnv
from cfworld.errors import ConfigError
from cfworld.world import Ends
from tests.toy import toy_world


def test_rows_are_those_of_the_environment_with_the_same_seed() -> None:
    world = toy_world()
    live = LiveRows(world, [5, 6], policies("noop", world))
    steps = [live.step() for _ in range(3)]
    env = WorldEnv(world)
    for row, seed in enumerate([5, 6]):
        env.reset(seed=seed)
        for step in steps:
            env.step(0)
            assert np.array_equal(step.frames[row], env.frames())


def test_an_episode_that_ends_is_marked_and_followed_by_the_next(tmp_path: Path) -> None:
    world = toy_world()
    with torch.no_grad():
        world.generator.heads.hazard.out.bias.fill_(100.0)
    live = LiveRows(world, [0], policies("noop", world))
    recording = record(live, 8, tmp_path)
    assert [recording.captions(index, 10)[0].banner for index in range(8)] == ["END"] * 8
    assert live.rows[0].truncated == [False, False]
    assert (live.rows[0].episode, live.rows[0].lengths) == (2, [1, 1])
    assert recording.captions(4, 10)[0].note == "episode 2  0.0 s"
    second, _ = world.initial([episode_seed(0, 1)])
    _, out = world.step(second, [[0] * 4])
    assert out.frames is not None
    assert np.array_equal(recording.frames[4:, 0], out.frames[0].numpy())


def test_an_episode_at_the_horizon_is_cut_off_marked_and_followed_by_the_next(tmp_path: Path) -> None:
    world = toy_world(horizon_frames=7, ends=Ends.NEVER)  # two steps of four frames, as the environment rounds it
    assert WorldEnv(world).horizon == 2
    live = LiveRows(world, [0], policies("noop", world))
    recording = record(live, 12, tmp_path)
    captions = [recording.captions(index, 10)[0] for index in range(12)]
    assert [caption.banner for caption in captions] == [""] * 4 + ["TIME"] * 4 + [""] * 4
    assert [caption.note for caption in captions[7:9]] == ["episode 1  0.7 s", "episode 2  0.0 s"]
    assert (live.rows[0].episode, live.rows[0].lengths, live.rows[0].truncated) == (1, [8], [True])
    second, _ = world.initial([episode_seed(0, 1)])
    _, out = world.step(second, [[0] * 4])
    assert out.frames is not None
    assert np.array_equal(recording.frames[8:, 0], out.frames[0].numpy())


def test_many_frames_wait_on_the_disk_and_leave_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = toy_world()
    in_memory = record(LiveRows(world, [0, 1], policies("noop", world)), 10, tmp_path)
    monkeypatch.setattr("cfworld.cli.recording._SPILL_BYTES", 0)
    on_disk = record(LiveRows(world, [0, 1], policies("noop", world)), 10, tmp_path)
    assert isinstance(on_disk.frames, np.memmap)
    assert np.array_equal(on_disk.frames, in_memory.frames)
    assert list(tmp_path.iterdir()) == []


def test_more_frames_than_the_disk_holds_are_refused_with_their_size(tmp_path: Path) -> None:
    world = toy_world()
    with pytest.raises(ConfigError, match=r"got frames=1000000000000 in worlds=1, 12288000\.0 GB of frames"):
        record(LiveRows(world, [0], policies("noop", world)), 10**12, tmp_path)
    for num_frames in (10**15, 10**22):  # more bytes than 64 bits can count
        with pytest.raises(ConfigError, match=f"got frames={num_frames} in worlds=1"):
            record(LiveRows(world, [0], policies("noop", world)), num_frames, tmp_path)
