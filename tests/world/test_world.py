"""A world is a pure step function: replay, fork, independence, ends."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import cfworld
from cfworld.errors import ActionError, DonatedStateError, StartError, StateError
from cfworld.memory import bounded_positions
from cfworld.model import ActionConfig
from cfworld.world import Ends
from tests.toy import toy_world


@pytest.fixture(scope="module")
def world() -> cfworld.World:
    return toy_world()


def roll(world: cfworld.World, state: cfworld.WorldState, actions: list[int]):
    outputs = []
    for action in actions:
        state, out = world.step(state, [action] * state.num_rows)
        outputs.append(out)
    return state, outputs


def test_a_step_gives_what_it_promises(world: cfworld.World):
    state, frames = world.initial(seeds=[0, 1])
    assert frames.shape == (2, 4, 64, 64, 3)
    assert frames.dtype == torch.uint8
    state, out = world.step(state, np.array([1, 2]))
    assert out.frames is not None
    assert out.frames.shape == (2, 4, 64, 64, 3)
    assert out.latents.shape == (2, 1, 4, 8, 8)
    assert out.hazard.shape == out.reward_frames.shape == (2, 4)
    assert out.reward.shape == out.terminated.shape == out.end_frame.shape == (2,)
    assert state.step.tolist() == [1, 1]


def test_the_same_state_and_actions_give_the_same_frames_any_number_of_times(world: cfworld.World):
    state, _ = world.initial(seeds=[3])
    state, _ = roll(world, state, [0, 1, 2, 1])
    snapshot = state.clone()
    first = [out.frames for out in roll(world, state, [1, 1, 0, 2])[1]]
    for _ in range(2):
        again = [out.frames for out in roll(world, snapshot, [1, 1, 0, 2])[1]]
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_other_seeds_and_other_actions_give_other_frames(world: cfworld.World):
    state, _ = world.initial(seeds=[3, 4], starts=[0, 0])
    _, out = world.step(state, [0, 0])
    assert (out.latents[0] - out.latents[1]).abs().max() > 1e-3
    _, other = world.step(state, [1, 0])
    assert (out.latents[0] - other.latents[0]).abs().max() > 1e-4
    assert torch.equal(out.latents[1], other.latents[1])


def test_a_row_does_not_depend_on_its_neighbours(world: cfworld.World):
    """Rows that share a batch with others come out as they do alone, up to the rounding of the products."""
    together, _ = world.initial(seeds=[5, 6, 7])
    alone, _ = world.initial(seeds=[6])
    for action in [0, 1, 2, 2, 1, 0]:
        together, out = world.step(together, [2, action, 0])
        alone, single = world.step(alone, [action])
        torch.testing.assert_close(out.latents[1:2], single.latents, rtol=1e-3, atol=1e-4)


def test_other_rows_do_not_change_a_row_at_equal_batch_size(world: cfworld.World):
    one, _ = world.initial(seeds=[5, 6])
    two, _ = world.initial(seeds=[9, 6])
    for action in [0, 1, 2]:
        one, out_one = world.step(one, [2, action])
        two, out_two = world.step(two, [0, action])
        assert torch.equal(out_one.latents[1], out_two.latents[1])


def test_select_replace_and_cat_move_whole_rows(world: cfworld.World):
    state, _ = world.initial(seeds=[0, 1, 2])
    state, _ = roll(world, state, [1, 2, 1])
    other, _ = world.initial(seeds=[9])
    swapped = state.replace([1], other)
    rejoined = cfworld.WorldState.cat([swapped.select([0]), swapped.select([1, 2])])
    assert swapped.seeds.tolist() == rejoined.seeds.tolist() == [0, 9, 2]
    assert swapped.step.tolist() == [3, 0, 3]
    _, a = world.step(swapped, [0, 0, 0])
    _, b = world.step(rejoined, [0, 0, 0])
    assert torch.equal(a.latents, b.latents)


def test_rows_may_be_named_by_a_mask(world: cfworld.World):
    state, _ = world.initial(seeds=[0, 1, 2])
    assert state.select([True, False, True]).seeds.tolist() == [0, 2]
    other, _ = world.initial(seeds=[9])
    assert state.replace(torch.tensor([False, True, False]), other).seeds.tolist() == [0, 9, 2]


def test_none_of_the_rows_may_be_named_too(world: cfworld.World):
    state, _ = world.initial(seeds=[0, 1, 2])
    for none in (np.zeros(0, int), np.zeros(3, bool)):
        assert state.select(none).num_rows == 0
        assert torch.equal(state.replace(none, state.select(none)).latents, state.latents)


@pytest.mark.parametrize("rows", [[3], [-1], [0.5], [1j], [True, False], [[0]]])
def test_rows_that_do_not_exist_are_refused(world: cfworld.World, rows):
    state, _ = world.initial(seeds=[0, 1, 2])
    with pytest.raises(StateError):
        state.select(rows)


def test_one_row_is_named_by_a_list(world: cfworld.World):
    state, _ = world.initial(seeds=[0, 1])
    with pytest.raises(StateError, match=r"a mask of 2 bools; got torch\.int64 of shape \[\]"):
        state.select(0)


def test_a_row_is_replaced_once_and_from_as_many_rows(world: cfworld.World):
    state, _ = world.initial(seeds=[0, 1, 2])
    two, _ = world.initial(seeds=[8, 9])
    for rows in ([0], [0, 0], [0, 1, 2]):
        with pytest.raises(StateError, match="as many different rows"):
            state.replace(rows, two)


def test_a_state_of_another_world_is_refused(world: cfworld.World):
    mine, _ = world.initial(seeds=[0])
    foreign, _ = toy_world(seed=7).initial(seeds=[0])
    for use in (
        lambda: world.step(foreign, [0]),
        lambda: cfworld.WorldState.cat([mine, foreign]),
        lambda: mine.replace([0], foreign),
    ):
        with pytest.raises(StateError, match="toy/teacher"):
            use()


def test_a_state_on_another_device_is_refused(world: cfworld.World):
    state, _ = world.initial(seeds=[0])
    with pytest.raises(StateError, match="got a state on meta; this world is on cpu"):
        world.step(replace(state, seeds=state.seeds.to("meta")), [0])


@pytest.mark.parametrize("seeds", [[], 0, "ab", [1.5], [True], None])
def test_seeds_that_are_no_integers_are_refused(world: cfworld.World, seeds):
    with pytest.raises(StartError, match="seeds are"):
        world.initial(seeds=seeds)


def test_actions_may_be_given_per_frame(world: cfworld.World):
    state, _ = world.initial(seeds=[0])
    _, held = world.step(state, [2])
    _, spelled = world.step(state, [[2, 2, 2, 2]])
    _, switched = world.step(state, [[2, 2, 0, 0]])
    assert torch.equal(held.latents, spelled.latents)
    assert not torch.equal(held.latents, switched.latents)


def test_nothing_is_decoded_that_nobody_looks_at(world: cfworld.World, monkeypatch: pytest.MonkeyPatch):
    state, _ = world.initial(seeds=[0])
    monkeypatch.setattr(world.tokenizer, "decode", lambda *_: pytest.fail("decoded"))
    _, out = world.step(state, [0], decode=False)
    assert out.frames is None


def test_a_donated_state_raises_when_used_again(world: cfworld.World):
    state, other = world.initial(seeds=[0])[0], world.initial(seeds=[1])[0]
    world.step(state, [0], donate=True)
    for use in (
        lambda: world.step(state, [0]),
        state.clone,
        lambda: state.select([0]),
        lambda: state.replace([0], other),
        lambda: other.replace([0], state),
        lambda: cfworld.WorldState.cat([other, state]),
    ):
        with pytest.raises(DonatedStateError, match="clone"):
            use()


def test_a_reseeded_state_has_a_seed_for_each_row_and_is_not_donated_with_the_other(world: cfworld.World):
    state, _ = world.initial(seeds=[0, 1])
    with pytest.raises(StateError, match="got 1 seeds for 2 rows"):
        state.reseeded([5])
    other = state.reseeded([5, 6])
    world.step(state, [0, 0], donate=True)
    assert other.seeds.tolist() == [5, 6]
    world.step(other, [0, 0])


def test_size_and_positions_are_the_same_late_as_early(world: cfworld.World):
    state, _ = world.initial(seeds=[0])
    sizes = []
    for step in range(60):
        state, _ = world.step(state, [step % 3], decode=False)
        sizes.append({name: value.shape for name, value in state.memory.tensors().items()})
    assert all(size == sizes[0] for size in sizes)
    config = world.config.memory
    _, current = bounded_positions(state.memory.valid, 1)
    assert current.item() == config.num_sink + config.num_slow + config.num_fast - 1


def test_an_end_repeats_its_frame_and_stops_the_reward():
    world = toy_world(ends=Ends.GREEDY)
    bias = world.generator.heads.hazard.out.bias
    bias.copy_(torch.tensor([-50.0, 50.0, -50.0, -50.0]))
    state, _ = world.initial(seeds=[0])
    state, out = world.step(state, [0])
    assert out.frames is not None
    assert out.terminated.tolist() == [True]
    assert out.end_frame.tolist() == [1]
    assert torch.equal(out.frames[0, 2], out.frames[0, 1])
    assert torch.equal(out.frames[0, 3], out.frames[0, 1])
    assert out.reward_frames[0, 2:].tolist() == [0, 0]
    torch.testing.assert_close(out.reward, out.reward_frames[:, :2].sum(dim=1))
    assert state.ended.tolist() == [True]


def test_a_hazard_of_exactly_one_half_does_not_exceed_it():
    world = toy_world(ends=Ends.GREEDY)
    world.generator.heads.hazard.out.weight.zero_()
    world.generator.heads.hazard.out.bias.zero_()
    state, _ = world.initial(seeds=[0])
    _, out = world.step(state, [0], decode=False)
    assert out.hazard.tolist() == [[0.5] * 4]
    assert out.terminated.tolist() == [False]


def test_ends_are_sampled_at_the_rate_of_the_hazard():
    world = toy_world()
    for head in (world.generator.heads.hazard,):
        head.out.weight.zero_()
        head.out.bias.fill_(-3.0)
    rate = torch.tensor(-3.0).sigmoid().item()
    state, _ = world.initial(seeds=list(range(200)), starts=[0] * 200)
    _, out = world.step(state, [0] * 200, decode=False)
    assert out.terminated.float().mean().item() == pytest.approx(1 - (1 - rate) ** 4, abs=0.08)


def test_a_start_given_as_frames_is_encoded_and_a_foreign_one_warned_of_once():
    world = toy_world()
    frames = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    start = cfworld.Start(frames=frames, actions=np.zeros(12, dtype=np.int64))
    with pytest.warns(UserWarning, match="far from what 'toy' was trained on") as warned:
        state, shown = world.initial(seeds=[0, 1], starts=[start, 2])
    assert warned[0].filename == __file__
    world.initial(seeds=[0], starts=[start])
    assert state.memory.count.tolist() == [3, 2]
    expected = world.decode(world.tokenizer.encode(torch.from_numpy(frames[None])))[:, -4:]
    torch.testing.assert_close(shown[:1], expected, rtol=0, atol=1)


def test_the_shipped_starts_can_be_looked_at_and_used(world: cfworld.World):
    start = world.start(1)
    assert start.frames.shape == (8, 64, 64, 3)
    assert start.actions is not None
    assert start.actions.shape == (8,)


@pytest.mark.parametrize(
    "start",
    [
        99,
        -1,
        "first",
        True,
        cfworld.Start(frames=np.zeros((6, 64, 64, 3), np.uint8), actions=np.zeros(6, np.int64)),
        cfworld.Start(frames=np.zeros((4, 32, 64, 3), np.uint8), actions=np.zeros(4, np.int64)),
        cfworld.Start(frames=np.zeros((4, 64, 64, 3), np.uint8), actions=np.full(4, 7)),
    ],
)
def test_starts_that_do_not_fit_are_refused(world: cfworld.World, start):
    with pytest.raises(StartError):
        world.initial(seeds=[0], starts=[start])


def test_frames_and_actions_of_a_start_must_agree():
    with pytest.raises(StartError, match="one action per frame"):
        cfworld.Start(frames=np.zeros((4, 64, 64, 3), np.uint8), actions=np.zeros(3, np.int64))
    with pytest.raises(StartError, match="uint8"):
        cfworld.Start(frames=np.zeros((4, 64, 64, 3), np.float32), actions=np.zeros(4, np.int64))


@pytest.mark.parametrize("actions", [[3], [-1], [0.5], [0, 1], [[0, 1]], [True], [None], "0"])
def test_wrong_actions_are_refused(world: cfworld.World, actions):
    state, _ = world.initial(seeds=[0])
    with pytest.raises(ActionError):
        world.step(state, actions)


def test_continuous_actions_pass_and_their_nans_do_not():
    world = toy_world(actions=ActionConfig(low=[-1.0, 0.0], high=[1.0, 2.0]))
    state, _ = world.initial(seeds=[0])
    _, out = world.step(state, np.array([[0.5, 1.0]], dtype=np.float32))
    assert out.latents.isfinite().all()
    with pytest.raises(ActionError):
        world.step(state, np.array([[float("nan"), 1.0]], dtype=np.float32))


def test_a_network_may_learn_from_what_a_world_gives_and_change_it(world: cfworld.World):
    state, frames = world.initial([0])
    network = torch.nn.Linear(state.latents[0].numel(), 1)
    after, out = world.step(state, [1])
    for latents in (state.latents, after.latents, out.latents):
        network(latents.flatten(1)).sum().backward()
    assert out.frames is not None
    for tensor in (frames, out.frames, out.latents, out.reward, out.reward_frames, out.hazard, world.frames(after)):
        tensor.zero_()


def test_states_and_starts_are_told_apart_without_an_error(world: cfworld.World):
    state = world.initial([0])[0]
    assert state == state != state.clone()
    assert len({state, state.clone()}) == 2
    assert world.start(1) == world.start(1) != world.start(0)
    assert world.start(1) in {world.start(0), world.start(1)}


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("index", ["a", 1.0, True, None])
def test_a_shipped_start_has_an_index(world: cfworld.World, index):
    with pytest.raises(StartError, match="a start is an index"):
        world.start(index)


def test_what_is_no_state_is_refused_and_so_is_a_state_of_nobody(world: cfworld.World):
    state = world.initial([0, 1])[0]
    with pytest.raises(StateError, match="got a int; expected a WorldState"):
        state.replace([0], 1)  # pyright: ignore[reportArgumentType]
    with pytest.raises(StateError, match="got a str; expected a WorldState"):
        cfworld.WorldState.cat([state, "b"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(StateError, match="states of one world can be joined; got those of none"):
        cfworld.WorldState.cat([])
    with pytest.raises(StateError, match="got a state without rows"):
        world.step(state.select(np.zeros(2, bool)), np.zeros(0, int))


def test_starts_may_be_given_as_an_array(world: cfworld.World):
    listed, given = (world.initial([0, 1], starts)[1] for starts in ([1, 0], np.array([1, 0])))
    assert torch.equal(listed, given)
