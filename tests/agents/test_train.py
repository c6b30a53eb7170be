"""An agent learns in a toy world and in its simulator, is kept with its card, and comes back as it was."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from stable_baselines3 import PPO

from cfworld import World
from cfworld.agents import Agent
from cfworld.agents.agent import write_agent
from cfworld.agents.card import AgentCard
from cfworld.agents.config import AgentTrainConfig, Algorithm, ForesightConfig, Obs, Place
from cfworld.agents.evaluate import twin_scores
from cfworld.agents.learner import load_checkpoint
from cfworld.agents.sight import Eyes, Seen
from cfworld.agents.train import train_agent
from cfworld.agents.vec_envs import training_env
from cfworld.data.panorama import Panorama
from cfworld.envs.spaces import world_action_space, world_observation_space
from cfworld.envs.twins import make_twin
from cfworld.errors import CheckpointError, ConfigError, TrainingError
from cfworld.files import locked_folder
from tests.toy import BOX, TEXT, toy_world


@pytest.fixture(scope="module")
def world() -> World:
    return toy_world()


def settings(**changes: Any) -> AgentTrainConfig:
    small = {
        "world": "toy",
        "num_envs": 2,
        "n_steps": 4,
        "batch_size": 4,
        "n_epochs": 1,
        "total_steps": 16,
        "horizon": 12,
        "eval_horizon": 12,
        "eval_every": 8,
        "eval_episodes": 2,
        "save_every": 8,
        "features": 8,
        "hidden": 8,
        "lstm": 8,
    }
    return AgentTrainConfig(**(small | changes))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"env": Place.twin, "stack": 2},
        {"obs": Obs.frame, "stack": 2},
        {"env": Place.twin, "obs": Obs.frames},
        {"env": Place.twin, "blind": True},
        {"stack": 2, "own_actions": True},
        {"env": Place.twin, "own_actions": True},
        {"blind": True, "own_actions": True},
        {"algorithm": Algorithm.recurrent_ppo},
    ],
    ids=lambda changes: " ".join(map(str, changes.values())),
)
def test_an_agent_learns_and_what_is_kept_is_what_learned(
    world: World, tmp_path: Path, changes: dict[str, Any]
) -> None:
    shown = []
    progress = train_agent(settings(**changes), world, tmp_path, lambda now: shown.append(now.steps))
    assert progress.steps == 16
    assert [point.steps for point in progress.curve] == [8, 16]
    assert shown == [8, 16, 16]
    assert all(np.isfinite([point.real, point.error]).all() for point in progress.curve)
    agent = Agent.load(tmp_path / "last", world)
    learnt = load_checkpoint(tmp_path / "checkpoint.pt")["parameters"]["policy"]
    assert all(value.equal(learnt[name]) for name, value in agent.policy.state_dict().items())
    assert agent.card.steps == 16
    assert agent.card.real_score == progress.curve[-1].real
    twin = make_twin(world.config.source, 12)
    assert twin_scores(twin, agent, [4_000_000, 4_000_001]).returns.mean() == progress.curve[-1].real
    best = Agent.load(tmp_path / "best", world).card
    assert progress.best is not None
    assert (best.steps, best.real_score) == (progress.best.steps, progress.best.real)


@pytest.mark.parametrize("place", Place)
@pytest.mark.parametrize(("obs", "own"), [*((obs, False) for obs in Obs), (Obs.latent, True)])
def test_eyes_see_what_was_seen_in_training(world: World, place: Place, obs: Obs, own: bool) -> None:
    venv = training_env(settings(env=place, obs=obs, stack=3, own_actions=own, horizon=40), world)
    venv.seed(5)
    eyes = Eyes(obs, 3, blind=False, world=world, num_own=3 if own else 0)
    if place is Place.twin:
        twin = make_twin(world.config.source, 40)
        twin.reset(seed=6)
        steps = [Seen(frames=twin.frames()[None])]
        for _ in range(4):
            twin.step(1)
            steps.append(Seen(frames=twin.frames()[None]))
    else:
        state, frames = world.initial([6])
        steps = [Seen(frames=frames.numpy(), latents=state.latents)]
        for _ in range(4):
            state, out = world.step(state, [1])
            assert out.frames is not None
            steps.append(Seen(frames=out.frames.numpy(), latents=out.latents))
    seen = venv.reset()
    for step in steps:
        assert isinstance(seen, np.ndarray)
        assert np.allclose(eyes.look(step)[0], seen[1], atol=1e-4)
        seen = venv.step(np.array([0, 1]))[0]
        eyes.acted(np.array([1]))
    venv.close()


def test_noise_has_its_strength_and_leaves_the_own_actions_alone(world: World) -> None:
    seen = []
    for noise in (0.0, 0.5, 0.5):
        venv = training_env(settings(obs_noise=noise, own_actions=True), world)
        venv.seed(5)
        venv.reset()
        seen.append(np.asarray(venv.step(np.array([0, 1]))[0]))
        venv.close()
    assert np.array_equal(seen[1], seen[2])
    noise = seen[1] - seen[0]
    assert abs(noise[:, :-3].std() - 0.5) < 0.05
    assert not noise[:, -3:].any()


@pytest.mark.parametrize("place", Place)
def test_a_new_episode_has_done_nothing_and_the_last_one_is_remembered_whole(world: World, place: Place) -> None:
    venv = training_env(settings(env=place, own_actions=True, horizon=8), world)
    venv.reset()
    seen, _, done, infos = venv.step(np.array([2, 1]))
    while not done.any():
        assert isinstance(seen, np.ndarray)
        assert seen[:, -3:].tolist() == [[0, 0, 1], [0, 1, 0]]
        seen, _, done, infos = venv.step(np.array([2, 1]))
    row = int(np.flatnonzero(done)[0])
    assert isinstance(seen, np.ndarray)
    assert seen[row, -3:].tolist() == [0, 0, 0]
    assert infos[row]["terminal_observation"].shape == seen[row].shape
    assert infos[row]["terminal_observation"][-3:].tolist() == [[0, 0, 1], [0, 1, 0]][row]
    venv.close()


def test_training_goes_on_from_where_it_was_stopped(world: World, tmp_path: Path) -> None:
    short = settings(max_minutes=1e-9, total_steps=24)
    stopped = train_agent(short, world, tmp_path)
    assert stopped.steps == 8
    assert stopped.stopped == "1e-09 minutes are over"
    before = load_checkpoint(tmp_path / "checkpoint.pt")
    assert train_agent(short, world, tmp_path).steps == 8
    progress = train_agent(settings(total_steps=24), world, tmp_path)
    assert (progress.steps, progress.stopped) == (24, "")
    assert [point.steps for point in progress.curve] == [8, 16, 24]
    after = load_checkpoint(tmp_path / "checkpoint.pt")
    weights = before["parameters"]["policy"]
    assert not all(after["parameters"]["policy"][name].equal(value) for name, value in weights.items())
    assert after["rewards"]["count"] == pytest.approx(before["rewards"]["count"] + 16)


def test_a_training_goes_on_as_it_was_begun_or_not_at_all(world: World, tmp_path: Path) -> None:
    train_agent(settings(eval_every=0), world, tmp_path)
    for changed in ({"features": 16}, {"seed": 1}, {"algorithm": Algorithm.recurrent_ppo}):
        with pytest.raises(ConfigError, match=f"got {next(iter(changed))}=.*expected the same, or another out="):
            train_agent(settings(eval_every=0, total_steps=24, **changed), world, tmp_path)
    foresight = settings(eval_every=0, total_steps=24, foresight=ForesightConfig(updates=9))
    changed = r"got foresight\.updates=9.*began with foresight\.updates=4000"
    with pytest.warns(UserWarning, match="nothing"), pytest.raises(ConfigError, match=changed):
        train_agent(foresight, world, tmp_path)
    assert train_agent(settings(eval_every=0, total_steps=24, patience=None), world, tmp_path).steps == 24


def test_a_training_goes_on_in_the_world_it_was_begun_in(world: World, tmp_path: Path) -> None:
    train_agent(settings(eval_every=0), world, tmp_path)
    longer = settings(eval_every=0, total_steps=24)
    with pytest.raises(ConfigError, match=r"got the world's fingerprint in torch\.float32=.*expected the same"):
        train_agent(longer, toy_world(seed=1), tmp_path)
    file = tmp_path / "checkpoint.pt"
    content = load_checkpoint(file)
    del content["settings"]["the world's fingerprint in torch.float32"]
    torch.save(content, file)
    assert train_agent(longer, world, tmp_path).steps == 24, "what knew no fingerprints goes on"


def test_nobody_trains_where_another_process_trains(world: World, tmp_path: Path) -> None:
    with locked_folder(tmp_path, AssertionError), pytest.raises(TrainingError, match="another process is writing"):
        train_agent(settings(), world, tmp_path)


def test_whoever_needs_a_simulator_is_told_at_once_that_there_is_none(tmp_path: Path) -> None:
    alone = toy_world(source="nowhere/Nothing-v0")
    for changes in ({}, {"env": Place.twin, "eval_every": 0}):
        with pytest.raises(ConfigError, match=r"'nowhere/Nothing-v0'; expected the id of a twin"):
            train_agent(settings(**changes), alone, tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert train_agent(settings(eval_every=0, total_steps=8), alone, tmp_path).steps == 8


@pytest.mark.parametrize("changes", [{}, {"algorithm": Algorithm.recurrent_ppo}], ids=str)
def test_who_is_judged_learns_what_it_would_learn_unseen(world: World, tmp_path: Path, changes: dict[str, Any]) -> None:
    learnt = []
    for every in (0, 8):
        train_agent(settings(eval_every=every, total_steps=24, **changes), world, tmp_path / str(every))
        learnt.append(load_checkpoint(tmp_path / str(every) / "checkpoint.pt")["parameters"]["policy"])
    assert all(learnt[0][name].equal(value) for name, value in learnt[1].items())


def test_an_agent_without_probabilities_ends_the_training(world: World, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"not finite after 8 steps; .* with a lower learning_rate"):
        train_agent(settings(learning_rate=1e30, eval_every=0), world, tmp_path)


def test_weights_that_are_not_finite_are_not_saved(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(learner: PPO) -> None:
        with torch.no_grad():
            learner.policy.value_net.bias.fill_(torch.nan)

    monkeypatch.setattr(PPO, "train", train)
    with pytest.raises(TrainingError, match=r"not finite after 8 steps; .* with a lower learning_rate"):
        train_agent(settings(eval_every=0, total_steps=8, batch_size=8), world, tmp_path)
    assert not (tmp_path / "last").exists()


@pytest.mark.parametrize("changes", [{}, {"blind": True, "obs": Obs.frame}, {"imitate": "sticky", "imitate_steps": 4}])
def test_a_world_whose_rewards_are_no_numbers_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    odd = toy_world()
    with torch.no_grad():
        odd.generator.heads.reward.out.bias.fill_(torch.nan)
    told = r"a reward of nan from the reward head of toy in row 0; .* lower learning_rate will not help"
    with pytest.raises(TrainingError, match=told):
        train_agent(settings(eval_every=0, total_steps=8, batch_size=8, **changes), odd, tmp_path)
    assert not (tmp_path / "last").exists()


def test_a_simulator_whose_rewards_are_no_numbers_is_named(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Panorama, "tick", lambda panorama, action: (np.inf, False))
    with pytest.raises(TrainingError, match=r"a reward of inf from the simulator cfworld/PanoramaReal-v0 in row 0"):
        train_agent(settings(env=Place.twin, eval_every=0), world, tmp_path)


def test_training_that_is_done_is_left_alone(world: World, tmp_path: Path) -> None:
    train_agent(settings(eval_every=0), world, tmp_path)
    content = (tmp_path / "checkpoint.pt").read_bytes()
    assert train_agent(settings(eval_every=0), world, tmp_path).steps == 16
    assert (tmp_path / "checkpoint.pt").read_bytes() == content
    assert not (tmp_path / "best").exists()


def test_an_agent_of_another_tokenizer_or_with_other_weights_is_refused(world: World, tmp_path: Path) -> None:
    train_agent(settings(eval_every=0), world, tmp_path)
    folder = tmp_path / "last"
    with pytest.raises(ConfigError, match="sees the latents of tokenizer"):
        Agent.load(folder, toy_world(seed=1))
    with pytest.raises(CheckpointError, match="holds no agent"):
        Agent.load(tmp_path, world)
    card = json.loads((folder / "agent.json").read_text())
    (folder / "agent.json").write_text(json.dumps(card | {"schema_version": 9}))
    with pytest.raises(CheckpointError, match="schema_version 9"):
        Agent.load(folder, world)
    for name, odd, told in (("taste", 1, "taste"), ("stack", 0, "got stack=0"), ("algorithm", "dqn", "got 'dqn'")):
        (folder / "agent.json").write_text(json.dumps(card | {name: odd}))
        with pytest.raises(CheckpointError, match=rf"agent\.json is not as .*{told}"):
            Agent.load(folder, world)
    (folder / "agent.json").write_text(json.dumps(card))
    (weights,) = folder.glob("*.safetensors")
    save_file({name: value + 1 for name, value in load_file(weights).items()}, weights)
    with pytest.raises(CheckpointError, match="damaged"):
        Agent.load(folder, world)


def test_whoever_is_interrupted_while_an_agent_is_written_finds_the_one_before(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_agent(settings(eval_every=0), world, tmp_path)
    folder = tmp_path / "last"
    before, after = (Agent.load(folder, world) for _ in range(2))
    for weight in after.policy.parameters():
        weight.data += 1
    with monkeypatch.context() as patch:
        patch.setattr(AgentCard, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            write_agent(after.policy, after.card, folder)
    assert Agent.load(folder, world).card == before.card
    write_agent(after.policy, after.card, folder)
    assert Agent.load(folder, world).card.weights != before.card.weights
    assert len(list(folder.glob("*.safetensors"))) == 1, "nothing of the one before is left"
    next(folder.glob("*.safetensors")).rename(folder / "policy.safetensors")
    assert Agent.load(folder, world).card.steps == 16, "weights used to be named so"


def test_whoever_is_interrupted_after_a_judgement_knows_of_it(world: World, tmp_path: Path) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    config = settings(total_steps=24, save_every=1000)
    with pytest.raises(KeyboardInterrupt):
        train_agent(config, world, tmp_path, interrupt)
    assert [point["steps"] for point in load_checkpoint(tmp_path / "checkpoint.pt")["progress"]["curve"]] == [8]
    best = replace(Agent.load(tmp_path / "best", world).card, real_score=1e9)
    best.write(tmp_path / "best")
    assert [point.steps for point in train_agent(config, world, tmp_path).curve] == [8, 16, 24]
    assert Agent.load(tmp_path / "best", world).card == best, "what was better is kept, whatever the curve knew"


def test_the_width_of_an_agent_is_kept_in_its_card_and_was_32_before(world: World, tmp_path: Path) -> None:
    for width in (8, 32):
        train_agent(settings(eval_every=0, width=width), world, tmp_path / str(width))
        assert Agent.load(tmp_path / str(width) / "last", world).card.width == width
    file = tmp_path / "32" / "last" / "agent.json"
    card = json.loads(file.read_text())
    del card["width"]
    file.write_text(json.dumps(card | {"schema_version": 2}))
    assert Agent.load(file.parent, world).card.width == 32
    file.write_text(json.dumps(card))
    with pytest.raises(CheckpointError, match=r"not as .*width"):
        Agent.load(file.parent, world)


def test_box_actions_can_be_learned_and_texts_cannot(tmp_path: Path) -> None:
    box = toy_world(actions=BOX)
    train_agent(settings(eval_every=0), box, tmp_path)
    agent, space = Agent.load(tmp_path / "last", box), world_action_space(BOX)
    state, _ = box.initial([0, 1, 2])
    agent.begin([0, 1, 2])
    for _ in range(4):
        actions = agent.act(Seen(latents=state.latents))
        assert actions.shape == (3, 2)
        assert all(action in space for action in actions)
        state, _ = box.step(state, actions)
    with pytest.raises(ConfigError, match="PPO acts in"):
        train_agent(settings(eval_every=0), toy_world(actions=TEXT), tmp_path / "text")
    assert not (tmp_path / "text").exists()


@pytest.mark.parametrize("obs", Obs)
@pytest.mark.parametrize("decoded", [False, True])
def test_who_is_blind_sees_zeros_and_needs_nothing_decoded(world: World, obs: Obs, decoded: bool) -> None:
    state, frames = world.initial([6, 7])
    seen = Seen(frames=frames.numpy() if decoded else None, latents=state.latents)
    space = world_observation_space(obs, world.config)
    look = Eyes(obs, 1, blind=True, world=world).look(seen)
    assert look.shape == (2, *space.shape)
    assert look.dtype == space.dtype
    assert not look.any()


def test_settings_that_make_no_sense_are_refused() -> None:
    for wrong in (
        {"stack": 0},
        {"own_actions": True, "obs": Obs.frame},
        {"obs_noise": -1.0},
        {"obs_noise": 0.5, "blind": True},
        {"truncate_above": 2.0, "env": Place.twin},
        {"processes": True, "env": Place.dream},
        {"learning_rate": -1.0},
        {"gamma": 2.0},
        {"ent_coef": float("nan")},
        {"seed": -1},
        {"max_minutes": 0.0},
        {"eval_every": 0, "patience": 1},
        {"batch_size": 1},
    ):
        with pytest.raises(ConfigError, match="expected"):
            settings(**wrong)


@pytest.mark.parametrize("name", ["horizon", "eval_horizon", "patience", "num_steps"])
@pytest.mark.usefixtures("as_users_run_it")
def test_limits_of_a_training_are_whole_numbers(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"got {name}=2\.5; expected an integer"):
        settings(**{name: 2.5})
