"""`cfworld agent-train` and `cfworld agent-eval`, and the rollout of a trained agent."""

import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stable_baselines3 import PPO

from cfworld.agents import Agent, make_player
from cfworld.agents.evaluate import Scores
from cfworld.agents.planner import PlannerConfig
from cfworld.agents.sight import Seen
from cfworld.cli import agent_eval
from cfworld.cli import main as cli
from cfworld.cli.agent_eval import AgentEvalConfig
from cfworld.cli.agent_scores import kept_or_played, who
from cfworld.cli.live import LiveRows, policies
from cfworld.data import CollectConfig, collect
from cfworld.data.policies import who_acts
from cfworld.envs import WorldEnv
from cfworld.errors import CheckpointError, ConfigError
from cfworld.export import ExportConfig, export_dataset
from cfworld.world import World
from tests.toy import toy_world

PANORAMA = "cfworld.envs:cfworld/PanoramaReal-v0"
SMALL = (
    "num_envs=2 n_steps=4 batch_size=4 n_epochs=1 total_steps=8 horizon=12 eval_horizon=12 eval_episodes=2 features=8 "
    "hidden=8"
)


@pytest.fixture
def trained(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "argv", sys.argv)
    cli.main(["agent-train", f"world={toy}", *SMALL.split(), f"out={tmp_path / 'train'}"])
    return tmp_path / "train"


def test_an_agent_is_trained_and_scored_in_dream_and_reality(toy: str, trained: Path, tmp_path: Path) -> None:
    figures = json.loads((trained / "agent-train.json").read_text())
    assert figures["steps"] == 8
    assert len(figures["curve"]) == 1
    assert (trained / "curve.png").stat().st_size > 1000
    assert list((trained / "tensorboard").iterdir())
    agent, out = trained / "best", tmp_path / "eval"
    arguments = "episodes=3 planner_episodes=2 max_ticks=12 sweep_periods=[2,4] sweep_episodes=1 video_ticks=8"
    plan = "planner.candidates=2 planner.elites=1 planner.depth=1 planner.hold=1 planner.every=1"
    names = f"policies=[random,best_sweep,{agent},planner]"
    cli.main(["agent-eval", f"world={toy}", names, *arguments.split(), *plan.split(), f"out={out}"])
    figures = json.loads((out / "agent-eval.json").read_text())
    found = figures["policies"]
    assert {name: len(entry["twin"]["returns"]) for name, entry in found.items()} == {
        "random": 3,
        "best_sweep": 3,
        str(agent): 3,
        "planner": 2,
    }
    assert found[str(agent)]["about"]["steps"] == 8
    assert found[str(agent)]["paired"]["dream"]["random"]["count"] == 3
    assert found["planner"]["paired"]["twin"].keys() == {"random", "best_sweep"}
    assert found["best_sweep"]["about"]["policy"] == figures["sweep_search"]["best"] in ("sweep:2", "sweep:4")
    assert figures["rank_correlation"]["policies"] == 4
    assert all((out / f"agent-eval.{suffix}").stat().st_size > 500 for suffix in ("md", "png", "mp4"))


def test_a_world_without_a_simulator_is_scored_alone_and_not_filmed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    toy_world(source="nowhere/Nothing-v0").save_pretrained(tmp_path / "alone")
    common = ["agent-eval", f"world={tmp_path / 'alone'}", "episodes=2", "max_ticks=8", f"out={tmp_path / 'eval'}"]
    for needs in (["policies=[noop]"], ["policies=[noop,best_sweep]", "twin=false"]):
        with pytest.raises(SystemExit):
            cli.main([*common, *needs])
        assert "expected the id of a twin" in capsys.readouterr().err
        assert not (tmp_path / "eval").exists()
    cli.main([*common, "policies=[noop]", "twin=false"])
    assert (tmp_path / "eval" / "agent-eval.json").exists()
    assert not (tmp_path / "eval" / "agent-eval.mp4").exists()


