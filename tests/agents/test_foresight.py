"""An agent learns what actions cost from short futures of the dream, and does what is cheapest."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cfworld import World
from cfworld.agents import Agent
from cfworld.agents.config import AgentTrainConfig, Algorithm, ForesightConfig, Place
from cfworld.agents.foresight import Costs, cheapest, foresee, learn_costs, teach, watch_part
from cfworld.agents.futures import _STREAM, Futures, watch
from cfworld.agents.moments import draw_moments
from cfworld.agents.policy import build_policy
from cfworld.agents.sight import flat
from cfworld.agents.train import train_agent
from cfworld.data import EpisodeStore
from cfworld.errors import CheckpointError, ConfigError
from cfworld.world import Ends, Start
from tests.agents.test_train import settings
from tests.counting import counting_dataset, counting_episode
from tests.toy import toy_world

NO_NOISE = torch.zeros(5)
"""On two latent numbers and three actions."""


@pytest.fixture(scope="module")
def world() -> World:
    return toy_world()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(
        counting_dataset(tmp_path_factory.mktemp("data") / "episodes", counting_episode(60), counting_episode(40))
    )


@pytest.fixture(scope="module")
def starts(world: World, data: str) -> list[Start]:
    return draw_moments(world, data, 8, seed=0)


def far_sighted(data: str, how: ForesightConfig | None = None, **changes: Any) -> AgentTrainConfig:
    how = how or ForesightConfig(steps=12, updates=3, horizon=12)
    return settings(own_actions=True, starts=data, foresight=how, **({"total_steps": 20} | changes))


def futures(done: Tensor, hazard: Tensor) -> Futures:
    """Two numbers are seen, always zero; before the first step action 0 was done."""
    rows, steps = done.shape
    return Futures(
        seen=torch.zeros(rows, steps + 1, 2, dtype=torch.float16),
        last=torch.cat([torch.zeros(rows, 1, dtype=torch.long), done], dim=1),
        hazard=hazard,
    )


def fitted(hazard: list[float], how: ForesightConfig) -> list[float]:
    """Costs of three actions, each of which is taken from action 0 and kept."""
    torch.manual_seed(0)
    costs = Costs(nn.Sequential(nn.Linear(5, 32), nn.ReLU()), 32, 32, 3)
    watched = futures(torch.arange(3)[:, None].repeat(1, 2), torch.tensor(hazard)[:, None].repeat(1, 2))
    learn_costs(costs, watched, how, NO_NOISE, 32, seed=0)
    return costs(torch.tensor([[0.0, 0, 1, 0, 0]]))[0].tolist()


def test_the_last_action_is_kept_unless_another_is_cheaper_by_more_than_the_margin() -> None:
    costs = torch.tensor([[0.9, 0.25, 0.20]]).expand(4, 3)
    last = torch.tensor([1, 2, 0, -1])
    assert cheapest(costs, last, margin=0.06).tolist() == [1, 2, 2, 2]
    assert cheapest(costs, last, margin=0.04).tolist() == [2, 2, 2, 2]


def test_the_cost_of_an_action_is_the_discounted_probability_of_dying_if_one_goes_on_with_it() -> None:
    how = ForesightConfig(updates=1200, explore=0.0, gamma=0.5)
    found = fitted([0.2, 0.1, 0.0], how)
    assert found == pytest.approx([0.2 / (1 - 0.8 * 0.5), 0.1 / (1 - 0.9 * 0.5), 0.0], abs=0.01)


def test_changing_to_the_cheapest_is_reckoned_with() -> None:
    how = ForesightConfig(updates=1200, explore=0.5, gamma=0.5)
    found = fitted([0.2, 0.0, 0.0], how)
    assert found == pytest.approx([0.2 / (1 - 0.8 * 0.25), 0.0, 0.0], abs=0.01)


def test_what_comes_later_costs_less() -> None:
    """Two moments look different; only the step after the second is dangerous."""
    torch.manual_seed(0)
    costs = Costs(nn.Sequential(nn.Linear(5, 32), nn.ReLU()), 32, 32, 3)
    moments = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float16)
    watched = Futures(seen=moments[None], last=torch.zeros(1, 3, dtype=torch.long), hazard=torch.tensor([[0.0, 0.5]]))
    learn_costs(costs, watched, ForesightConfig(updates=1200, explore=0.0, gamma=0.5), NO_NOISE, 32, seed=0)
    shown = torch.cat([moments[:2].float(), torch.tensor([[1.0, 0, 0]]).repeat(2, 1)], dim=1)
    later = costs(torch.tensor([[0.0, 0, 1, 0, 0]]))[0, 0].item()
    second = 0.5 + 0.5 * 0.5 * later
    assert costs(shown)[:, 0].tolist() == pytest.approx([0.5 * second, second], abs=0.02)


def test_an_agent_is_taught_what_is_cheapest_whatever_it_did_before(world: World) -> None:
    policy = build_policy(settings(own_actions=True, features=16, hidden=16), world)
    assert policy.observation_space.shape is not None
    numbers = policy.observation_space.shape[0]
    costs = Costs(nn.Linear(numbers, 4), 4, 4, 3)
    last = costs.head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([9.0, 2.5, 2.0]))
    watched = Futures(
        seen=torch.zeros(2, 31, numbers - 3).half(),
        last=torch.zeros(2, 31, dtype=torch.long),
        hazard=torch.zeros(2, 30),
    )
    how = ForesightConfig(updates=500, margin=0.1)
    assert teach(policy, costs, watched, how, torch.zeros(numbers), 64, seed=0) > 0.99
    own = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]])
    shown = torch.cat([watched.seen[0, :4].float(), own], dim=1)
    assert policy.predict(shown.numpy(), deterministic=True)[0].tolist() == [1, 2, 2, 2]
    hidden = torch.zeros(numbers)
    hidden[-3:] = 50.0
    assert teach(policy, costs, watched, how, hidden, 64, seed=0) < 0.95, "noise hides what was done"


def test_nothing_changes_while_nothing_is_explored_and_hazards_are_probabilities(
    world: World, starts: list[Start], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfworld.agents.futures._AT_FIRST", 0.0)
    found = watch(world, starts, 3, explore=0.0, seed=0)
    before = torch.tensor([start.actions[-1] for start in starts])
    assert found.last.equal(before[:, None].expand(8, 4))


def test_what_is_seen_and_feared_is_what_the_dream_shows_and_tells(world: World, starts: list[Start]) -> None:
    found = watch(world, starts, 3, explore=0.5, seed=4)
    seeds = np.random.default_rng(np.random.SeedSequence((4, _STREAM))).integers(2**62, size=8).tolist()
    state, _ = world.with_ends(Ends.NEVER).initial(seeds, starts)
    for step in range(3):
        assert found.seen[:, step].equal(torch.as_tensor(flat(state.latents)).half())
        state, out = world.with_ends(Ends.NEVER).step(state, found.done[:, step].numpy())
        assert found.hazard[:, step].tolist() == pytest.approx((1 - (1 - out.hazard).prod(dim=1)).tolist())
    assert found.seen[:, 3].equal(torch.as_tensor(flat(state.latents)).half())


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


def test_what_is_watched_follows_from_the_seed(world: World, starts: list[Start]) -> None:
    first, again, other = (watch(world, starts, 4, 0.5, seed) for seed in (0, 0, 1))
    assert first.seen.equal(again.seen)
    assert first.done.equal(again.done)
    assert not first.done.equal(other.done)


def test_every_part_shows_other_moments(world: World, data: str) -> None:
    config, store = far_sighted(data), EpisodeStore.open(data)
    parts = [watch_part(config, world, store, number).seen[:, 0] for number in (0, 1, 0)]
    assert parts[0].equal(parts[2])
    assert not parts[0].equal(parts[1])


def test_what_was_watched_is_not_watched_again(world: World, data: str, tmp_path: Path) -> None:
    config = far_sighted(data)
    told: list[int] = []
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        policy = build_policy(config, world)
        assert foresee(config, world, policy, tmp_path, told.append).steps == 12
        weights.append([weight.tolist() for weight in policy.parameters()])
        first, second = sorted(tmp_path.glob("*/*.pt"))
        kept = first.stat().st_mtime_ns
        second.unlink()
    assert first.stat().st_mtime_ns == kept
    assert told == [6, 6, 6, 6], "2 episodes of 3 steps"
    assert weights[0] == weights[1]


def test_what_was_watched_under_other_settings_is_not_taken_for_it(world: World, data: str, tmp_path: Path) -> None:
    config = far_sighted(data)
    for changed in (config, replace(config, seed=1), replace(config, foresight=replace(config.foresight, explore=0.2))):
        foresee(changed, world, build_policy(changed, world), tmp_path)
    assert len(list(tmp_path.glob("*/*.pt"))) == 3 * 2


def test_noise_lies_on_latents_and_not_on_what_was_done(
    world: World, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spreads: list[Tensor] = []
    monkeypatch.setattr("cfworld.agents.foresight.learn_costs", lambda *given: spreads.append(given[3]))
    config = far_sighted(data, obs_noise=0.5)
    foresee(config, world, build_policy(config, world), tmp_path)
    assert spreads[0][-3:].tolist() == [0, 0, 0]
    assert (spreads[0][:-3] == 0.5).all()


def test_a_damaged_part_is_named(world: World, data: str, tmp_path: Path) -> None:
    config = far_sighted(data)
    foresee(config, world, build_policy(config, world), tmp_path)
    damaged = min(tmp_path.glob("*/*.pt"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=f"{damaged.name} is damaged .*delete it"):
        foresee(config, world, build_policy(config, world), tmp_path)


def test_the_steps_that_are_watched_count_and_are_judged(world: World, data: str, tmp_path: Path) -> None:
    assert train_agent(far_sighted(data, max_minutes=1e-9), world, tmp_path).steps == 12
    progress = train_agent(far_sighted(data), world, tmp_path)
    assert [point.steps for point in progress.curve] == [12, 20]
    assert Agent.load(tmp_path / "last", world).card.steps == 20


def test_foresight_alone_is_enough(world: World, data: str, tmp_path: Path) -> None:
    progress = train_agent(far_sighted(data, total_steps=12), world, tmp_path)
    assert [point.steps for point in progress.curve] == [12]
    assert Agent.load(tmp_path / "best", world).card.steps == 12


def test_foresight_that_makes_no_sense_is_refused(data: str) -> None:
    good = far_sighted(data)
    for wrong in (
        {"own_actions": False},
        {"starts": None},
        {"env": Place.twin},
        {"blind": True},
        {"stack": 2},
        {"imitate": "sweep:6", "imitate_steps": 8},
        {"algorithm": Algorithm.recurrent_ppo},
        {"total_steps": 11},
    ):
        with pytest.raises(ConfigError, match="expected"):
            replace(good, **wrong)
    bad: list[dict[str, Any]] = [{"steps": -1}, {"horizon": 0}, {"updates": 0}]
    bad += [{"explore": 1.0}, {"gamma": 1.0}, {"margin": float("nan")}]
    for wrong in bad:
        with pytest.raises(ConfigError, match="got foresight"):
            ForesightConfig(**wrong)
