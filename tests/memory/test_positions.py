"""Temporal positions: golden tables of Eq. 8."""

import pytest
import torch

from cfworld.memory import MemoryConfig, Positions, bounded_positions, memory_positions
from tests.memory_tools import filled

# Sink 3, slow 12, fast 6 (the paper's 21), chunks of 3: valid slots -> positions of the chunk.
PAPER = [(0, [0, 1, 2]), (3, [3, 4, 5]), (6, [6, 7, 8]), (9, [9, 10, 11]), (18, [18, 19, 20])]


@pytest.mark.parametrize(("num_valid", "expected"), PAPER)
def test_the_chunk_comes_after_every_valid_slot(num_valid: int, expected: list[int]):
    valid = torch.arange(18)[None] < num_valid
    assert bounded_positions(valid, 3)[1][0].tolist() == expected


def test_slots_are_ranked_in_the_order_sink_slow_fast_whatever_is_empty():
    valid = torch.tensor([[True, True, True, False, False, True, True, False]])
    slots, current = bounded_positions(valid, 1)
    assert slots[0, valid[0]].tolist() == [0, 1, 2, 3, 4]
    assert current.tolist() == [[5]]


def test_empty_slots_have_no_position_before_the_first():
    """They are masked, and so it matters only that rotations are made for positions that there are."""
    valid, count = torch.tensor([[False, False, True, False]]), torch.tensor([1])
    source = torch.tensor([[-1, -1, 0, -1]])
    for rule in Positions:
        slots, current = memory_positions(MemoryConfig(num_fast=3, positions=rule), valid, source, count)
        assert slots.tolist() == [[0, 0, 0, 0]]
        assert current.tolist() == [[1]]


def test_positions_are_absolute_indices_until_something_is_dropped():
    config = MemoryConfig(num_sink=2, num_slow=3, num_fast=4, consolidate_every=100)
    for chunks in range(1, 6):
        memory = filled(config, chunks)
        slots, current = bounded_positions(memory.valid, 1)
        assert slots[memory.valid].tolist() == memory.source[memory.valid].tolist()
        assert current.item() == chunks


def test_absolute_positions_grow_with_the_episode():
    config = MemoryConfig(num_sink=1, num_slow=0, num_fast=3, positions=Positions.ABSOLUTE)
    memory = filled(config, 50)
    slots, current = memory_positions(config, memory.valid, memory.source, memory.count)
    assert slots.tolist() == [[0, 48, 49]]
    assert current.tolist() == [[50]]
