"""Starts out of pictures, clips and recorded episodes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cfworld
from cfworld import Start
from cfworld.data import EpisodeStore
from cfworld.errors import DatasetError, StartError
from cfworld.model import ActionConfig
from cfworld.world.start_encoding import box_averaged, neutral_action
from tests.counting import counting_dataset, counting_episode
from tests.toy import toy_world

PICTURE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A dataset of a long and a short episode."""
    return counting_dataset(tmp_path / "data", counting_episode(), counting_episode(5, terminated=False))


@pytest.fixture(scope="module")
def world() -> cfworld.World:
    return toy_world()


def test_a_picture_is_held_still_under_the_neutral_action(world: cfworld.World):
    start = Start.from_image(PICTURE, num_frames=8)
    assert start.frames.shape == (8, 64, 64, 3)
    assert all(np.array_equal(frame, PICTURE) for frame in start.frames)
    state, _ = world.initial(seeds=[0], starts=[start])
    spelled = Start(frames=start.frames, actions=np.zeros(8, np.int64))
    expected, _ = world.initial(seeds=[0], starts=[spelled])
    assert state.memory.actions.eq(expected.memory.actions).all()
    assert state.memory.keys.eq(expected.memory.keys).all()


def test_the_neutral_action_of_a_box_is_its_point_nearest_to_zero():
    config = ActionConfig(low=[-1.0, 0.5, -3.0], high=[1.0, 2.0, -1.0])
    assert neutral_action(config).tolist() == [0.0, 0.5, -1.0]
    assert neutral_action(ActionConfig(num_actions=3)) == 0
    state, _ = toy_world(actions=config).initial(seeds=[0], starts=[Start.from_image(PICTURE, num_frames=4)])
    assert state.memory.actions[0, 0].tolist() == [[0.0, 0.5, -1.0]] * 4


def test_a_picture_may_be_a_file_or_an_image_of_any_mode(tmp_path: Path):
    path = tmp_path / "picture.png"
    Image.fromarray(PICTURE).convert("RGBA").save(path)
    expected = Start.from_image(PICTURE)
    for image in (path, str(path), Image.open(path)):
        assert np.array_equal(Start.from_image(image).frames, expected.frames)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (PICTURE / 255, "got float64"),
        (PICTURE[..., 0], r"uint8 \[64, 64\]"),
        (np.zeros((64, 64, 4), np.uint8), r"\[64, 64, 4\]"),
        (np.zeros((0, 64, 3), np.uint8), "at least one"),
        ("no-such.png", "cannot be read as a picture"),
        (__file__, "cannot be read as a picture"),
        ([[1], [2, 3]], "no array"),
        (Image.fromarray(np.full((64, 64), 40_000, np.uint16)), "got a picture of mode I;16; expected 8 bits a value"),
        (Image.fromarray(np.full((64, 64), 0.5, np.float32)), "got a picture of mode F; expected 8 bits a value"),
    ],
)
def test_what_is_no_picture_is_refused(image, message: str):
    with pytest.raises(StartError, match=message):
        Start.from_image(image)


def test_a_file_is_refused_that_holds_more_than_8_bits_or_too_many_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    deep, large = tmp_path / "deep.png", tmp_path / "large.png"
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(deep)
    Image.new("1", (64, 64)).save(large)
    with pytest.raises(StartError, match="got a picture of mode I;16"):
        Start.from_image(deep)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(StartError, match=r"large.png' cannot be read as a picture \(Image size \(4096 pixels\)"):
        Start.from_image(large)


def test_a_clip_keeps_the_whole_steps_at_its_end():
    frames = np.arange(11, dtype=np.uint8)[:, None, None, None] + np.zeros((64, 64, 3), np.uint8)
    start = Start.from_clip(frames, np.arange(11))
    assert start.frames[:, 0, 0, 0].tolist() == list(range(3, 11))
    assert start.actions is not None
    assert start.actions.tolist() == list(range(3, 11))
    assert len(Start.from_clip(frames, frames_per_step=5).frames) == 10


def test_a_long_clip_fills_the_memory(world: cfworld.World):
    state, _ = world.initial(seeds=[0], starts=[Start.from_clip(np.repeat(PICTURE[None], 41, axis=0))])
    assert state.memory.count.tolist() == [10]


@pytest.mark.parametrize(
    ("frames", "actions", "message"),
    [
        (np.zeros((3, 64, 64, 3), np.uint8), None, "3 frames; expected at least one step of 4"),
        (np.zeros((0, 64, 64, 3), np.uint8), None, "at least one step"),
        (np.full((4, 64, 64, 3), np.nan), None, "float64"),
        (np.zeros((4, 64, 64, 3), np.uint8), [0, 1], "one action per frame"),
        (np.zeros((4, 64, 64, 3), np.uint8), 1, "one action per frame"),
    ],
)
def test_what_is_no_clip_is_refused(frames: np.ndarray, actions, message: str):
    with pytest.raises(StartError, match=message):
        Start.from_clip(frames, actions)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 3.0])
