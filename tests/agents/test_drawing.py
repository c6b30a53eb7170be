"""Actions are drawn by each episode's own seed, whoever plays beside it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal

from cfworld.agents import Agent, PlannerConfig
from cfworld.agents.config import Algorithm
from cfworld.agents.drawing import draw
from cfworld.agents.evaluate import dream_scores
from cfworld.agents.sight import Seen
from cfworld.agents.train import train_agent
from cfworld.cli.agent_scores import who
from tests.agents.test_train import settings
from tests.toy import BOX, DISCRETE, MULTI, toy_world

KINDS = {
    "discrete": (DISCRETE, Algorithm.ppo),
    "multi": (MULTI, Algorithm.ppo),
    "box": (BOX, Algorithm.ppo),
    "recurrent": (DISCRETE, Algorithm.recurrent_ppo),
    "recurrent box": (BOX, Algorithm.recurrent_ppo),
}


def agent_of(kind: str, folder: Path, **changes: Any) -> Agent:
    actions, algorithm = KINDS[kind]
    world = toy_world(actions=actions)
    train_agent(settings(eval_every=0, total_steps=8, algorithm=algorithm, **changes), world, folder)
    return Agent.load(folder / "last", world)


def acts(agent: Agent, seeds: list[int], keep: list[int] | None = None) -> np.ndarray:
    """Eight steps of three episodes, in which everybody sees something else; from the fourth on of those in `keep`."""
    latents = torch.randn(8, 3, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    rows = np.arange(3)
    agent.begin(seeds)
    acted = []
    for step, seen in enumerate(latents):
        if step == 3 and keep is not None:
            rows = np.array(keep)
            agent.keep(rows)
        acted.append(agent.act(Seen(latents=seen[rows]))[: len(rows)])
    return np.stack([step if len(step) < 3 else step[keep or rows] for step in acted])


def rngs(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(count)]


def test_a_choice_is_the_first_at_which_the_summed_shares_exceed_a_uniform_number() -> None:
    shares = torch.tensor([0.0, 0.2, 0.3, 0.5, 0.0])
    drawn = draw(Categorical(shares.expand(2000, 5)), rngs(2000))
    uniform = np.array([rng.random() for rng in rngs(2000)])
    assert drawn.tolist() == np.searchsorted([0, 0.2, 0.5, 1], uniform, side="right").tolist()
    assert np.bincount(drawn, minlength=5) / 2000 == pytest.approx(shares.numpy(), abs=0.03)


def test_several_choices_are_drawn_one_by_one_and_numbers_around_their_mean() -> None:
    halves, certain = torch.full((2000, 2), 0.5), torch.tensor([[0.0, 0.0, 1.0]]).expand(2000, 3)
    first, second, third = draw([Categorical(halves), Categorical(certain), Categorical(halves)], rngs(2000)).T
    assert (second == 2).all()
    uniform = np.stack([rng.random(3) for rng in rngs(2000)])
    assert np.array_equal(np.stack([first, third], axis=1), uniform[:, [0, 2]] >= 0.5)
    numbers = draw(Normal(torch.tensor([[1.0, -2.0]]).expand(2000, 2), torch.tensor([0.1, 3.0])), rngs(2000))
    assert numbers.mean(axis=0) == pytest.approx([1, -2], abs=0.2)
    assert numbers.std(axis=0) == pytest.approx([0.1, 3], rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_an_episode_draws_what_it_would_draw_alone(kind: str, tmp_path: Path) -> None:
    agent = agent_of(kind, tmp_path)
    everybody = acts(agent, [7, 8, 9])
    assert np.array_equal(acts(agent, [7, 8, 9]), everybody)
    others = acts(agent, [6, 8, 9])
    assert np.array_equal(others[:, 1:], everybody[:, 1:])
    assert not np.array_equal(others[:, 0], everybody[:, 0])
    assert acts(agent, [7, 8, 9], keep=[1, 2]) == pytest.approx(everybody[:, 1:], abs=1e-4), "when the first has ended"


@pytest.mark.parametrize("algorithm", ["discrete", "recurrent"])
def test_scores_do_not_depend_on_how_many_play_side_by_side(algorithm: str, tmp_path: Path) -> None:
    agent = agent_of(algorithm, tmp_path)
    world = toy_world()
    found = [dream_scores(world, agent, range(6), max_ticks=38, rows=rows) for rows in (1, 3, 6)]
    assert found[0].ticks.tolist() == found[1].ticks.tolist() == found[2].ticks.tolist()
    assert found[0].returns == pytest.approx(found[1].returns)
    assert found[0].returns == pytest.approx(found[2].returns)
    assert found[0].ended.sum() > 0


@pytest.mark.parametrize("kind", ["box", "recurrent box"])
def test_numbers_beyond_the_bounds_are_clipped(kind: str, tmp_path: Path) -> None:
    agent = agent_of(kind, tmp_path)
    agent.policy.log_std.data.fill_(1.0)  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    acted = acts(agent, [7, 8, 9])
    assert acted.shape == (8, 3, 2)
    assert acted.min(axis=(0, 1)).tolist() == [-1, 0]
    assert acted.max(axis=(0, 1)).tolist() == [1, 2]


def test_drawing_neither_sets_nor_reads_the_seed_of_the_process(tmp_path: Path) -> None:
    agent = agent_of("discrete", tmp_path)
    torch.manual_seed(3)
    before, first = torch.get_rng_state(), acts(agent, [7, 8, 9])
    assert torch.get_rng_state().equal(before)
    torch.manual_seed(4)
    assert np.array_equal(acts(agent, [7, 8, 9]), first)


def test_the_likeliest_action_is_the_same_for_every_seed(tmp_path: Path) -> None:
    agent = agent_of("discrete", tmp_path, deterministic=True)
    assert np.array_equal(acts(agent, [7, 8, 9]), acts(agent, [1, 2, 3]))


def test_kept_scores_of_another_drawing_are_not_taken_for_these(tmp_path: Path) -> None:
    """Who takes the likeliest action draws none, so that its scores stay."""
    agent = agent_of("discrete", tmp_path)
    assert who(str(tmp_path / "last"), PlannerConfig())["drawing"] == 2
    replace(agent.card, deterministic=True).write(tmp_path / "last")
    assert "drawing" not in who(str(tmp_path / "last"), PlannerConfig())
