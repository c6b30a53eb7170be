"""Blocks are drawn evenly, or by their grain."""

import numpy as np
import pytest

from cfworld.train.banks.block_draw import BlockDraw
from cfworld.train.banks.frame_bank import FrameBank

POINTS = (255 * (np.indices((8, 8)).sum(axis=0) % 2))[..., None]


def bank(grainy: int, plain: int) -> FrameBank:
    """Two episodes with so many blocks of one frame: black and white points, then grey."""
    frames = np.full((grainy + plain + 2, 8, 8, 3), 128, np.uint8)
    frames[: grainy + 1] = POINTS
    return FrameBank(frames, np.array([grainy + 1, plain + 1], np.int64), block=1)


def test_grain_is_that_of_each_blocks_middle_frame():
    frames = np.zeros((7, 8, 8, 3), np.uint8)
    frames[3] = POINTS
    expected = [np.arange(7 - block) + middle == 3 for block, middle in ((1, 1), (2, 1), (3, 2), (4, 2))]
    for block, grainy in zip((1, 2, 3, 4), expected, strict=True):
        found = FrameBank(frames, np.array([7], np.int64), block).grain()
        np.testing.assert_allclose(found, grainy.astype(np.float32), atol=1e-6)


def test_a_few_grainy_blocks_among_many_are_found():
    blocks = bank(3, 96)
    found = BlockDraw(blocks, 1.0).numbers(np.random.default_rng(0), 200)
    assert (found < 3).mean() > 0.9


def test_without_a_share_for_detail_the_draw_is_the_banks_own():
    blocks = bank(3, 5)
    found = BlockDraw(blocks, 0.0).numbers(np.random.default_rng(0), 50)
    np.testing.assert_array_equal(found, blocks.draw_numbers(np.random.default_rng(0), 50))


@pytest.mark.parametrize(("share", "expected"), [(1.0, 1.0), (0.5, 0.5 + 0.5 * 0.2)])
def test_grainy_blocks_get_their_share(share: float, expected: float):
    blocks = bank(20, 80)
    found = BlockDraw(blocks, share).numbers(np.random.default_rng(0), 4000)
    assert found.min() >= 0
    assert found.max() < 100
    assert (found < 20).mean() == pytest.approx(expected, abs=0.03)
