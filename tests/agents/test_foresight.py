"""An agent learns from short futures of the dream what actions cost, and does what costs least."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cfworld import World
from cfworld.agents import Agent
from cfworld.agents.config import AgentTrainConfig, Algorithm, ForesightConfig, Place
from cfworld.agents.costs import Costs
from cfworld.agents.foresight import Lesson, foresee
from cfworld.agents.futures import Futures
from cfworld.agents.policy import build_policy
from cfworld.agents.train import train_agent
from cfworld.errors import ConfigError
from tests.agents.test_train import settings
from tests.counting import counting_dataset, counting_episode
from tests.toy import toy_world


@pytest.fixture(scope="module")
def world() -> World:
    return toy_world()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(
        counting_dataset(tmp_path_factory.mktemp("data") / "episodes", counting_episode(60), counting_episode(40))
    )


def far_sighted(data: str, how: ForesightConfig | None = None, **changes: Any) -> AgentTrainConfig:
    how = how or ForesightConfig(steps=12, updates=3, horizon=12)
    return settings(own_actions=True, starts=data, foresight=how, **({"total_steps": 20} | changes))


def fixed_costs(world: World, config: AgentTrainConfig, told: list[float]) -> Costs:
    """Costs that see as a policy does, and are the same whatever they see."""
    features = build_policy(config, world).features_extractor
    costs = Costs(features, config.features, 4, num_actions=3, num_steps=1)
    last = costs.head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor(told).logit())
    return costs


def never_seen(rows: int, steps: int, numbers: int) -> Futures:
    """Everything looks the same; every action is done as often, and nothing is dangerous."""
    done = torch.arange(3).repeat(rows)[:rows, None].expand(rows, steps + 1)
    return Futures(seen=torch.zeros(rows, steps + 1, numbers).half(), last=done, hazard=torch.zeros(rows, steps))


def test_an_agent_is_taught_to_go_on_unless_something_else_is_cheaper_by_a_margin(world: World) -> None:
    config = settings(own_actions=True, features=16, hidden=16, batch_size=64, foresight=ForesightConfig())
    config.foresight.updates, config.foresight.margin = 300, 0.1
    policy = build_policy(config, world)
    assert policy.observation_space.shape is not None
    numbers = policy.observation_space.shape[0] - 3
    lesson = Lesson(config, never_seen(6, 30, numbers), 3)
    assert lesson.teach(policy, fixed_costs(world, config, [0.9, 0.25, 0.20])) > 0.99
    own = torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 0]])
    shown = torch.cat([torch.zeros(4, numbers), own], dim=1)
    assert policy.predict(shown.numpy(), deterministic=True)[0].tolist() == [1, 2, 2, 2]


def test_a_policy_sees_with_the_eyes_of_the_costs(world: World) -> None:
    config = settings(own_actions=True, features=16, hidden=16, foresight=ForesightConfig(updates=1))
    torch.manual_seed(0)
    policy, costs = build_policy(config, world), fixed_costs(world, config, [0.5, 0.5, 0.5])
    assert policy.observation_space.shape is not None
    Lesson(config, never_seen(3, 2, policy.observation_space.shape[0] - 3), 3).teach(policy, costs)
    for mine, theirs in zip(policy.features_extractor.parameters(), costs.features.parameters(), strict=True):
        assert (mine - theirs).abs().max() < 0.0021, "one step of Adam away"


def test_the_policy_sees_under_noise_and_the_costs_that_teach_it_without(world: World) -> None:
    config = settings(own_actions=True, features=16, hidden=16, obs_noise=0.5, foresight=ForesightConfig(updates=1))
    policy, costs = build_policy(config, world), fixed_costs(world, config, [0.5, 0.5, 0.5])
    assert policy.observation_space.shape is not None
    shown: dict[nn.Module, torch.Tensor] = {}
    for network in (costs, policy.features_extractor):
        network.register_forward_pre_hook(lambda module, given: shown.__setitem__(module, given[0]))
    Lesson(config, never_seen(3, 2, policy.observation_space.shape[0] - 3), 3).teach(policy, costs)
    clean, noisy = shown[costs], shown[policy.features_extractor]
    assert not clean[:, :-3].any()
    assert noisy[:, :-3].std().item() == pytest.approx(0.5, rel=0.05)
    assert noisy[:, -3:].equal(clean[:, -3:])


def test_costs_are_learned_that_differ_by_what_is_seen_and_done(world: World) -> None:
    """Where the first latent number is one, going right is dangerous, else left."""
    config = settings(own_actions=True, obs_noise=0.1, batch_size=64, foresight=ForesightConfig(updates=600))
    done = torch.tensor([[1, 1, 1], [2, 2, 2], [1, 1, 1], [2, 2, 2]])
    seen = torch.zeros(4, 3, 2)
    seen[:2, :, 0] = 1
    futures = Futures(
        seen=seen.half(), last=done, hazard=torch.tensor([[0.4, 0.4], [0.01, 0.01], [0.01, 0.01], [0.4, 0.4]])
    )
    torch.manual_seed(0)
    costs = Costs(nn.Sequential(nn.Linear(5, 32), nn.ReLU()), 32, 32, num_actions=3, num_steps=2)
    Lesson(config, futures, 3).learn(costs)
    shown = torch.tensor([[1.0, 0, 0, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]])
    found = costs(shown)
    assert found[0, 1].item() == pytest.approx(0.64, abs=0.05)
    assert found[1, 1].item() == pytest.approx(0.02, abs=0.02)
    assert found[2, 2] > found[2, 1], "also where nothing was done before"


def test_first_moments_are_drawn_as_often_as_asked() -> None:
    futures = never_seen(5, 10, 2)
    for share, expected in ((1.0, 1.0), (0.7, 0.73), (0.0, 0.1)):
        config = settings(own_actions=True, batch_size=4000, foresight=ForesightConfig(at_start=share))
        row, time = Lesson(config, futures, 3)._drawn()
        assert (time == 0).float().mean().item() == pytest.approx(expected, abs=0.03)
        assert set(row.tolist()) == set(range(5))
        assert int(time.max()) <= 9


def test_noise_lies_on_latents_and_not_on_what_was_done() -> None:
    config = settings(own_actions=True, obs_noise=0.5, foresight=ForesightConfig())
    lesson = Lesson(config, never_seen(3, 2, 400), 3)
    seen = lesson._seen(torch.zeros(64, 400).half(), torch.ones(64, dtype=torch.long))
    assert seen[:, :-3].std().item() == pytest.approx(0.5, rel=0.05)
    own = seen[:, -3:].tolist()
    assert all(row in ([0, 1, 0], [0, 0, 0]) for row in own)
    assert 0 < own.count([0, 0, 0]) < 20, "sometimes nothing was done before"


def test_a_lesson_follows_from_the_seed_and_what_was_watched(world: World, data: str, tmp_path: Path) -> None:
    config = far_sighted(data)
    weights = []
    for _ in range(2):
        torch.manual_seed(0)
        policy = build_policy(config, world)
        assert foresee(config, world, policy, tmp_path).steps == 12
        weights.append([weight.tolist() for weight in policy.parameters()])
    assert weights[0] == weights[1]


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
    bad += [{"explore": 1.0}, {"at_start": 1.1}, {"margin": float("nan")}]
    for wrong in bad:
        with pytest.raises(ConfigError, match="got foresight"):
            ForesightConfig(**wrong)


def test_settings_of_foresight_without_foresight_are_warned_of(world: World, tmp_path: Path) -> None:
    assert ForesightConfig(steps=12, updates=3, margin=0.1).ignored() == []
    assert ForesightConfig().ignored() == []
    config = settings(eval_every=0, total_steps=8, foresight=ForesightConfig(updates=3, margin=0.1))
    with pytest.warns(UserWarning, match=r"foresight\.updates=3, foresight\.margin=0\.1 does nothing"):
        train_agent(config, world, tmp_path)
