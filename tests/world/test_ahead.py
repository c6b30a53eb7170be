"""Steps whose actions are known: decoded beside the generation of the next one."""

from collections.abc import Iterator

import pytest
import torch

from cfworld import World, WorldState
from cfworld.errors import ActionError, DonatedStateError
from cfworld.tokenizer.tiny_vae import TinyVAEConfig
from cfworld.world import StepOutput
from tests.toy import toy_world

TINY = TinyVAEConfig(resolution=[64, 64], z_dim=4, width=8, widths=[8, 8, 8, 8])
ACTIONS = [[0, 1], [1, 2], [2, 2], [1, 0]]


@pytest.fixture(scope="module", params=["whole", "streaming"])
def world(request: pytest.FixtureRequest) -> World:
    return toy_world() if request.param == "whole" else toy_world(tiny_vae=TINY)


def by_step(world: World, state: WorldState) -> Iterator[tuple[WorldState, StepOutput]]:
    for action in ACTIONS:
        state, out = world.step(state, action)
        yield state, out


def check_equal(world: World) -> None:
    played = list(world.play(world.initial([3, 4])[0], ACTIONS))  # nobody else keeps the first state
    state, _ = world.initial([3, 4])
    assert len(played) == len(ACTIONS)
    for (got, out), (expected, wanted) in zip(played, by_step(world, state), strict=True):
        assert out.frames is not None
        assert wanted.frames is not None
        assert torch.equal(out.frames, wanted.frames)
        assert torch.equal(out.end_frame, wanted.end_frame)
        tensors = expected.tensors()
        assert all(torch.equal(value, tensors[name]) for name, value in got.tensors().items())


def test_they_are_what_step_gives(world: World):
    check_equal(world)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_they_are_what_step_gives_on_a_stream_of_their_own():
    check_equal(toy_world(device="cuda"))
    check_equal(toy_world(device="cuda", tiny_vae=TINY))


def test_the_next_action_is_fetched_before_a_step_is_given():
    world = toy_world()
    fetched: list[int] = []

    def actions() -> Iterator[list[int]]:
        for action in range(3):
            fetched.append(action)
            yield [action]

    state, _ = world.initial([0])
    seen = [len(fetched) for _ in world.play(state, actions())]
    assert seen == [2, 3, 3]


def test_what_was_done_before_a_wrong_action_is_given_first():
    world = toy_world()
    state, _ = world.initial([0])
    steps = world.play(state, [[1], [2], [9]])
    assert [next(steps)[0].step.item(), next(steps)[0].step.item()] == [1, 2]
    with pytest.raises(ActionError):
        next(steps)


def test_what_was_done_before_a_chunk_that_cannot_be_decoded_is_given_first(monkeypatch: pytest.MonkeyPatch):
    world = toy_world()
    state, _ = world.initial([0])
    decode, calls = world.tokenizer.decode, []

    def second_fails(latents: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError
        return decode(latents)

    monkeypatch.setattr(world.tokenizer, "decode", second_fails)
    steps = world.play(state, [[1], [2]])
    assert next(steps)[0].step.item() == 1
    with pytest.raises(MemoryError):
        next(steps)


def test_no_actions_are_no_steps_and_a_state_that_is_gone_is_refused():
    world = toy_world()
    state, _ = world.initial([0])
    assert list(world.play(state, [])) == []
    world.step(state, [0], donate=True)
    with pytest.raises(DonatedStateError):
        next(world.play(state, [[0]]))
