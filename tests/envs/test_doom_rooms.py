import numpy as np
import pytest

from cfworld.envs.doom_rooms import TICKS_OF_A_TURN, DoomRoomsTwin
from cfworld.metrics.images import psnr

RIGHT, LEFT, FORWARD, BACKWARD = 1, 2, 3, 4
NEAR_THE_VEST = 34
"""A seed whose episode begins north of the vest, with nothing in between."""


@pytest.fixture(scope="module")
def rooms():
    twin = DoomRoomsTwin()
    yield twin
    twin.close()


def act(twin, action, num_ticks):
    """The frames of as many ticks of an action, and the rewards and the end."""
    parts = []
    for first in range(0, num_ticks, 4):
        parts.append(twin.step_ticks([action] * min(4, num_ticks - first)))
        if parts[-1].terminated:
            break
    return np.concatenate([part.frames for part in parts]), np.concatenate([part.rewards for part in parts]), parts[-1]


def face(twin, heading):
    """Turn to the heading nearest to the given one, in degrees."""
    away = (twin.variables()["ANGLE"] - heading + 180) % 360 - 180
    num_ticks = round(abs(away) * TICKS_OF_A_TURN / 360)
    act(twin, RIGHT if away > 0 else LEFT, num_ticks)


def test_the_simulator_really_shows_the_walls_that_a_seed_draws(rooms):
    views = [rooms.reset(seed=seed)[0] for seed in (7, 8, 7)]
    fresh = DoomRoomsTwin()
    elsewhere, _ = fresh.reset(seed=7)
    fresh.close()
    np.testing.assert_array_equal(views[0], views[2])
    np.testing.assert_array_equal(views[0], elsewhere)
    assert np.abs(views[0].astype(int) - views[1]).mean() > 20


def test_the_same_place_has_other_walls_in_another_episode(rooms):
    places = {}
    for seed in range(60):
        rooms.reset(seed=seed)
        face(rooms, 0)
        where = (rooms.variables()["POSITION_X"], rooms.variables()["POSITION_Y"])
        places.setdefault(where, []).append(rooms.frames()[-1])
    assert len(places) == 17
    pairs = [(views[0], views[1]) for views in places.values() if len(views) > 1]
    alike = [psnr(one[None, 16:40], other[None, 16:40])[0] for one, other in pairs]
    assert np.median(alike) < 14


def test_a_turn_of_128_ticks_shows_the_same_view_from_the_same_pose(rooms):
    view, info = rooms.reset(seed=2)
    frames, *_ = act(rooms, LEFT, TICKS_OF_A_TURN)
    np.testing.assert_array_equal(frames[-1], view)
    assert rooms.variables() == info["variables"]
    assert psnr(frames[None, 63], view[None])[0] < 15


@pytest.mark.parametrize(("action", "sign"), [(RIGHT, -1), (LEFT, 1)])
def test_every_tick_turns_by_the_same_angle_at_once(rooms, action, sign):
    _, info = rooms.reset(seed=2)
    ticks = rooms.step_ticks([action] * 4)
    turned = np.diff([info["variables"]["ANGLE"], *ticks.variables["ANGLE"]])
    np.testing.assert_allclose((turned + 180) % 360 - 180, sign * 360 / 128, atol=1e-3)


def test_ticks_backward_undo_those_forward_where_no_wall_is_met(rooms):
    rooms.reset(seed=NEAR_THE_VEST)
    face(rooms, 270)
    view, before = rooms.frames()[-1], rooms.variables()
    away, *_ = act(rooms, FORWARD, 8)
    act(rooms, BACKWARD, 8)
    act(rooms, 0, 50)
    after = rooms.variables()
    assert after["ANGLE"] == before["ANGLE"]
    assert abs(after["POSITION_X"] - before["POSITION_X"]) + abs(after["POSITION_Y"] - before["POSITION_Y"]) < 1
    assert psnr(rooms.frames()[-1:], view[None])[0] > 30
    assert psnr(rooms.frames()[-1:], view[None])[0] > psnr(away[-1:], view[None])[0] + 10


def test_the_vest_rewards_and_ends(rooms):
    rooms.reset(seed=NEAR_THE_VEST)
    face(rooms, 270)
    _, rewards, last = act(rooms, FORWARD, 60)
    assert (last.terminated, last.truncated) == (True, False)
    np.testing.assert_allclose(rewards, [*[-0.0001] * (len(rewards) - 2), 0.9999, -0.0001], atol=1e-5)


def test_with_god_the_vest_neither_rewards_nor_ends(rooms):
    rooms.reset(seed=NEAR_THE_VEST, options={"god": True})
    face(rooms, 270)
    _, rewards, last = act(rooms, FORWARD, 60)
    assert not last.terminated
    np.testing.assert_allclose(rewards, -0.0001, atol=1e-6)


def test_god_changes_nothing_in_sight_before_the_vest_is_taken(rooms):
    mortal, _ = rooms.reset(seed=NEAR_THE_VEST)
    god, _ = rooms.reset(seed=NEAR_THE_VEST, options={"god": True})
    np.testing.assert_array_equal(god, mortal)


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    twin = DoomRoomsTwin()
    twin.reset(seed=0)
    twin.reset(seed=1)
    assert [path.name for path in tmp_path.glob("*/rooms.wad")] == ["rooms.wad"]
    twin.close()
    assert list(tmp_path.iterdir()) == []