def test_simulators_in_processes_compute_where_the_world_does(toy: str) -> None:
    config = AgentEvalConfig(world=toy, device="cuda:1", workers=2)
    assert agent_eval._job(config, toy_world(), "noop", 8).device == "cuda:1"


def test_the_same_folder_plays_only_what_it_does_not_hold(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    script = tmp_path / "script.json"
    played: list[str] = []
    bars = agent_eval._bar
    monkeypatch.setattr(agent_eval, "_bar", lambda title, episodes: played.append(title) or bars(title, episodes))

    def run(*changes: str) -> dict[str, Any]:
        played.clear()
        common = [f"world={toy}", "video=", "episodes=2", "max_ticks=8", f"out={tmp_path / 'eval'}"]
        cli.main(["agent-eval", *common, *changes])
        return json.loads((tmp_path / "eval" / "agent-eval.json").read_text())["policies"]

    first = run("policies=[noop]")
    assert played == ["noop, dream", "noop, twin"]
    script.write_text("[[1, 2]]")
    both = f"policies=[noop,scripted:{script}]"
    second = run(both)
    assert played == [f"scripted:{script}, dream", f"scripted:{script}, twin"]
    assert second["noop"]["twin"] == first["noop"]["twin"]
    assert run(both) == second
    assert played == []
    script.write_text("[[2, 1]]")
    run(both)
    assert len(played) == 2, "a script that was changed is another"
    run("policies=[noop]", "max_ticks=12")
    assert len(played) == 2, "longer episodes are others"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"returns": ["x"], "ticks": [1], "ended": [true]}'])
def test_kept_scores_that_are_damaged_are_refused_by_name(tmp_path: Path, content: str) -> None:
    scores = Scores(returns=np.array([4.0]), ticks=np.array([4]), ended=np.array([True]))
    kept_or_played(tmp_path, {}, lambda: scores)
    assert kept_or_played(tmp_path, {}, lambda: pytest.fail("played again")).returns == [4]
    (kept,) = tmp_path.iterdir()
    kept.write_text(content)
    with pytest.raises(CheckpointError, match=rf"{kept.name} is damaged .*; delete it, and its episodes are played"):
        kept_or_played(tmp_path, {}, lambda: pytest.fail("played again"))


def test_scores_that_could_not_be_kept_are_not_played(tmp_path: Path) -> None:
    (tmp_path / "scores").write_text("")
    with pytest.raises(FileExistsError):
        kept_or_played(tmp_path / "scores", {}, lambda: pytest.fail("played"))


def test_a_training_that_is_refused_leaves_the_folder_as_it_was(toy: str, trained: Path) -> None:
    before = (trained / "config.yaml").read_bytes()
    with pytest.raises(SystemExit):
        cli.main(["agent-train", f"world={toy}", *SMALL.split(), "seed=1", f"out={trained}"])
    assert (trained / "config.yaml").read_bytes() == before


def test_a_trained_agent_acts_in_a_rollout(toy: str, trained: Path) -> None:
    world = World.from_pretrained(toy)
    for name in (str(trained / "last"), f"agent:{trained / 'last'}"):
        live = LiveRows(world, [0, 1], policies(name, world))
        agent = Agent.load(trained / "last")
        agent.begin([1])
        expected = agent.act(Seen(frames=live.rows[1].frames[None]))[0]
        assert live.step().actions[1].tolist() == [int(expected)] * 4


