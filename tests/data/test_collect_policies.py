"""Whoever acts in a collection is who was named, and stays the same when it is resumed."""

import json

import gymnasium as gym
import pytest
from stable_baselines3 import PPO

from cfworld.agents.sb3_policy import sb3_agent
from cfworld.cli import main as cli
from cfworld.data import EpisodeStore, collect
from cfworld.errors import ConfigError
from tests.data.toy_collection import PANORAMA, config, contents


def test_an_agent_of_stable_baselines_may_collect(tmp_path):
    twin = gym.make(PANORAMA, obs="frames")
    small = {"features_extractor_kwargs": {"features_dim": 8}}
    agent = PPO("CnnPolicy", twin, n_steps=8, batch_size=8, policy_kwargs=small, device="cpu")
    agent.save(tmp_path / "agent.zip")
    name = f"sb3:{tmp_path / 'agent.zip'}"
    settings = config(tmp_path / "out", policies={name: 1.0}, episodes=1, god_share=0.0, max_ticks=14)

    collect(settings, factories={"sb3": sb3_agent}, progress=False)

    episode = EpisodeStore.open(tmp_path / "out").episode(0)
    assert episode.policy == name
    assert all(len(set(episode.actions[step : step + 4])) == 1 for step in range(0, 14, 4))


def test_a_sweep_of_20_is_collected_as_a_sweep_of_20(tmp_path):
    collect(config(tmp_path, policies={"sweep:20": 1.0}, episodes=1, god_share=0.0), progress=False)

    episode = EpisodeStore.open(tmp_path).episode(0)
    assert episode.policy == "sweep:20"
    assert episode.actions.tolist() == [1] * 20 + [2] * 20 + [1] * 10


def test_another_script_of_the_same_name_is_not_mixed_in(tmp_path):
    script, out = tmp_path / "moves.json", tmp_path / "out"
    settings = {"policies": {f"scripted:{script}": 1.0}, "god_share": 0.0, "max_ticks": 4, "shard_episodes": 1}
    script.write_text("[[1, 4]]")
    collect(config(out, episodes=1, **settings), progress=False)

    script.write_text("[[2, 4]]")
    with pytest.raises(ConfigError, match=r"other settings \(policy_files"):
        collect(config(out, episodes=2, **settings), progress=False)

    script.write_text("[[1, 4]]")
    collect(config(out, episodes=2, **settings), progress=False)
    assert EpisodeStore.open(out).episode(1).actions.tolist() == [1] * 4


def test_data_from_before_scripts_were_told_apart_are_gone_on_with(tmp_path):
    script, out = tmp_path / "moves.json", tmp_path / "out"
    settings = {"policies": {f"scripted:{script}": 1.0}, "god_share": 0.0, "max_ticks": 4, "shard_episodes": 1}
    script.write_text("[[1, 4]]")
    collect(config(out, episodes=1, **settings), progress=False)
    recorded = json.loads((out / "collection.json").read_text())
    del recorded["policy_files"]
    (out / "collection.json").write_text(json.dumps(recorded))

    collect(config(out, episodes=2, **settings), progress=False)

    assert len(EpisodeStore.open(out)) == 2


def test_an_agent_that_was_trained_anew_is_another(tmp_path):
    (tmp_path / "agent.json").write_text("{}")
    plan = config(tmp_path / "out", policies={f"agent:{tmp_path}": 1.0})
    before = plan.recorded()["policy_files"]
    (tmp_path / "agent.json").write_text('{"steps": 1}')
    assert before.keys() == {str(tmp_path)}
    assert plan.recorded()["policy_files"] != before


def test_an_agent_of_stable_baselines_collects_however_it_is_spelled(tmp_path):
    twin = gym.make(PANORAMA, obs="frames")
    small = {"features_extractor_kwargs": {"features_dim": 8}}
    agent = PPO("CnnPolicy", twin, n_steps=8, batch_size=8, policy_kwargs=small, device="cpu")
    agent.save(tmp_path / "agent.zip")
    settings = ["collect", "world=panorama", "episodes=1", "max_ticks=8", "god_share=0", "workers=1"]
    for place, prefix in enumerate(("", "sb3:")):
        cli.main([*settings, f"policies=[{prefix}{tmp_path / 'agent.zip'}]", f"out={tmp_path / str(place)}"])
    assert contents(tmp_path / "0") == contents(tmp_path / "1")