def test_actions_that_the_world_does_not_know_are_refused(bad: float):
    world = toy_world(actions=ActionConfig(low=[-1.0], high=[1.0]))
    start = Start.from_image(PICTURE, np.full((4, 1), bad, np.float32), num_frames=4)
    with pytest.raises(StartError, match="do not fit this world"):
        world.initial(seeds=[0], starts=[start])


def test_actions_of_several_parts_are_cut_and_told_apart_part_by_part():
    frames = np.repeat(PICTURE[None], 6, axis=0)
    parts = {"keys": np.arange(6), "mouse": np.arange(12.0).reshape(6, 2)}
    start = Start.from_clip(frames, parts)
    assert {name: part.tolist() for name, part in start.actions.items()} == {
        "keys": [2, 3, 4, 5],
        "mouse": [[4, 5], [6, 7], [8, 9], [10, 11]],
    }
    assert (
        Start(frames=frames, actions=parts).digest != Start(frames=frames, actions=parts | {"keys": np.ones(6)}).digest
    )
    with pytest.raises(StartError, match="one action per frame"):
        Start(frames=frames, actions=parts | {"keys": np.arange(5)})


def test_an_episode_hands_over_at_the_tick_that_was_asked_for(folder: Path):
    start = Start.from_episode(counting_episode(), tick=10, num_latents=2)
    assert start.frames[:, 0, 0, 0].tolist() == list(range(3, 11))  # frame t + 1 was made by action t
    assert start.actions is not None
    assert start.actions.tolist() == [t % 3 for t in range(2, 10)]
    store = EpisodeStore.open(folder)
    for source in (folder, store):
        stored = Start.from_episode(source, 0, 10, num_latents=2)
        assert stored.digest == start.digest
        assert stored.name == f"minari:{store.folder}#0@2..10"
    assert start.name == f"sha256:{start.digest}"


def test_without_a_tick_an_episode_hands_over_as_early_as_it_can():
    start = Start.from_episode(counting_episode(), num_latents=3, frames_per_latent=2)
    assert start.frames[:, 0, 0, 0].tolist() == [1, 2, 3, 4, 5, 6]


def test_a_moment_that_does_not_exist_is_refused(folder: Path):
    for source in (counting_episode(), folder):
        for tick, message in ((15, "expected one from 16"), (25, "to 24"), (24, "ends with tick 24")):
            with pytest.raises(StartError, match=message):
                Start.from_episode(source, 0, tick)
    for episode, message in ((2, "episodes 0 to 1"), (-1, "episodes 0 to 1"), (1, "has 5")):
        with pytest.raises(StartError, match=message):
            Start.from_episode(folder, episode)
    with pytest.raises(DatasetError, match="there is no dataset"):
        Start.from_episode(folder / "elsewhere")
    assert len(Start.from_episode(folder, 1, 5, num_latents=1).frames) == 4  # cut off, so that more would have come


def test_larger_frames_are_averaged_box_by_box_as_the_twins_do():
    from cfworld.envs.doom_base import box_average

    screen = np.random.default_rng(1).integers(0, 256, (192, 256, 3), dtype=np.uint8)
    assert np.array_equal(box_averaged(screen[None], (64, 64))[0], box_average(screen))
    tiny = np.array([[1, 2], [2, 2]], np.uint8)[None, :, :, None].repeat(3, axis=3)
    assert box_averaged(tiny, (1, 1)).tolist() == [[[[2, 2, 2]]]]  # 7 / 4, rounded half up


def test_an_episode_begins_from_a_larger_picture_as_from_the_averaged_one(world: cfworld.World):
    large = PICTURE.repeat(2, axis=0).repeat(3, axis=1)
    states = [world.initial(seeds=[0], starts=[Start.from_image(image)])[0] for image in (PICTURE, large)]
    assert states[0].memory.keys.equal(states[1].memory.keys)


@pytest.mark.parametrize("size", [(32, 64), (96, 64), (64, 100), (1, 1)])
def test_frames_of_a_size_that_does_not_divide_are_refused(world: cfworld.World, size: tuple[int, int]):
    with pytest.raises(StartError, match=f"must be 64x64, or integer multiples of it; got {size[0]}x{size[1]}"):
        world.initial(seeds=[0], starts=[Start.from_image(np.zeros((*size, 3), np.uint8))])


def test_a_digest_tells_starts_apart_by_what_they_hold():
    frames = np.repeat(PICTURE[None], 4, axis=0)
    start = Start(frames=frames, actions=np.array([0, 1, 2, 0]))
    assert Start(frames=frames.copy(), actions=np.array([0, 1, 2, 0])).digest == start.digest
    changed = frames.copy()
    changed[3, 5, 5, 0] ^= 1
    others = [
        Start(frames=changed, actions=start.actions),
        Start(frames=frames, actions=np.array([0, 1, 2, 1])),
        Start(frames=frames),
    ]
    assert len({start.digest, *(other.digest for other in others)}) == 4
