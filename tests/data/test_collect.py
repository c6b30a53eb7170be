import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from cfworld.cli import main as cli
from cfworld.cli.collect import CollectCommand, policy_weights
from cfworld.data import EpisodeStore, StoreWriter, collect
from cfworld.errors import CollectionError, ConfigError, DatasetError
from tests.data import fakes
from tests.data.toy_collection import SETTINGS, config, contents


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the settings give when one process collects them in one go."""
    folder = tmp_path_factory.mktemp("reference")
    collect(config(folder), progress=False)
    return contents(folder)


def test_seeds_policies_limits_and_god_follow_the_settings(tmp_path):
    collect(config(tmp_path, episodes=16, seed=1_000_000), progress=False)

    store = EpisodeStore.open(tmp_path)
    gods = [bool(options.get("god")) for options in store.options]
    assert store.seeds.tolist() == list(range(1_000_000, 1_000_016))
    assert set(store.policies) == {"turn", "sticky"}
    assert {True, False} == set(gods)
    assert all(length == 70 for length, god in zip(store.lengths, gods, strict=True) if god)
    assert all(length <= 50 for length, god in zip(store.lengths, gods, strict=True) if not god)
    assert store.episode(gods.index(True)).truncated
    assert store.source == "cfworld/PanoramaReal-v0"


def test_a_share_of_the_episodes_holds_its_actions(tmp_path):
    settings = {"policies": {"sticky": 1.0}, "god_share": 1.0, "episodes": 40, "god_max_ticks": 100}
    collect(config(tmp_path, hold_share=0.5, **settings), progress=False)
    store = EpisodeStore.open(tmp_path)
    steps = [store.episode(e).actions.reshape(25, 4) for e in range(40)]
    assert 13 <= sum((actions == actions[:, :1]).all() for actions in steps) <= 27


def test_an_environment_of_single_ticks_holds_actions_too(tmp_path):
    settings = {"env": "tests.data.fakes:fake/Counting-v0", "policies": {"random": 1.0}, "god_share": 0.0}
    collect(config(tmp_path, hold_share=1.0, hold_ticks=3, **settings), progress=False)
    actions = EpisodeStore.open(tmp_path).episode(0).actions
    held = actions[: len(actions) // 3 * 3].reshape(-1, 3, *actions.shape[1:])
    assert (held == held[:, :1]).all()
    assert len(np.unique(held)) > 1


def test_data_from_before_actions_could_be_held_are_gone_on_with(tmp_path, reference):
    collect(config(tmp_path, episodes=4), progress=False)
    assert "hold" not in (tmp_path / "collection.json").read_text()
    collect(config(tmp_path, hold_share=0.0), progress=False)
    assert contents(tmp_path) == reference
    with pytest.raises(ConfigError, match="hold_share"):
        collect(config(tmp_path, hold_share=0.5), progress=False)


def test_recorded_frames_actions_and_variables_belong_together(tmp_path):
    collect(config(tmp_path, policies={"sticky": 1.0}, episodes=1), progress=False)

    episode = EpisodeStore.open(tmp_path).episode(0)
    turned = np.diff(episode.variables["HEADING"])
    pan = np.array([0, -2, 2])[episode.actions]
    np.testing.assert_array_equal(turned % 256, pan % 256)
    np.testing.assert_array_equal((np.diff(episode.frames.astype(int), axis=0) != 0).any((1, 2, 3)), pan != 0)


def test_the_data_do_not_depend_on_the_number_of_workers(tmp_path, reference):
    collect(config(tmp_path, workers=2), progress=False)

    assert contents(tmp_path) == reference


def test_a_collection_stops_with_the_shard_that_reaches_the_ticks(tmp_path, reference):
    collect(config(tmp_path, episodes=0, ticks=130), progress=False)

    store = EpisodeStore.open(tmp_path)
    assert store.lengths.sum() >= 130 > store.lengths[:-2].sum()
    assert contents(tmp_path) == reference[: len(store)]


def test_a_larger_goal_adds_to_what_is_there(tmp_path, reference):
    collect(config(tmp_path, episodes=3), progress=False)
    before = (tmp_path / "data" / "shards" / "00000.hdf5").stat()
    figures = collect(config(tmp_path), progress=False)

    assert contents(tmp_path) == reference
    assert (tmp_path / "data" / "shards" / "00000.hdf5").stat() == before
    assert [run["ticks"] > 0 for run in figures["runs"]] == [True, True]


def test_a_complete_collection_is_left_as_it_is(tmp_path):
    first = collect(config(tmp_path), progress=False)

    assert collect(config(tmp_path), progress=False) == first
    assert json.loads((tmp_path / "figures.json").read_text()) == first
    assert (tmp_path / "contact_sheet.png").stat().st_size > 1000


SCRIPT = """
import sys
from cfworld.data import CollectConfig, collect
if __name__ == "__main__":
    collect(CollectConfig(**eval(sys.argv[1])), progress=False)
