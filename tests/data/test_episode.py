import numpy as np
import pytest

from cfworld.data import Episode, to_blocks
from cfworld.errors import DatasetError


def episode(ticks: int, *, terminated: bool = True, **fields) -> Episode:
    """Frame t is filled with t, action t is 100 + t, reward t is t."""
    values = {
        "frames": np.broadcast_to(np.arange(ticks + 1, dtype=np.uint8)[:, None, None, None], (ticks + 1, 2, 2, 3)),
        "actions": 100 + np.arange(ticks),
        "rewards": np.arange(ticks, dtype=np.float32),
        "terminated": terminated,
        "truncated": not terminated,
        "seed": 7,
        "source": "test/Source-v0",
        "policy": "test",
        "variables": {"angle": np.arange(ticks + 1, dtype=np.float32)},
    }
    return Episode(**values | fields)


def test_an_ended_episode_keeps_its_last_block_padded_with_the_last_valid_frame():
    blocks = to_blocks(episode(6), 4)

    assert blocks.frames[:, :, 0, 0, 0].tolist() == [[1, 2, 3, 4], [5, 6, 6, 6]]
    assert blocks.actions.tolist() == [[100, 101, 102, 103], [104, 105, 105, 105]]
    assert blocks.rewards.tolist() == [[0, 1, 2, 3], [4, 5, 0, 0]]
    assert blocks.ends.tolist() == [[0, 0, 0, 0], [0, 1, 0, 0]]
    assert blocks.valid.tolist() == [[True] * 4, [True, True, False, False]]


def test_an_episode_without_a_real_end_drops_its_incomplete_block():
    blocks = to_blocks(episode(7, terminated=False), 4)

    assert blocks.frames[:, :, 0, 0, 0].tolist() == [[1, 2, 3, 4]]
    assert blocks.valid.all()
    assert not blocks.ends.any()


def test_an_end_on_the_last_frame_of_a_block_adds_no_block():
    blocks = to_blocks(episode(8), 4)

    assert len(blocks) == 2
    assert blocks.valid.all()
    assert blocks.ends[1].tolist() == [0, 0, 0, 1]


def test_an_episode_shorter_than_a_block_has_one_block_if_it_ended_and_none_otherwise():
    assert len(to_blocks(episode(3), 4)) == 1
    assert len(to_blocks(episode(3, terminated=False), 4)) == 0


def test_continuous_actions_keep_their_axis():
    actions = np.arange(12, dtype=np.float32).reshape(6, 2)

    blocks = to_blocks(episode(6, actions=actions), 4)

    assert blocks.actions.shape == (2, 4, 2)
    assert blocks.actions[1].tolist() == [[8, 9], [10, 11], [10, 11], [10, 11]]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frames": np.zeros((5, 2, 2, 3), np.float32)}, "frames are float32"),
        ({"frames": np.zeros((5, 2, 2, 1), np.uint8)}, "expected uint8"),
        ({"frames": np.zeros((1, 2, 2, 3), np.uint8)}, "at least one more"),
        ({"actions": np.zeros(3, np.int64)}, r"expected int64 \[4\]"),
        ({"actions": np.zeros(4, np.int32)}, "actions are int32"),
        ({"rewards": np.zeros(4)}, "rewards are float64"),
        ({"rewards": np.array([0, 1, np.nan, np.inf], np.float32)}, "the reward of tick 2 is nan; expected finite"),
        (
            {"actions": np.array([[0, 1], [0, -np.inf], [0, 0], [0, 0]], np.float32)},
            r"the action of tick 1 is \[0.0, -inf\]; expected finite",
        ),
        ({"variables": {"angle": np.zeros(4, np.float32)}}, "variable 'angle'"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(fields, message):
    with pytest.raises(DatasetError, match=message):
        episode(4, **fields)
