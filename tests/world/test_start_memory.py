"""Starts are read once; what follows is the same to the last bit whether they were remembered or not."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import cfworld
from cfworld import Start, WorldState
from cfworld.errors import DonatedStateError, StartError
from cfworld.memory import MemoryConfig
from cfworld.prefix import prime
from tests.toy import toy_world

ACTIONS = [0, 1, 2, 2, 1, 0]
CLIP = Start(
    frames=np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8), actions=np.arange(12) % 3
)


def tensors(state: WorldState) -> dict[str, torch.Tensor]:
    names = ("seeds", "step", "latents", "ended")
    return {**state.memory.tensors(), **{name: getattr(state, name) for name in names}}


def same(one: WorldState, two: WorldState) -> bool:
    others = tensors(two)
    return all(torch.equal(value, others[name]) for name, value in tensors(one).items())


def passes(world: cfworld.World) -> list[int]:
    """A list that grows with every pass through the world's network."""
    counted: list[int] = []
    world.generator.transformer.register_forward_pre_hook(lambda *_: counted.append(1))
    return counted


def test_a_start_is_read_as_the_prefix_that_it_is():
    world = toy_world()
    state, _ = world.initial(seeds=[5], starts=[3])
    latents, actions = world.starts.pick(3)
    with torch.inference_mode():
        expected = prime(world.generator, world.config.memory, latents[None], actions[None])
    assert all(torch.equal(value, state.memory.tensors()[name]) for name, value in expected.tensors().items())
    assert torch.equal(state.latents, latents[None, -1:])


@pytest.mark.parametrize("start", [3, CLIP], ids=["shipped", "given"])
def test_an_episode_from_a_remembered_start_equals_one_from_a_new_start_to_the_last_bit(start: int | Start):
    remembering, forgetful = toy_world(), toy_world()
    forgetful.start_memories.max_bytes = 0
    remembering.initial(seeds=[1], starts=[start])
    counted = passes(remembering)
    (state, shown), (other, frames) = (w.initial(seeds=[7], starts=[start]) for w in (remembering, forgetful))
    assert not counted
    assert len(forgetful.start_memories) == 0
    assert same(state, other)
    assert torch.equal(shown, frames)
    for action in ACTIONS:
        state, out = remembering.step(state, [action])
        other, expected = forgetful.step(other, [action])
        assert out.frames is not None
        assert expected.frames is not None
        assert torch.equal(out.frames, expected.frames)
    assert same(state, other)


def test_a_row_begins_the_same_to_the_last_bit_whatever_begins_beside_it():
    world, other = toy_world(), toy_world()
    together, frames = world.initial(seeds=[5, 6, 7, 8], starts=[2, CLIP, 2, 0])
    for row, (seed, start) in enumerate([(5, 2), (6, CLIP), (7, 2), (8, 0)]):
        alone, shown = other.initial(seeds=[seed], starts=[start])
        assert same(together.select([row]), alone)
        assert torch.equal(frames[row], shown[0])


def test_what_is_done_to_a_state_does_not_reach_what_is_remembered():
    world = toy_world()
    before, frames = world.initial(seeds=[0], starts=[1])
    again, shown = world.initial(seeds=[0], starts=[1])
    with torch.inference_mode():
        for value in (*tensors(again).values(), shown):
            value.zero_()
    after, still = world.initial(seeds=[0], starts=[1])
    assert same(before, after)
    assert torch.equal(frames, still)


def test_a_given_start_is_known_by_its_contents():
    world = toy_world()
    frames = CLIP.frames.copy()
    start = Start(frames=frames, actions=CLIP.actions)
    first, _ = world.initial(seeds=[0], starts=[CLIP])
    counted = passes(world)
    state, _ = world.initial(seeds=[0], starts=[start])
    assert not counted
    frames[-1] = 0
    changed, _ = world.initial(seeds=[0], starts=[start])
    assert counted
    assert same(state, first)
    assert not torch.equal(changed.latents, first.latents)


def test_what_another_memory_made_of_a_start_is_not_used():
    world, small = toy_world(), MemoryConfig(num_sink=0, num_slow=0, num_fast=3)
    world.initial(seeds=[0], starts=[1])
    world.config = replace(world.config, memory=small)
    state, _ = world.initial(seeds=[0], starts=[1])
    expected, _ = toy_world(memory=small).initial(seeds=[0], starts=[1])
    assert same(state, expected)


