"""How an agent's training begins: at moments of recorded episodes, and by doing as a policy does."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tqdm import tqdm

from cfworld import World
from cfworld.agents import Agent, course, imitation
from cfworld.agents.config import AgentTrainConfig, Algorithm, Place
from cfworld.agents.imitation import imitate, returns_of
from cfworld.agents.learner import make_learner
from cfworld.agents.moments import draw_moments
from cfworld.agents.train import train_agent
from cfworld.agents.vec_envs import training_env
from cfworld.errors import ConfigError, DatasetError, TrainingError
from tests.agents.test_train import settings
from tests.counting import counting_dataset, counting_episode
from tests.toy import toy_world


@pytest.fixture(scope="module")
def world() -> World:
    return toy_world()


def dataset(folder: Path, *lengths: int) -> Path:
    return counting_dataset(folder, *map(counting_episode, lengths))


def test_every_moment_after_the_prefix_and_before_the_end_is_drawn_and_no_other(world: World, tmp_path: Path) -> None:
    drawn = draw_moments(world, dataset(tmp_path / "data", 12, 5, 10), 200, seed=0)
    assert {(start.frames[0, 0, 0, 0].item(), len(start.frames)) for start in drawn} == {(t, 8) for t in (1, 2, 3, 4)}
    moments = {start.name.rsplit("#")[1] for start in drawn}
    assert moments == {"0@0..8", "0@1..9", "0@2..10", "0@3..11", "2@0..8", "2@1..9"}


def test_moments_follow_from_the_seed(world: World, tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", 40)
    names = [[start.name for start in draw_moments(world, folder, 6, seed)] for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]


def test_datasets_without_a_moment_are_refused(world: World, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="longer than a start, 8 ticks"):
        draw_moments(world, dataset(tmp_path / "data", 8, 5), 6, seed=0)
    with pytest.raises(DatasetError):
        draw_moments(world, tmp_path / "none", 6, seed=0)


def test_episodes_of_the_dream_begin_there(world: World, tmp_path: Path) -> None:
    folder = dataset(tmp_path / "data", 40)
    env = training_env(settings(starts=str(folder), num_starts=3), world)
    env.reset()
    assert all("#0@" in info["start"] for info in env.reset_infos)
    env.close()


def test_returns_are_discounted_up_to_the_end_and_go_on_with_what_lies_ahead() -> None:
    rewards = torch.tensor([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    dones = torch.tensor([[False, False], [True, False], [False, False]])
    returns = returns_of(rewards, dones, torch.tensor([8.0, 8.0]), gamma=0.5)
    assert returns.tolist() == [[2.0, 4.0], [2.0, 6.0], [8.0, 8.0]]


def test_a_learner_comes_to_do_what_it_watched(world: World, tmp_path: Path) -> None:
    """The policy of `noop` needs no eyes, so that it can be learned whole."""
    learner = make_learner(settings(features=16, hidden=16), world, tmp_path, 0, lambda _: 1e-2)
    told: list[int] = []
    agreement = imitate(learner, "noop", 4, num_steps=40, epochs=20, seed=0, tell=told.append)
    assert agreement == 1
    assert sum(told) == 40
    assert learner.env is not None
    seen = learner.env.reset()
    assert isinstance(seen, np.ndarray)
    assert learner.predict(seen, deterministic=True)[0].tolist() == [0, 0]
    learner.env.close()


def test_what_is_watched_is_clean_and_what_is_learned_from_is_not(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(obs_noise=3.0, own_actions=True, features=16, hidden=16)
    learner = make_learner(config, world, tmp_path, 0, lambda _: 1e-2)
    given: list[Any] = []
    evaluate = learner.policy.evaluate_actions
    monkeypatch.setattr(learner.policy, "evaluate_actions", lambda *batch: given.append(batch[0]) or evaluate(*batch))
    imitate(learner, "noop", 4, num_steps=4, epochs=2, seed=0)
    first, second = (seen[seen[:, -3].argsort(stable=True)] for seen in given)
    assert not torch.equal(first[:, :-3], second[:, :-3])
    assert set(first[:, -3:].unique().tolist()) == {0.0, 1.0}
    assert first[:, :-3].std() > 2.5
    assert learner.env is not None
    assert np.asarray(learner.env.reset())[:, :-3].std() > 2.5, "it goes on under noise"
    learner.env.close()


def test_steps_that_are_watched_count_and_are_judged(world: World, tmp_path: Path) -> None:
    progress = train_agent(settings(imitate="sweep:6", imitate_steps=8), world, tmp_path)
    assert [point.steps for point in progress.curve] == [8, 16]
    assert progress.steps == Agent.load(tmp_path / "last", world).card.steps == 16


def test_steps_that_are_watched_count_where_no_bar_is_shown(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As TQDM_DISABLE=1 has it."""

    class Hidden(tqdm):
        def __init__(self, **given: Any):
            super().__init__(**given, disable=True)

    monkeypatch.setattr(course, "tqdm", Hidden)
    progress = train_agent(settings(imitate="sweep:6", imitate_steps=8), world, tmp_path)
    assert [point.steps for point in progress.curve] == [8, 16]


