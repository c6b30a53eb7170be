import numpy as np
import pytest

from cfworld.data.panorama import BEACON_BACKGROUND, CIRCUMFERENCE, Panorama, offset, read_heading

STAY, LEFT, RIGHT = 0, 1, 2
TURN = 128


def play(seed: int, actions: list[int], god: bool = False) -> tuple[np.ndarray, list[float], list[bool]]:
    panorama = Panorama(seed, god)
    frames, rewards, ends = [panorama.frame()], [], []
    for action in actions:
        reward, found = panorama.tick(action)
        frames.append(panorama.frame())
        rewards.append(reward)
        ends.append(found)
    return np.stack(frames), rewards, ends


def centre(panorama: Panorama) -> None:
    while not panorama.centred:
        panorama.tick(RIGHT)


@pytest.mark.parametrize(
    ("column", "heading", "expected"), [(5, 0, 5), (0, 5, -5), (2, 250, 8), (250, 2, -8), (128, 0, -128)]
)
def test_the_offset_is_the_shortest_signed_way_around_the_ring(column, heading, expected):
    assert offset(column, heading) == expected


def test_the_same_seed_and_actions_give_the_same_episode():
    actions = np.random.default_rng(0).integers(0, 3, 100).tolist()
    first, second = play(7, actions), play(7, actions)
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1:] == second[1:]


def test_right_moves_the_picture_two_pixels_to_the_left():
    frames, _, _ = play(0, [RIGHT])
    np.testing.assert_array_equal(frames[1][:, :-2], frames[0][:, 2:])


def test_left_undoes_right():
    frames, _, _ = play(0, [RIGHT, RIGHT, LEFT, LEFT])
    np.testing.assert_array_equal(frames[4], frames[0])
    np.testing.assert_array_equal(frames[3], frames[1])


@pytest.mark.parametrize("action", [LEFT, RIGHT])
def test_a_full_turn_returns_to_the_same_view_and_never_ends_the_episode(action):
    frames, rewards, ends = play(3, [action] * TURN)
    np.testing.assert_array_equal(frames[TURN], frames[0])
    assert not any(ends)
    assert sum(rewards) in (8, 9)


@pytest.mark.parametrize("seed", range(50))
def test_the_beacon_is_outside_the_first_view(seed):
    panorama = Panorama(seed)
    assert abs(offset(panorama.ring.beacon, panorama.heading)) >= 32 + 8
    assert not np.any(np.all(panorama.frame()[8:52] == BEACON_BACKGROUND, axis=-1))


def test_the_view_is_cut_from_the_ring_around_the_heading():
    panorama = Panorama(11)
    columns = (panorama.heading + np.arange(-32, 32)) % CIRCUMFERENCE
    np.testing.assert_array_equal(panorama.frame(), panorama.ring.image[:, columns])


def test_the_eighth_tick_of_staying_at_the_beacon_finds_it():
    panorama = Panorama(1)
    centre(panorama)
    assert [panorama.tick(STAY) for _ in range(8)] == [(1.0, False)] * 7 + [(1.0, True)]


def test_a_move_starts_the_count_of_stays_anew():
    panorama = Panorama(1)
    centre(panorama)
    ends = [panorama.tick(action)[1] for action in [STAY] * 7 + [RIGHT] + [STAY] * 7]
    assert panorama.centred
    assert not any(ends)
    assert panorama.tick(STAY) == (1.0, True)


def test_staying_away_from_the_beacon_brings_neither_reward_nor_end():
    _, rewards, ends = play(2, [STAY] * 20)
    assert sum(rewards) == 0
    assert not any(ends)


def test_god_is_never_done():
    panorama = Panorama(1, god=True)
    centre(panorama)
    assert [panorama.tick(STAY) for _ in range(20)] == [(1.0, False)] * 20


def test_every_ring_has_exactly_one_beacon_and_unlike_neighbours():
    for seed in range(30):
        image = Panorama(seed).ring.image
        backgrounds = image[8, ::16]
        assert np.sum(np.all(backgrounds == BEACON_BACKGROUND, axis=-1)) == 1
        assert np.all(np.any(backgrounds != np.roll(backgrounds, 1, axis=0), axis=-1))


def test_only_the_wall_changes_from_episode_to_episode():
    images = np.stack([Panorama(seed).ring.image for seed in range(8)])
    assert np.all(images[:, :8] == images[0, :8])
    assert np.all(images[:, 52:] == images[0, 52:])
    assert len(np.unique(images[:, 8:52].reshape(8, -1), axis=0)) == 8


def test_the_sixteen_views_of_an_episode_are_told_apart():
    image = Panorama(4).ring.image.astype(np.float64)
    views = np.stack([np.roll(image, -16 * tile, axis=1)[8:52, :64] for tile in range(16)])
    distances = np.square(views[:, None] - views[None]).mean(axis=(2, 3, 4)) + np.eye(16) * 1e9
    assert distances.min() > 1000


def test_the_heading_is_read_off_every_view():
    episode, seen = Panorama(3), []
    for _ in range(CIRCUMFERENCE // 2):
        episode.tick(RIGHT)
        seen.append((episode.frame(), episode.heading))
    frames, headings = zip(*seen, strict=True)
    assert read_heading(np.stack(frames)).tolist() == list(headings)


def test_the_compass_tells_every_column_apart():
    compass = Panorama(0).ring.image[0]
    assert len(np.unique(compass, axis=0)) == CIRCUMFERENCE