def test_a_trained_agent_exports_however_it_is_spelled(toy: str, trained: Path, tmp_path: Path) -> None:
    settings = ["export", f"world={toy}", "episodes=1", "max_steps=1", f"out={tmp_path / 'out'}"]
    for name in (str(trained / "last"), f"agent:{trained / 'last'}"):
        cli.main([*settings, f"policies=[{name}]"])  # the second time there is nothing left to do
    recorded = json.loads((tmp_path / "out" / "collection.json").read_text())
    assert recorded["policies"] == {f"agent:{trained / 'last'}": 1.0}
    card = hashlib.sha256((trained / "last" / "agent.json").read_bytes()).hexdigest()
    assert recorded["policy_files"] == {str(trained / "last"): card}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"episodes": 0}, "got episodes=0; expected an integer of at least 1"),
        ({"policies": []}, "got policies=[]; expected at least one, each once"),
        ({"policies": ["noop", "noop"]}, "got policies=['noop', 'noop']; expected at least one, each once"),
        ({"dream": False, "twin": False}, "got dream=false and twin=false; expected at least one of them"),
        ({"baselines": ["sticky"], "policies": ["noop"]}, "got 'sticky' as a baseline or for the video"),
        ({"video": "sticky", "policies": ["noop"]}, "got 'sticky' as a baseline or for the video"),
        ({"video": "noop", "policies": ["noop"], "twin": False}, "got video=noop with dream=True and twin=False"),
        ({"video": "noop", "policies": ["noop"], "dream": False}, "got video=noop with dream=False and twin=True"),
        ({"sweep_periods": []}, "got sweep_periods=[]; expected periods from 1 tick"),
        ({"sweep_seed": 2_000_050}, "searched on the seeds of the comparison; give other seeds"),
        ({"max_ticks": 0}, "got max_ticks=0; expected at least 1, or null"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        AgentEvalConfig(world="toy", **wrong)


def test_an_unknown_policy_is_refused_before_anything_is_played(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    with pytest.raises(SystemExit):
        cli.main(["agent-eval", f"world={toy}", "policies=[random,nobody]", f"out={tmp_path / 'out'}"])
    assert "policy 'nobody' is unknown" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("prefix", ["", "sb3:"])
def test_an_agent_of_stable_baselines_is_scored_in_dream_and_reality(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    file, out = tmp_path / "agent.zip", tmp_path / "eval"
    PPO("CnnPolicy", WorldEnv(toy, obs="frames"), device="cpu", n_steps=8, batch_size=8).save(file)
    names = f"policies=[noop,{prefix}{file}]"
    cli.main(["agent-eval", f"world={toy}", names, "episodes=2", "max_ticks=8", "video=", f"out={out}"])
    found = json.loads((out / "agent-eval.json").read_text())["policies"][f"{prefix}{file}"]
    assert all(len(found[place]["returns"]) == 2 for place in ("dream", "twin"))
    assert found["paired"]["twin"].keys() == {"noop"}


def test_who_plays_is_known_by_what_is_in_the_files(tmp_path: Path) -> None:
    for name in ("moves.json", "agent.zip"):
        (tmp_path / name).write_text("one")
        told = [who(f"{kind}:{tmp_path / name}", PlannerConfig()) for kind in ("scripted", "sb3")]
        (tmp_path / name).write_text("another")
        assert all(who(one["policy"], PlannerConfig()) != one for one in told)


def test_nobody_is_told_of_the_same_people_everywhere(toy: str, tmp_path: Path) -> None:
    errors = set()
    world = World.from_pretrained(toy)
    asked = [
        lambda: make_player("nobody", world),
        lambda: policies("nobody", world),
        lambda: collect(CollectConfig(env=PANORAMA, out=str(tmp_path), policies={"nobody": 1.0})),
        lambda: export_dataset(ExportConfig(world=toy, out=str(tmp_path), policies={"nobody": 1.0})),
    ]
    for ask in asked:
        with pytest.raises(ConfigError) as told:
            ask()
        errors.add(str(told.value))
    assert errors == {f"policy 'nobody' is unknown; expected one of {who_acts()}"}


@pytest.mark.parametrize("command", ["rollout", "agent-eval", "collect", "export"])
def test_help_lists_whoever_can_act(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    cli.main([command, "--help"])
    assert who_acts() in " ".join(capsys.readouterr().out.split())
