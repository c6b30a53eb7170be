"""Short futures of the dream: nobody dies in them, and what was to be feared is told."""

import numpy as np
import pytest
import torch

from cfworld import World
from cfworld.agents.futures import _STREAM, Futures, watch
from cfworld.agents.moments import draw_moments
from cfworld.envs.latents import flat_latents
from cfworld.world import Ends, Start
from tests.counting import counting_dataset, counting_episode
from tests.toy import toy_world


@pytest.fixture(scope="module")
def world() -> World:
    return toy_world()


@pytest.fixture(scope="module")
def starts(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[Start]:
    data = counting_dataset(tmp_path_factory.mktemp("data") / "episodes", counting_episode(60), counting_episode(40))
    return draw_moments(world, data, 8, seed=0)


def test_nothing_changes_while_nothing_is_explored_and_hazards_are_probabilities(
    world: World, starts: list[Start], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfworld.agents.futures._AT_FIRST", 0.0)
    found = watch(world, starts, 3, explore=0.0, seed=0)
    before = torch.tensor([start.actions[-1] for start in starts])
    assert found.last.equal(before[:, None].expand(8, 4))
    assert found.seen.shape == (8, 4, world.initial([0])[0].latents.numel())
    assert ((found.hazard > 0) & (found.hazard < 1)).all()


def test_what_is_seen_and_feared_is_what_the_dream_shows_and_tells(world: World, starts: list[Start]) -> None:
    found = watch(world, starts, 3, explore=0.5, seed=4)
    seeds = np.random.default_rng(np.random.SeedSequence((4, _STREAM))).integers(2**62, size=8).tolist()
    state, _ = world.with_ends(Ends.NEVER).initial(seeds, starts)
    for step in range(3):
        assert found.seen[:, step].equal(flat_latents(state.latents).half())
        state, out = world.with_ends(Ends.NEVER).step(state, found.done[:, step].numpy())
        assert found.hazard[:, step].tolist() == pytest.approx((1 - (1 - out.hazard).prod(dim=1)).tolist())
    assert found.seen[:, 3].equal(flat_latents(state.latents).half())


def test_nobody_dies(starts: list[Start]) -> None:
    world = toy_world()
    with torch.no_grad():
        world.generator.get_parameter("heads.hazard.out.bias").fill_(50.0)
    found = watch(world, starts, 3, explore=0.0, seed=0)
    assert (found.hazard > 0.99).all()
    assert not found.seen[:, 1].equal(found.seen[:, 3])


def test_changes_are_as_frequent_as_asked(world: World, starts: list[Start]) -> None:
    """Of the actions that are drawn, one in three is the one that was done before."""
    found = watch(world, starts * 4, 30, explore=0.3, seed=0)
    changed = (found.done[:, 1:] != found.done[:, :-1]).float().mean()
    assert 0.15 < changed < 0.25


def test_half_of_the_first_actions_are_drawn(world: World, starts: list[Start]) -> None:
    """Of those that are drawn, one in three is the one that was done before."""
    found = watch(world, starts * 32, 1, explore=0.0, seed=0)
    assert (found.done[:, 0] != found.last[:, 0]).float().mean().item() == pytest.approx(1 / 3, abs=0.08)


def test_what_is_watched_follows_from_the_seed(world: World, starts: list[Start]) -> None:
    first, again, other = (watch(world, starts, 4, 0.5, seed) for seed in (0, 0, 1))
    assert first.seen.equal(again.seen)
    assert first.done.equal(again.done)
    assert not first.done.equal(other.done)


def test_hazards_are_those_of_who_went_on_with_the_same() -> None:
    futures = Futures(
        seen=torch.zeros(2, 5, 1).half(),
        last=torch.tensor([[0, 1, 1, 2, 1], [0, 2, 2, 2, 2]]),
        hazard=torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.6, 0.7, 0.8]]),
    )
    again = futures.held(torch.tensor([0]), torch.tensor([0]), 4)[1]
    assert again.tolist() == [[True, True, False, False]], "who comes back to an action did not go on with it"
    hazard, known = futures.held(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 3, 0, 2]), 3)
    assert known.tolist() == [[True, True, False], [True, False, False], [True, True, True], [True, True, False]]
    assert hazard[known].tolist() == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.6, 0.7, 0.7, 0.8])
