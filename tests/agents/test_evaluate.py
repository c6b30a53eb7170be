"""Scores in dream and reality: what is played, counted and paired."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cfworld import World
from cfworld.agents.evaluate import dream_scores, twin_scores
from cfworld.agents.planner import Method, PlannerConfig
from cfworld.agents.players import make_player
from cfworld.agents.sight import Seen
from cfworld.agents.twin_job import TwinJob, scores_of_jobs
from cfworld.data.policies import sweep_of
from cfworld.envs import WorldVectorEnv
from cfworld.envs.spaces import world_action_space
from cfworld.envs.twins import make_twin
from cfworld.errors import ConfigError
from tests.toy import DISCRETE, toy_world

SEEDS = [3, 4, 5, 6]


@pytest.fixture(scope="module")
def world() -> World:
    return toy_world()


class Constant:
    """Takes action 1, and remembers which seeds it played and how many rows it was shown."""

    looks = False

    def __init__(self) -> None:
        self.seeds: list[int] = []
        self.rows: list[int] = []

    def begin(self, seeds: Sequence[int]) -> None:
        self.seeds += seeds
        self._count = len(seeds)

    def act(self, seen: Seen) -> np.ndarray:
        self.rows.append(self._count)
        assert seen.state is None or seen.state.num_rows == self._count
        return np.ones(self._count, np.int64)

    def keep(self, rows: np.ndarray) -> None:
        self._count = len(rows)


def test_episodes_in_the_dream_are_those_of_the_environment_with_the_same_seeds(world: World) -> None:
    player = Constant()
    scores = dream_scores(world, player, SEEDS, max_ticks=38, rows=3)
    assert player.seeds == SEEDS
    assert player.rows[0] == 3
    env = WorldVectorEnv(1, world, obs="latent", horizon=10)
    for place, seed in enumerate(SEEDS):
        env.reset(seed=[seed])
        total, ticks, over = 0.0, 0, False
        while not over:
            _, reward, terminated, truncated, infos = env.step([1])
            final = infos.get("final_info", infos)
            total += reward[0]
            ticks += min(int(final["end_frame"][0]) + 1, 4)
            over = bool(terminated[0] | truncated[0])
        assert scores.returns[place] == pytest.approx(total, abs=1e-4)
        assert scores.ticks[place] == ticks
        assert scores.ended[place] == terminated[0]
    assert scores.ended.any()


def test_episodes_in_the_twin_are_those_of_their_seeds(world: World) -> None:
    twin = make_twin(world.config.source, 10)
    scores = twin_scores(twin, Constant(), SEEDS)
    assert scores.ticks.tolist() == [10] * 4
    assert not scores.ended.any()
    again = scores_of_jobs(_job(world, "sweep:1000"), SEEDS, workers=1)
    assert again.returns.tolist() == scores.returns.tolist()  # that sweep begins with action 1


@pytest.mark.slow
def test_the_scores_do_not_depend_on_the_number_of_processes(world: World, tmp_path: Path) -> None:
    world.save_pretrained(tmp_path)
    alone = scores_of_jobs(_job(world, "random"), SEEDS, workers=1)
    together = scores_of_jobs(_job(str(tmp_path), "random"), SEEDS, workers=2)
    assert together.returns.tolist() == alone.returns.tolist()


def test_a_sweep_of_a_period_goes_one_way_for_so_many_ticks_and_then_the_other() -> None:
    policy = sweep_of(6, world_action_space(DISCRETE))
    nothing = np.zeros((0, 1, 1, 3), np.uint8)
    assert np.concatenate([policy(nothing, 4) for _ in range(4)]).tolist() == [1] * 6 + [2] * 6 + [1] * 4


@pytest.mark.parametrize("name", ["sweep:", "sweep:0", "sweep:fast", "nobody", "scripted:nowhere"])
def test_nobody_of_an_unknown_name_plays(world: World, name: str) -> None:
    with pytest.raises(ConfigError, match=r"sweep:110|unknown|cannot be read"):
        make_player(name, world)


def test_whoever_asks_for_nobody_is_told_who_there_is(world: World) -> None:
    expected = r"'runs/bset' is unknown; expected one of .*noop.*sweep:<ticks>.*planner.*agent-train.*agent:<world>"
    with pytest.raises(ConfigError, match=expected):
        make_player("runs/bset", world)


def test_a_world_that_goes_by_name_is_read_where_it_shall_compute(world: World, tmp_path: Path) -> None:
    world.save_pretrained(tmp_path)
    job = _job(str(tmp_path), "noop")
    job.device = "nowhere"
    with pytest.raises(ConfigError, match="got device='nowhere'"):
        job(3, lambda _: None)


@pytest.mark.parametrize("method", Method)
def test_the_planner_takes_the_actions_after_which_most_is_lived_to_see(
    world: World, method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rewards and hazards of the world are put aside for ones that follow from the action: only 2 is safe."""
    config = PlannerConfig(method=method, candidates=12, elites=3, iterations=2, depth=2, hold=1, every=1)
    player = make_player("planner", world, config)
    step = World.step

    def by_action(self: World, state: Any, actions: Any, **kwargs: Any):
        following, out = step(self, state, actions, **kwargs)
        safe = torch.as_tensor(np.asarray(actions) == 2)[:, None].expand_as(out.hazard)
        hazard = torch.where(safe, 0.0, 0.5)
        return following, dataclasses.replace(out, hazard=hazard, reward_frames=torch.ones_like(hazard))

    monkeypatch.setattr(World, "step", by_action)
    state, frames = world.initial([0, 1])
    player.begin([0, 1])
    for _ in range(2):
        assert player.act(Seen(latents=state.latents, state=state)).tolist() == [2, 2]
    player.keep(np.array([1]))
    assert player.act(Seen(latents=state.latents[1:], state=state.select([1]))).tolist() == [2]
    player.begin([5])  # in a simulator it goes by frames
    for _ in range(3):
        assert player.act(Seen(frames=frames[:1].numpy())).tolist() == [2]


def test_a_planner_that_cannot_plan_is_refused() -> None:
    cases: list[dict[str, Any]] = [{"candidates": 0}, {"elites": 30}, {"every": 100}, {"max_rows": 2}]
    for wrong in cases:
        with pytest.raises(ConfigError, match="planner"):
            PlannerConfig(**wrong)


def _job(world: World | str, player: str) -> TwinJob:
    return TwinJob(world=world, player=player, planner=PlannerConfig(), max_ticks=10)