"""


@pytest.mark.parametrize(("sign", "workers"), [(signal.SIGKILL, 2), (signal.SIGINT, 1)])
def test_a_collection_that_was_killed_is_resumed_to_the_same_data(tmp_path, sign, workers):
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(SCRIPT)
    settings = SETTINGS | {"out": str(out), "episodes": 100_000, "workers": workers}
    process = subprocess.Popen(
        [sys.executable, str(script), repr(settings)],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs of a shell ignore it
    )
    deadline = time.monotonic() + 60
    while len(list(out.glob("data/shards/0*.hdf5"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    while process.poll() is None and time.monotonic() < deadline:  # a callback may swallow an interrupt
        process.send_signal(sign)
        time.sleep(0.5)
    process.kill()
    assert process.wait() != 0

    survivors = len(EpisodeStore.open(out)) if (out / "data" / "metadata.json").exists() else 0
    assert survivors < 100_000
    collect(config(out, episodes=40, workers=1), progress=False)
    collect(config(tmp_path / "whole", episodes=40), progress=False)
    assert contents(out) == contents(tmp_path / "whole")
    assert not list(out.rglob(".*-*"))


def test_hidden_files_beside_a_dataset_are_left_alone(tmp_path):
    for path in (tmp_path / ".python-version", tmp_path / "data" / ".git-keep", tmp_path / ".my-notes" / "thesis.txt"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    collect(config(tmp_path, episodes=1), progress=False)
    hidden = {path.name for path in tmp_path.rglob("*") if path.is_file() and path.name.startswith(".")}
    assert hidden == {".python-version", ".git-keep", ".lock"}
    assert (tmp_path / ".my-notes" / "thesis.txt").exists()


def test_other_settings_are_refused_in_the_same_folder(tmp_path):
    collect(config(tmp_path, episodes=1), progress=False)

    with pytest.raises(ConfigError, match=r"max_ticks: 60, before 50; seed: 5, before 0"):
        collect(config(tmp_path, max_ticks=60, seed=5), progress=False)


def test_after_a_run_that_recorded_nothing_other_settings_are_taken(tmp_path):
    failing = config(tmp_path, policies={"failing": 1.0}, episodes=1)
    with pytest.raises(ZeroDivisionError):
        collect(failing, factories={"failing": fakes.failing}, progress=False)
    collect(config(tmp_path, episodes=1, seed=5), progress=False)
    assert json.loads((tmp_path / "collection.json").read_text())["seed"] == 5


@pytest.mark.parametrize(("ticks", "counted"), [(1_000_000, "3/3 "), (120, "120/120 ")])
def test_the_progress_bar_counts_what_ends_the_collection(tmp_path, capsys, ticks, counted):
    collect(config(tmp_path, episodes=3, ticks=ticks))
    assert counted in capsys.readouterr().err.rpartition("\r")[2]


def test_a_folder_with_another_dataset_is_refused(tmp_path):
    collect(config(tmp_path, episodes=1), progress=False)
    (tmp_path / "collection.json").unlink()

    with pytest.raises(DatasetError, match="of another origin"):
        collect(config(tmp_path), progress=False)


def test_two_collections_in_one_folder_are_refused(tmp_path):
    collect(config(tmp_path, episodes=1), progress=False)
    store = EpisodeStore.open(tmp_path)
    writer = StoreWriter(
        tmp_path, observation_space=store.observation_space, action_space=store.action_space, source="x"
    )

    with writer.locked(), pytest.raises(DatasetError, match="another process is writing"):
        collect(config(tmp_path), progress=False)


def test_a_worker_that_dies_is_reported(tmp_path):
    settings = config(tmp_path, policies={"deadly": 1.0}, workers=2)

    expected = (
        r"a collecting worker died with exit code -9 .* finished shards are kept: run the same command again, with"
    )
    with pytest.raises(CollectionError, match=expected):
        collect(settings, factories={"deadly": fakes.deadly}, progress=False)


def test_simulators_do_not_keep_finished_shards_locked(tmp_path):
    settings = config(tmp_path, policies={"simulating": 1.0}, episodes=1, god_share=0.0, max_ticks=4)

    collect(settings, factories={"simulating": fakes.simulating}, progress=False)

    while fakes.SIMULATORS:
        simulator = fakes.SIMULATORS.pop()
        simulator.kill()
        simulator.wait()
    assert len(EpisodeStore.open(tmp_path)) == 1


def test_a_worker_that_fails_is_reported_with_its_traceback(tmp_path):
    settings = config(tmp_path, policies={"failing": 1.0}, workers=2)

    with pytest.raises(CollectionError, match="ZeroDivisionError: out of ideas"):
        collect(settings, factories={"failing": fakes.failing}, progress=False)


@pytest.mark.parametrize(
    ("env", "kwargs"), [("fake/Counting-v0", {}), ("fake/BlindCounting-v0", {"render_mode": "rgb_array"})]
)
def test_any_environment_with_frames_is_collected_step_by_step(tmp_path, env, kwargs):
    settings = {"env": f"tests.data.fakes:{env}", "policies": {"sticky": 1.0}, "god_share": 0.0}
    collect(config(tmp_path, **settings, env_kwargs=kwargs, episodes=1), progress=False)

    episode = EpisodeStore.open(tmp_path).episode(0)
    assert episode.frames[:, 0, 0, 0].tolist() == list(range(11))
    assert episode.terminated
    np.testing.assert_array_equal(episode.rewards, episode.actions[:, 0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"episodes": 0}, "got ticks=0 and episodes=0; expected one above 0, to know when to stop"),
        ({"workers": 0}, "got workers=0; expected an integer of at least 1"),
        ({"policies": {}}, r"got policies=\{\}; expected .* at least one above 0"),
        ({"policies": {"sticky": -1.0, "noop": 2.0}}, "weights >= 0"),
        ({"policies": {"sticky": 1e308, "noop": 1e308}}, "finite weights"),
        ({"policies": {"sticky": float("nan")}}, "finite weights"),
        ({"god_share": 1.5}, "a share from 0 to 1"),
        ({"hold_share": -0.1}, r"got hold_share=-0.1; expected a share from 0 to 1"),
        ({"hold_ticks": 0}, "hold_ticks=0; expected an integer of at least 1"),
        ({"env": "cfworld.envs:cfworld/NoSuchReal-v0"}, "is unknown"),
        ({"env": "no_such_module:Env-v0"}, "is unknown"),
        ({"env": "tests.data.fakes:fake/BlindCounting-v0"}, "render_mode=rgb_array"),
        ({"policies": {"swep": 1.0}}, "policy 'swep' is unknown"),
        ({"policies": {"noop:whatever": 1.0}}, "got noop:whatever; expected noop, which takes no argument"),
        ({"env_kwargs": {"foo": 3}}, r"got env_kwargs=\{'foo': 3\}, which env='.*PanoramaReal-v0' does not take"),
    ],
)
def test_settings_without_sense_are_refused(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        collect(config(tmp_path, **changes), progress=False)


def test_a_reward_that_is_no_number_is_not_recorded(tmp_path):
    settings = {"env": "tests.data.fakes:fake/Unrewarding-v0", "policies": {"random": 1.0}, "god_share": 0.0}
    with pytest.raises(DatasetError, match=r"episode 0 of fake/Unrewarding-v0 .*the reward of tick 2 is nan"):
        collect(config(tmp_path, **settings), progress=False)


def test_the_command_collects_a_shipped_world_by_its_preset(tmp_path, capsys):
    out = tmp_path / "eval"

    cli.main(["collect", "world=panorama", "split=eval", "episodes=2", "workers=1", f"out={out}"])

    store = EpisodeStore.open(out)
    assert store.seeds.tolist() == [1_000_000, 1_000_001]
    assert "2 episodes" in capsys.readouterr().out
    assert "god_share: 0.5" in (out / "config.yaml").read_text()


def test_the_command_records_another_environment_without_any_preset(tmp_path):
    arguments = ["env=tests.data.fakes:fake/Counting-v0", "split=eval", f"out={tmp_path}", "episodes=12", "workers=1"]
    cli.main(["collect", *arguments])

    store = EpisodeStore.open(tmp_path)
    assert store.options == [{}] * 12
    assert store.seeds[0] == 1_000_000
    settings = json.loads((tmp_path / "collection.json").read_text())
    assert settings["god_share"] == 0
    assert settings["policies"] == {"random": 0.3, "sticky": 0.7}


def test_another_environment_has_to_be_given_a_folder_and_a_limit(tmp_path):
    env = "tests.data.fakes:fake/Counting-v0"
    with pytest.raises(ConfigError, match="without out=; expected the folder"):
        CollectCommand(env=env, episodes=1).config()
    with pytest.raises(ConfigError, match="ticks=0 and episodes=0; expected one above 0"):
        CollectCommand(env=env, out=str(tmp_path)).config()
    with pytest.raises(ConfigError, match="got split=foo; expected one of train, eval"):
        CollectCommand(env=env, out=str(tmp_path), split="foo").config()


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("world=narnia", "got world=narnia; expected one of doom_take_cover, doom_rooms, panorama"),
        ("split=foo", "got split=foo; expected one of train, eval"),
        ("policies=[turn@much]", "got 'turn@much' in policies"),
        ("policies=[turn,turn@2]", "got 'turn' twice"),
        ("policies=['@0.5']", "got '@0.5' in policies; expected a policy, @ and a weight"),
        ("policies=[sb3:nowhere.zip@0.5]", "there is no agent 'nowhere.zip'"),
        ("policies=[nowhere.zip,sb3:nowhere.zip]", "got 'sb3:nowhere.zip' twice"),
        ("policies=[agent:nowhere]", "there is no agent 'nowhere'"),
        ("policies=[planner]", "got planner, which plans in a generated world, and there is none here"),
        ("policies=[nobody]", "policy 'nobody' is unknown; expected one of look_back, noop"),
    ],
)
def test_the_command_tells_what_it_knows_in_one_line(argument, said, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["collect", f"out={tmp_path / 'new'}", argument, *(["world=panorama"] if "pol" in argument else [])])
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("split", "seed", "warning"),
    [
        ("train", 999_999, "seeds up to 1000000 or beyond; evaluations draw theirs from 1000000 on"),
        ("eval", 999_999, "training draws its seeds below 1000000"),
        ("train", 999_998, None),
        ("eval", 1_000_000, None),
    ],
)
def test_the_command_warns_where_training_and_evaluation_would_share_seeds(tmp_path, recwarn, split, seed, warning):
    cli.main(
        ["collect", "world=panorama", f"split={split}", f"seed={seed}", "episodes=2", "workers=1", f"out={tmp_path}"]
    )

    assert EpisodeStore.open(tmp_path).seeds.tolist() == [seed, seed + 1]
    said = [str(entry.message) for entry in recwarn if entry.category is UserWarning]
    assert len(said) == bool(warning)
    assert not warning or (f"got seed={seed} with split={split}" in said[0] and warning in said[0])


def test_the_command_takes_policies_with_arguments(tmp_path):
    out, script = tmp_path / "out", tmp_path / "moves.json"
    script.write_text("[[2, 3], [0, 1]]")

    arguments = [f"policies=[scripted:{script}@0.5,turn@0]", "episodes=1", "max_ticks=8", "workers=1"]
    cli.main(["collect", "world=panorama", f"out={out}", *arguments])

    assert EpisodeStore.open(out).episode(0).actions.tolist() == [2, 2, 2, 0] * 2
    settings = json.loads((out / "collection.json").read_text())
    assert settings["policies"] == {f"scripted:{script}": 0.5, "turn": 0}


def test_a_policy_without_a_weight_weighs_1():
    assert policy_weights(["turn", "scripted:a=b@c.json@0.5"]) == {"turn": 1.0, "scripted:a=b@c.json": 0.5}


@pytest.mark.parametrize(
    ("world", "split", "recorded"),
    [
        (
            "doom_take_cover",
            "train",
            {"god_share": 0.25, "max_ticks": 2100, "god_max_ticks": 1050, "seed": 0, "shard_episodes": 8},
        ),
        (
            "doom_take_cover",
            "eval",
            {"god_share": 0.33, "max_ticks": 2100, "god_max_ticks": 2100, "seed": 1_000_000, "shard_episodes": 8},
        ),
        ("doom_rooms", "train", {"god_share": 0.25, "max_ticks": 2100, "god_max_ticks": 0, "seed": 0}),
        ("doom_rooms", "eval", {"god_share": 0.25, "max_ticks": 2100, "god_max_ticks": 0, "seed": 1_000_000}),
        ("panorama", "train", {"god_share": 0.5, "max_ticks": 512, "god_max_ticks": 0, "seed": 0}),
        ("panorama", "eval", {"god_share": 0.5, "max_ticks": 512, "god_max_ticks": 0, "seed": 1_000_000}),
    ],
)
def test_presets_record_the_settings_of_the_shipped_datasets(world, split, recorded):
    policies = {
        "doom_take_cover": {"noop": 0.05, "random": 0.25, "sticky": 0.45, "sweep": 0.25},
        "doom_rooms": {"round_trip": 0.45, "sticky": 0.2, "turn": 0.1, "wander": 0.25},
        "panorama": {"look_back": 0.2, "sticky": 0.35, "turn": 0.45},
    }
    found = CollectCommand(world=world, split=split).config().recorded()

    assert found["policies"] == policies[world]
    assert found["env_kwargs"] == {}
    assert {name: found[name] for name in recorded} == recorded
