import numpy as np
import pytest

from cfworld.metrics.judgement import CEILING, CHANCE
from cfworld.metrics.recall import MAX_SHIFT, Returned, has_moved, retrieved, score


def views(*batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*batch, 8, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize("shift", [-MAX_SHIFT, 0, MAX_SHIFT])
def test_a_shifted_view_is_still_found(shift: int):
    candidates = views(3, 5)
    assert retrieved(np.roll(candidates[:, 2], shift, axis=2), candidates).tolist() == [2, 2, 2]


def test_a_view_that_is_shifted_too_far_is_not_found():
    candidates = np.stack([views(1), np.roll(views(1), 2 * MAX_SHIFT, axis=2), views(1, seed=3)], axis=1)
    shifted = np.roll(candidates[:, 0], MAX_SHIFT + 1, axis=2)
    assert retrieved(shifted, candidates).tolist() == [1]


def test_a_camera_moved_as_driven_when_most_of_its_steps_did():
    ring = views()
    driven = np.stack([np.roll(ring, -2 * i, axis=1) for i in range(1, 9)])[None]
    truth = Returned(departed=ring[None], track=driven)
    one_late = driven.copy()
    one_late[0, 3] = np.roll(driven[0, 3], 10, axis=1)  # two steps of eight are wrong
    two_late = one_late.copy()
    two_late[0, 6] = np.roll(driven[0, 6], 10, axis=1)
    assert has_moved(truth, truth).tolist() == [True]
    assert has_moved(Returned(departed=ring[None], track=one_late), truth).tolist() == [True]
    assert has_moved(Returned(departed=ring[None], track=two_late), truth).tolist() == [False]


def test_a_rest_does_not_make_up_for_ways_that_were_not_taken():
    """Out by one step, fourteen at rest, and back by one: standing still for ever is right in 14 of 16 steps."""
    ring = views()
    away, resting = np.roll(ring, -8, axis=1), np.array([False, *[True] * 14, False])
    truth = Returned(departed=ring[None], track=np.stack([*[away] * 15, ring])[None], resting=resting)
    still = Returned(departed=ring[None], track=np.stack([ring] * 16)[None], resting=resting)
    restless = Returned(departed=ring[None], track=truth.track.copy(), resting=resting)
    restless.track[0, 1:15:2] = ring  # it goes on panning to and fro
    assert [has_moved(made, truth).tolist() for made in (truth, still, restless)] == [[True], [False], [False]]


def test_scores_of_one_route():
    candidates = views(2, 16)
    truth = Returned(departed=candidates[:, 3], track=candidates[:, -1:])
    wrong = Returned(departed=candidates[:, 3], track=candidates[:, 5:6], promotions=np.array([0, 2]))
    scores = score({"right": truth, "wrong": wrong}, truth, candidates[:, -1], candidates)
    assert scores["right"].recalled.tolist() == scores[CEILING].recalled.tolist() == [1, 1]
    assert scores["right"].psnr.tolist() == [60, 60]
    assert scores["wrong"].recalled.tolist() == [0, 0]
    assert scores[CHANCE].recalled.tolist() == [1 / 16, 1 / 16]
    assert scores["wrong"].promoted is not None
    assert scores["wrong"].promoted.tolist() == [0, 1]
    assert "promoted" not in scores["right"].figures()
