import torch

from cfworld.memory import MemoryConfig, MemoryState
from cfworld.memory.packed import pack, unpack
from tests.memory_tools import filled

CONFIG = MemoryConfig(num_sink=1, num_slow=2, num_fast=4, consolidate_every=2, threshold=1.1)


def same(one: MemoryState, two: MemoryState) -> bool:
    others = two.tensors()
    return all(torch.equal(value, others[name]) for name, value in one.tensors().items())


def test_rows_come_back_as_they_were_however_full_they_are():
    rows = [filled(CONFIG, num_chunks) for num_chunks in (2, 9, 1)]
    assert same(unpack([pack(row) for row in rows]), MemoryState.cat(rows))


def test_only_slots_that_hold_something_take_room():
    early, late = pack(filled(CONFIG, 2)), pack(filled(CONFIG, 9))
    assert early.slots.tolist() == [0, 3]
    assert early.memory.keys.shape[2] == early.memory.latents.shape[1] == 2
    assert late.slots.tolist() == list(range(CONFIG.num_slots))
    slot = (2 + 2 + 1) * 4 + 8 + 8  # keys, values and a latent in float32; an action, and where the slot stood
    assert late.num_bytes - early.num_bytes == 4 * slot


def test_nothing_is_shared_with_what_was_packed_or_comes_out():
    row = filled(CONFIG, 2)
    packed = pack(row)
    before = unpack([packed])
    for memory in (row, unpack([packed])):
        for value in memory.tensors().values():
            value.zero_()
    assert same(unpack([packed]), before)