def test_imitation_that_takes_all_steps_is_judged_and_kept(world: World, tmp_path: Path) -> None:
    shown: list[int] = []
    config = settings(imitate="sweep:6", imitate_steps=15, num_envs=4)
    progress = train_agent(config, world, tmp_path, lambda now: shown.append(now.steps))
    assert [point.steps for point in progress.curve] == [16]
    assert shown == [16, 16]
    for name in ("last", "best"):
        assert Agent.load(tmp_path / name, world).card.real_score == progress.curve[0].real
    assert train_agent(config, world, tmp_path).steps == 16, "there is no more to do"


def test_imitation_without_a_judge_is_kept_too(world: World, tmp_path: Path) -> None:
    config = settings(imitate="sweep:6", imitate_steps=15, num_envs=4, eval_every=0)
    assert train_agent(config, world, tmp_path).curve == []
    assert Agent.load(tmp_path / "last", world).card.steps == 16


def test_an_agent_that_diverges_while_it_imitates_is_told_of_by_name(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imitation, "_LEARNING_RATE", 1e30)
    with pytest.raises(TrainingError, match="not finite after 8 steps"):
        train_agent(settings(imitate="sweep:6", imitate_steps=8), world, tmp_path)
    assert not (tmp_path / "last").exists()


def test_beginnings_that_make_no_sense_are_refused(world: World, tmp_path: Path) -> None:
    for wrong in (
        {"imitate": "sweep:110", "algorithm": Algorithm.recurrent_ppo},
        {"imitate": "sweep:110", "imitate_steps": 16},
        {"starts": "anywhere", "env": Place.twin},
        {"num_starts": 0},
    ):
        with pytest.raises(ConfigError, match="expected"):
            settings(**wrong)
    with pytest.raises(ConfigError, match="unknown"):
        train_agent(settings(imitate="nobody", imitate_steps=8), world, tmp_path)


def test_agents_begin_with_the_worlds_own_starts_and_random_weights() -> None:
    assert (AgentTrainConfig(world="toy").starts, AgentTrainConfig(world="toy").imitate) == (None, None)


def test_what_is_beyond_a_cut_counts_by_the_learners_own_value(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Episodes of two steps that are cut off: to what each brings comes half the value of what was seen last."""
    learner = make_learner(settings(horizon=8, features=16, hidden=16, gamma=0.5), world, tmp_path, 0, lambda _: 1e-2)
    given: list[torch.Tensor] = []
    monkeypatch.setattr(imitation, "returns_of", lambda *parts: given.append(returns_of(*parts)) or given[-1])
    watched: list[imitation.Imitated] = []
    watch = imitation._watch
    monkeypatch.setattr(imitation, "_watch", lambda *parts: watched.append(watch(*parts)) or watched[-1])
    monkeypatch.setattr(learner.policy, "predict_values", lambda seen: 100 * seen.flatten(1).mean(1, keepdim=True))
    imitate(learner, "noop", 4, num_steps=10, epochs=1, seed=0)
    assert learner.env is not None
    (seen,) = watched
    assert seen.cut.tolist() == [[False, False], [True, True], [False, False], [True, True], [False, False]]
    assert torch.equal(seen.cut, seen.dones)
    values = 100 * seen.cut_seen.flatten(1).mean(1).view(2, 2)
    assert len(values.unique()) == 4
    expected = seen.rewards.clone()
    expected[[1, 3]] += 0.5 * values
    expected[4] += 0.5 * 100 * seen.last.flatten(1).mean(1)
    expected[[0, 2]] += 0.5 * expected[[1, 3]]
    torch.testing.assert_close(given[0], expected)
    learner.env.close()
