"""`cfworld export`: the episodes are the environment's own, load back equal, and survive any interruption."""

import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from stable_baselines3 import PPO

from cfworld.agents.sb3_policy import sb3_agent
from cfworld.cli import main as cli
from cfworld.cli.export import ExportCommand
from cfworld.data import EpisodeStore
from cfworld.envs import WorldEnv
from cfworld.errors import ConfigError, DatasetError, StartError
from cfworld.export.config import ExportConfig
from cfworld.export.dataset import export_dataset
from cfworld.world import World
from tests.export import killed
from tests.hydra_tools import forgetful
from tests.toy import DICT, toy_world

FILES = ("data/chunk-*/*.parquet", "meta/**/*.parquet", "meta/*.json", "videos/*/chunk-*/*.mp4")


@pytest.fixture(autouse=True)
def forgetful_store() -> Iterator[None]:
    with forgetful():
        yield


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("toy") / "toy"
    toy_world().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def whole(toy: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Exports of both formats that nothing interrupted."""
    folders = {kind: tmp_path_factory.mktemp("whole") / kind for kind in ("minari", "lerobot")}
    for kind, folder in folders.items():
        export_dataset(killed.settings(toy, str(folder), kind), progress=False)
    return folders


def config(world: str, out: Path, **changes: Any) -> ExportConfig:
    settings: dict[str, Any] = {"episodes": 3, "rows": 2, "shard_episodes": 2, "max_steps": 2, **changes}
    return ExportConfig(world=world, out=str(out), **settings)


def file_digests(folder: Path) -> dict[str, str]:
    paths = [path for pattern in FILES for path in folder.glob(pattern)]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_an_episode_is_that_of_the_environment_under_its_seed_start_and_actions(
    toy: str, whole: dict[str, Path]
) -> None:
    store = EpisodeStore.open(whole["minari"])
    env = WorldEnv(toy, horizon=1)
    for index in range(len(store)):
        episode = store.episode(index)
        assert episode.seed == index
        _, info = env.reset(seed=index)
        assert info["start"] == episode.options["start"]
        assert np.array_equal(env.frames()[-1], episode.frames[0])
        for first in range(0, len(episode), 4):
            actions = np.resize(episode.actions[first : first + 4], 4)  # what follows an end changes nothing before it
            _, _, terminated, truncated, info = env.step(actions)
            kept = min(info["end_frame"] + 1, 4)
            assert np.array_equal(env.frames()[:kept], episode.frames[1 + first :][:kept])
            assert np.array_equal(info["reward_frames"][:kept], episode.rewards[first:][:kept])
            assert np.array_equal(info["hazard"][:kept], episode.variables["hazard"][1 + first :][:kept])
        assert (terminated, truncated) == (episode.terminated, episode.truncated)


def test_minari_loads_the_dataset_every_pixel_of_it(whole: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(whole["minari"].parents[1]))
    dataset = minari.load_dataset(whole["minari"].relative_to(whole["minari"].parents[1]).as_posix())
    store = EpisodeStore.open(whole["minari"])
    assert dataset.total_episodes == len(store) == 5
    for loaded, index in zip(dataset.iterate_episodes(), range(5), strict=True):
        episode = store.episode(index)
        assert np.array_equal(loaded.observations, episode.frames)
        assert np.array_equal(loaded.actions, episode.actions)
        assert np.array_equal(loaded.rewards, episode.rewards)
        assert (bool(loaded.terminations[-1]), bool(loaded.truncations[-1])) == (episode.terminated, episode.truncated)
        assert np.array_equal(loaded.infos["hazard"], episode.variables["hazard"])


def test_both_formats_hold_the_same_episodes(whole: dict[str, Path]) -> None:
    minari_store, lerobot_store = (EpisodeStore.open(whole[kind]) for kind in ("minari", "lerobot"))
    for index in range(5):
        one, other = minari_store.episode(index), lerobot_store.episode(index)
        assert np.array_equal(one.actions, other.actions)
        assert np.array_equal(one.rewards, other.rewards)
        assert (one.seed, one.policy, one.options) == (other.seed, other.policy, other.options)


def test_the_data_do_not_depend_on_how_many_are_generated_side_by_side(
    toy: str, whole: dict[str, Path], tmp_path: Path
) -> None:
    settings = killed.settings(toy, str(tmp_path), "minari")
    settings.rows = 5
    export_dataset(settings, progress=False)
    assert killed.digests(str(tmp_path)) == killed.digests(str(whole["minari"]))


def test_a_dataset_says_what_generated_it(toy: str, whole: dict[str, Path]) -> None:
    weights = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in Path(toy).glob("*.safetensors")}
    for folder in whole.values():
        metadata = EpisodeStore.open(folder).metadata
        assert metadata["generated"] is True
        assert metadata["source"] == "generated:toy/teacher"
        told = metadata["provenance"]
        assert told["world"] == "toy"
        assert told["variant"] == "teacher"
        assert told["fingerprint"] == World.from_pretrained(toy).fingerprint
        assert told["weights"].items() <= weights.items()
        assert {name.partition("-")[0] for name in told["weights"]} == {"teacher", "tokenizer"}
        assert told["memory"]["preset"] is None
        assert told["cfworld"]
        assert json.loads((folder / "collection.json").read_text())["policies"] == {"random": 0.5, "sticky": 0.5}
    assert json.loads((whole["lerobot"] / "meta/info.json").read_text())["generated"] is True


@pytest.mark.parametrize("kind", ["minari", pytest.param("lerobot", marks=pytest.mark.slow)])
def test_killed_before_any_rename_it_leaves_a_prefix_and_resumes_to_the_same(
    toy: str, whole: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "tests.export.killed", toy, str(tmp_path), kind], capture_output=True, check=True
    )
    attempts = json.loads(run.stdout)
    expected = killed.digests(str(whole[kind]))
    assert {attempt["signal"] for attempt in attempts[:-1]} == {signal.SIGKILL}
    assert attempts[-1] == {"signal": 0, "episodes": expected}
    loadable = [len(attempt["episodes"]) for attempt in attempts]
    assert {0, 2, 5} <= set(loadable)
    assert loadable == sorted(loadable)
    assert all(attempt["episodes"] == expected[: len(attempt["episodes"])] for attempt in attempts)
    assert file_digests(tmp_path) == file_digests(whole[kind])
    assert not list(tmp_path.rglob(".*-*"))


def test_an_export_may_be_made_longer_and_is_left_alone_when_it_is_complete(toy: str, tmp_path: Path) -> None:
    first = export_dataset(config(toy, tmp_path, format="lerobot", use_videos=False), progress=False)
    before = killed.digests(str(tmp_path))
    assert "run" not in export_dataset(config(toy, tmp_path, format="lerobot", use_videos=False), progress=False)
    longer = export_dataset(config(toy, tmp_path, format="lerobot", use_videos=False, episodes=4), progress=False)
    assert (first["episodes"], longer["episodes"]) == (3, 4)
    assert killed.digests(str(tmp_path))[:3] == before


def test_the_progress_bar_counts_every_episode(toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_dataset(config(toy, tmp_path))
    assert " 3/3 " in capsys.readouterr().err.rpartition("\r")[2]


def test_hidden_files_beside_an_export_are_left_alone(toy: str, tmp_path: Path) -> None:
    theirs = [tmp_path / name for name in (".pre-commit-config.yaml", "meta/.git-keep", ".unfinished/thesis.txt")]
    for path in theirs:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    export_dataset(config(toy, tmp_path, format="lerobot", use_videos=False, episodes=1), progress=False)
    assert all(path.exists() for path in theirs)


def test_other_settings_weights_or_datasets_are_not_mixed(toy: str, tmp_path: Path) -> None:
    export_dataset(config(toy, tmp_path / "a", episodes=1), progress=False)
    with pytest.raises(ConfigError, match="seed: 7, before 0"):
        export_dataset(config(toy, tmp_path / "a", episodes=1, seed=7), progress=False)
    toy_world(seed=1).save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match="fingerprint"):
        export_dataset(config(str(tmp_path / "other"), tmp_path / "a", episodes=1), progress=False)
    (tmp_path / "b" / "meta").mkdir(parents=True)
    (tmp_path / "b" / "meta/info.json").write_text("{}")
    with pytest.raises(DatasetError, match="another origin"):
        export_dataset(config(toy, tmp_path / "b", episodes=1), progress=False)


@pytest.mark.parametrize(("form", "place"), [("minari", "data"), ("lerobot", "data"), ("lerobot", "meta")])
def test_a_file_where_a_folder_of_the_dataset_goes_is_refused_before_anything_is_generated(
    toy: str, tmp_path: Path, form: str, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfworld.export.dataset.generated_episodes", lambda *_: pytest.fail("generated"))
    (tmp_path / place).write_text("")
    with pytest.raises(DatasetError, match=f"{place}' is no folder; choose another folder with out="):
        export_dataset(config(toy, tmp_path, episodes=1, format=form), progress=False)
    assert not (tmp_path / "collection.json").exists()


def test_starts_memory_and_ends_may_be_chosen(toy: str, tmp_path: Path) -> None:
    export_dataset(config(toy, tmp_path, starts=["3"], memory="fast_only", ends="never"), progress=False)
    store = EpisodeStore.open(tmp_path)
    assert store.options == [{"start": 3}] * 3
    assert store.lengths.tolist() == [8, 8, 8]
    assert store.metadata["provenance"]["memory"]["preset"] == "fast_only"


def test_a_start_of_digits_that_make_no_number_is_refused_as_the_path_that_it_is(toy: str, tmp_path: Path) -> None:
    with pytest.raises(StartError, match="got '²' as a start, and there is no such file"):
        export_dataset(config(toy, tmp_path, starts=["²"]), progress=False)


def test_several_actions_at_once_load_back_in_both_formats(tmp_path: Path) -> None:
    parts = {name: part for name, part in DICT.parts.items() if name != "say"}
    toy_world(actions=type(DICT)(parts=parts)).save_pretrained(tmp_path / "hands")
    stores = []
    for kind in ("minari", "lerobot"):
        out = tmp_path / kind
        export_dataset(config(str(tmp_path / "hands"), out, format=kind, use_videos=False), progress=False)
        stores.append(EpisodeStore.open(out))
    assert stores[0].action_space == stores[1].action_space
    for index in range(3):
        assert np.array_equal(stores[0].episode(index).actions, stores[1].episode(index).actions)
        assert np.array_equal(stores[0].episode(index).frames, stores[1].episode(index).frames)


def test_an_agent_of_sb3_and_a_script_may_act_and_are_known_by_their_checksums(toy: str, tmp_path: Path) -> None:
    agent = PPO("CnnPolicy", WorldEnv(toy, obs="frames"), device="cpu", n_steps=8, batch_size=8)
    agent.save(tmp_path / "agent.zip")
    (tmp_path / "moves.json").write_text("[[2, 1]]")
    policies = {f"sb3:{tmp_path}/agent.zip": 1.0, f"scripted:{tmp_path}/moves.json": 1.0}
    settings = config(toy, tmp_path / "out", policies=policies, episodes=6)
    export_dataset(settings, factories={"sb3": sb3_agent}, progress=False)
    store = EpisodeStore.open(tmp_path / "out")
    assert set(store.policies) == set(policies)
    script = hashlib.sha256((tmp_path / "moves.json").read_bytes()).hexdigest()
    assert store.metadata["provenance"]["policy_files"][f"{tmp_path}/moves.json"] == script
    for index, policy in enumerate(store.policies):
        episode = store.episode(index)
        if policy.startswith("scripted"):
            assert set(episode.actions) == {2}
        elif len(episode) == 8:
            seen = np.concatenate(list(episode.frames[1:5]), axis=-1)
            assert set(episode.actions[4:]) == {int(agent.predict(seen, deterministic=True)[0])}


@pytest.mark.parametrize(
    "wrong",
    [{"format": "rlds"}, {"episodes": 0}, {"rows": 0}, {"seed": -1}, {"policies": {}}, {"crf": 52}, {"max_steps": 0}],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ExportConfig(world="toy", out="out", **wrong)


def test_the_folder_is_named_after_world_and_format(tmp_path: Path) -> None:
    """Folders of trained worlds are all called export."""
    toy_world().save_pretrained(tmp_path / "teacher" / "export")
    for world, name in ((f"{tmp_path}/teacher/export/", "toy"), ("panorama", "panorama")):
        command = ExportCommand(world=world, policies=["turn"], format="lerobot")
        assert command.config().out == f"datasets/generated/{name}_lerobot"


def test_the_command_line_reaches_the_export(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    out = tmp_path / "out"
    arguments = [f"world={toy}", "format=lerobot", "episodes=2", "max_steps=1", "policies=[random@1.0]", "starts=[1,2]"]
    cli.main(["export", *arguments, f"out={out}"])
    assert json.loads((out / "figures.json").read_text())["episodes"] == 2
    assert (out / "config.yaml").is_file()
    assert {options["start"] for options in EpisodeStore.open(out).options} <= {1, 2}


@pytest.mark.parametrize(
    "wrong",
    [
        {"policies": {"foo": 1.0}},
        {"policies": {"noop:whatever": 1.0}},
        {"policies": {"random": 1.0, "sb3:nowhere.zip": 0.0}},
        {"starts": ["1000000"]},
        {"max_steps": 0},
        {"ends": "soon"},
        {"truncate_above": 3.0},
    ],
    ids=str,
)
def test_what_was_refused_leaves_a_folder_in_which_the_right_settings_succeed(
    toy: str, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises((ConfigError, StartError)):
        export_dataset(config(toy, tmp_path / "out", **wrong), progress=False)
    assert not (tmp_path / "out").exists()
    export_dataset(config(toy, tmp_path / "out", episodes=1, policies={"random": 1.0}), progress=False)
    assert len(EpisodeStore.open(tmp_path / "out")) == 1


def test_another_script_of_the_same_name_is_not_mixed_in(toy: str, tmp_path: Path) -> None:
    script, out = tmp_path / "moves.json", tmp_path / "out"
    script.write_text("[[1, 4]]")
    settings = {"policies": {f"scripted:{script}": 1.0}, "shard_episodes": 1}
    export_dataset(config(toy, out, episodes=1, **settings), progress=False)
    script.write_text("[[2, 4]]")
    with pytest.raises(ConfigError, match=r"other settings \(policy_files"):
        export_dataset(config(toy, out, episodes=2, **settings), progress=False)


def test_data_from_before_files_were_told_apart_are_gone_on_with(toy: str, tmp_path: Path) -> None:
    """Exports used to record scripts, but no agents."""
    script, out = tmp_path / "moves.json", tmp_path / "out"
    script.write_text("[[1, 4]]")
    settings = {"policies": {f"scripted:{script}": 1.0}, "shard_episodes": 1}
    export_dataset(config(toy, out, episodes=1, **settings), progress=False)
    recorded = json.loads((out / "collection.json").read_text())
    (out / "collection.json").write_text(json.dumps(recorded | {"policy_files": {}}))
    assert export_dataset(config(toy, out, episodes=2, **settings), progress=False)["episodes"] == 2


def test_the_planner_acts_in_the_world_that_is_exported(toy: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"policies": {"planner": 1.0}, "episodes": 1, "rows": 1, "max_steps": 1}
    export_dataset(config(toy, tmp_path, **settings), progress=False)
    assert EpisodeStore.open(tmp_path).policies == ["planner"]