def test_what_was_not_used_for_longest_is_forgotten_first():
    world = toy_world()
    world.initial(seeds=[0], starts=[0])
    world.start_memories.max_bytes = 2 * world.start_memories.num_bytes
    for start in (1, 0, 2):
        world.initial(seeds=[0], starts=[start])
    assert len(world.start_memories) == 2
    assert world.start_memories.num_bytes <= world.start_memories.max_bytes
    counted = passes(world)
    world.initial(seeds=[0, 1], starts=[0, 2])
    assert not counted
    world.initial(seeds=[0], starts=[1])
    assert counted
    world.start_memories.clear()
    assert (len(world.start_memories), world.start_memories.num_bytes) == (0, 0)


def test_a_copy_of_a_world_begins_with_nothing_remembered():
    world = toy_world()
    state, _ = world.initial(seeds=[0], starts=[1])
    twin = copy.deepcopy(world)
    assert (len(world.start_memories), len(twin.start_memories)) == (1, 0)
    assert same(twin.initial(seeds=[0], starts=[1])[0], state)


def test_frames_that_nobody_wants_are_not_decoded(monkeypatch: pytest.MonkeyPatch):
    world, other = toy_world(), toy_world()
    _, expected = other.initial(seeds=[0], starts=[1])
    with monkeypatch.context() as patch:
        patch.setattr(world.tokenizer, "decode", lambda *_: pytest.fail("decoded"))
        state, nothing = world.initial(seeds=[0], starts=[1], decode=False)
        _, none = world.initial(seeds=[0], starts=[state], decode=False)
    assert nothing is none is None
    assert torch.equal(world.initial(seeds=[0], starts=[1])[1], expected)


def old_state(world: cfworld.World) -> WorldState:
    """A state after some steps."""
    state, _ = world.initial(seeds=[3], starts=[1])
    for action in ACTIONS:
        state, _ = world.step(state, [action])
    return replace(state, ended=torch.zeros_like(state.ended))


def test_an_episode_from_a_state_is_another_future_of_its_moment():
    world = toy_world()
    old = old_state(world)
    state, frames = world.initial(seeds=[8, 9], starts=[old, old])
    assert state.seeds.tolist() == [8, 9]
    assert state.step.tolist() == [0, 0]
    assert same(state.select([0]), replace(old, seeds=torch.tensor([8]), step=torch.tensor([0])))
    torch.testing.assert_close(frames[:1], world.decode(old.latents), rtol=0, atol=1)
    _, out = world.step(state, [1, 1])
    assert not torch.equal(out.latents[0], out.latents[1])
    again, _ = world.initial(seeds=[8], starts=[old])
    assert torch.equal(world.step(again, [1])[1].latents, world.step(state.select([0]), [1])[1].latents)
    assert old.step.tolist() == [len(ACTIONS)]


def test_an_episode_may_begin_from_a_state_on_disk(tmp_path: Path):
    world = toy_world()
    old = old_state(world)
    old.save(tmp_path / "moment.safetensors")
    loaded = WorldState.load(tmp_path / "moment.safetensors")
    assert same(world.initial(seeds=[8], starts=[loaded])[0], world.initial(seeds=[8], starts=[old])[0])


def test_a_state_that_cannot_begin_an_episode_is_refused():
    world = toy_world()
    old = old_state(world)
    foreign, _ = toy_world(seed=7).initial(seeds=[0])
    wrong = {
        "whose episode has ended": replace(old, ended=torch.ones_like(old.ended)),
        "of 2 rows": old.select([0, 0]),
        "expected one of this world": foreign,
    }
    for message, state in wrong.items():
        for use in (lambda start: world.initial(seeds=[0], starts=[start]), world.check_start):
            with pytest.raises(StartError, match=message):
                use(state)
    world.step(old, [0], donate=True)
    with pytest.raises(DonatedStateError):
        world.initial(seeds=[0], starts=[old])


@pytest.mark.parametrize("seed", [2**64, -(2**63) - 1, 10**30])
def test_a_seed_of_more_than_64_bits_is_refused_rather_than_folded(seed: int):
    with pytest.raises(StartError, match="64 bits"):
        toy_world().initial(seeds=[0, seed])


def test_no_two_seeds_of_64_bits_are_the_same():
    world = toy_world()
    seeds = [0, 1, 2**63 - 1, 2**63, 2**64 - 1]
    state, _ = world.initial(seeds=seeds, starts=[0] * 5)
    assert len(set(state.seeds.tolist())) == 5
    again, _ = world.initial(seeds=state.seeds, starts=[0] * 5)
    assert same(state, again)


def test_less_room_is_less_from_then_on():
    world = toy_world()
    world.initial([0, 1], [0, 1])
    assert len(world.start_memories) == 2
    world.start_memories.max_bytes = world.start_memories.num_bytes - 1
    assert len(world.start_memories) == 1
    world.start_memories.max_bytes = 0
    assert (len(world.start_memories), world.start_memories.num_bytes) == (0, 0)
