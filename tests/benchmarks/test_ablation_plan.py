import json
from dataclasses import replace
from pathlib import Path
from signal import SIGTERM
from subprocess import CalledProcessError
from threading import Barrier, Event
from typing import Any

import hydra
import pytest
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

pytest.importorskip("benchmarks.ablation")  # it lies beside the package, and is not installed with it

from benchmarks.ablation import settings
from benchmarks.ablation.config import AblationConfig, Steps
from benchmarks.ablation.execute import DONE, Commands, execute_all
from benchmarks.ablation.horizons import horizons
from benchmarks.ablation.plan import Run, plan, planned_horizons
from benchmarks.ablation.variants import FULL, TEACHER, TEACHER_WITHOUT_ERFT
from cfworld import files
from cfworld.metrics.evaluation import EvaluateConfig
from cfworld.metrics.progress import silent_bar

pytestmark = pytest.mark.sources

PANORAMA = {
    "memory": {"num_sink": 2, "num_slow": 8, "num_fast": 7, "consolidate_every": 6},
    "tokenizer": {"frames_per_latent": 4},
    "fps": 10,
}
"""It spans 2 + 7 + 8 x 6 = 57 chunks of 0.4 s."""


def overrides(run: Run) -> dict[str, str]:
    return dict(argument.split("=", 1) for argument in run.arguments[1:])


def compose_evaluation(*arguments: str) -> EvaluateConfig:
    """What `cfworld evaluate` makes of its arguments: no group of the training may stand beside it."""
    store, kept = ConfigStore.instance(), dict(ConfigStore.instance().repo)
    store.repo.pop("world", None)
    try:
        store.store(name="evaluate", node=EvaluateConfig)
        with hydra.initialize(config_path=None, version_base="1.3"):
            config = OmegaConf.to_object(hydra.compose("evaluate", list(arguments)))
    finally:
        store.repo.clear()
        store.repo.update(kept)
    assert isinstance(config, EvaluateConfig)
    return config


def compose_command(run: Run) -> Any:
    command, *arguments = run.arguments
    return settings.composed(*arguments) if command == "train" else compose_evaluation(*arguments)


def settings_of(run: Run) -> set[str]:
    """What a command sets, and of groups and choices which one it takes; a path is like any other."""
    named = (name if "." in name or "/" in value else f"{name}={value}" for name, value in overrides(run).items())
    return {f"{run.arguments[0]} {setting}" for setting in named}


def test_every_setting_of_the_planned_commands_composes():
    composed: set[str] = set()
    for run in plan(AblationConfig(seeds=[0])):
        if not settings_of(run) <= composed:
            assert compose_command(run)
            composed |= settings_of(run)


def test_a_misspelt_override_does_not():
    misspelt = {"train": ["stage.loop.batchsize=2"], "evaluate": ["recall.awaay=[4]"]}
    for run in plan(
        AblationConfig(seeds=[0], variants=["full"], train=misspelt["train"], evaluate=misspelt["evaluate"])
    ):
        with pytest.raises(HydraException):
            compose_command(run)


@pytest.mark.parametrize(
    "given",
    [
        {"train": ["stage.nonsense=1"]},
        {"train": ["context:stage.loop.batchsize=2"]},
        {"evaluate": ["recall.awaay=[4]"]},
        {"continuation": ["continuation.starts=many"]},
    ],
)
def test_misspelt_overrides_are_told_before_anything_runs(given: dict[str, Any]):
    with pytest.raises((HydraException, OmegaConfBaseException)):
        settings.check_overrides(AblationConfig(**given))


def test_what_is_given_for_one_stage_is_composed_for_that_one_alone():
    settings.check_overrides(AblationConfig(train=["context:stage.curriculum.last=8", "stage.loop.batch_size=2"]))


def test_rollouts_outlast_the_memory_and_twenty_seconds_within_the_budget():
    found = horizons(PANORAMA, steps=300)
    assert (found.span, found.last, found.ramp_steps) == (57, 86, 150)
    assert found.outlasts
    assert "grows to 86 chunks (34.4 s) over 150 steps" in found.note
    short = {**PANORAMA, "memory": {**PANORAMA["memory"], "consolidate_every": 1}}
    assert horizons(short, steps=300).span == 50  # 20 s, more than 2 + 7 + 8 chunks
    assert horizons(PANORAMA, steps=100).outlasts
    hopeless = horizons(PANORAMA, steps=40)
    assert not hopeless.outlasts
    assert "40 steps are too few" in hopeless.note


def test_the_budget_sets_the_curriculum_and_where_errors_begin():
    config = AblationConfig(seeds=[0], variants=["full"], steps=Steps(teacher=500, init=90, context=200))
    given = {overrides(run)["stage"]: overrides(run) for run in plan(config) if not run.variant}
    assert given["context"]["stage.curriculum.last"] == str(planned_horizons(config).last)
    assert int(given["context"]["stage.curriculum.ramp_steps"]) + 57 < 200
    assert given["teacher"]["stage.erft.start_step"] == "50"
    assert given["init"]["stage.erft.start_step"] == "9"
    long = AblationConfig(seeds=[0], variants=["full"], steps=Steps(teacher=9000))
    assert overrides(plan(long)[0])["stage.erft.start_step"] == "300"


def test_short_teachers_were_trained_with_fast_memory_only_and_begin_as_the_full_method():
    runs = plan(AblationConfig(seeds=[0], variants=["full", "self_forcing", "longlive"]))
    (fast,) = (run for run in runs if overrides(run).get("world.memory.num_sink") == "0")
    init = next(run for run in runs if overrides(run).get("stage") == "init")
    for title in ("Self-Forcing", "LongLive"):
        local, context = (run for run in runs if title in run.title and overrides(run).get("stage") in settings.SCORED)
        assert overrides(local)["stage.teacher"] == overrides(context)["stage.teacher"] == str(fast.folder / "export")
        assert overrides(local)["stage.student"] == str(init.folder / "export")
    full = next(run for run in runs if run.title == "full, seed 0: context")
    assert overrides(full)["stage.teacher"] == overrides(init)["stage.teacher"] != str(fast.folder / "export")


def test_without_erft_neither_teacher_nor_initialisation_sees_errors():
    runs = plan(AblationConfig(seeds=[0], variants=["without_erft", TEACHER, TEACHER_WITHOUT_ERFT, FULL]))
    clean = [run for run in runs if overrides(run).get("stage.erft.probability") == "0"]
    assert [overrides(run)["stage"] for run in clean] == ["teacher", "init"]  # the teacher is shared


def test_other_settings_data_or_tokenizers_are_other_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "tokenizer").mkdir()
    weights = tmp_path / "tokenizer" / "tokenizer.safetensors"
    weights.write_text("one")
    config = AblationConfig(seeds=[0], variants=["full"], tokenizer=str(tmp_path / "tokenizer"))
    before = {run.folder for run in plan(config)}
    assert {run.folder for run in plan(config)} == before
    weights.write_text("two")
    settings.folder_digest.cache_clear()
    after = {run.folder for run in plan(config)}
    assert not before & after
    recorded = tmp_path / "mine" / "metadata.json"
    recorded.parent.mkdir()
    for key in ("data=lerobot:", "data=minari:", "world.imported="):
        for text in ("one", "two"):
            recorded.write_text(text)
            settings.folder_digest.cache_clear()
            ours = {run.folder for run in plan(replace(config, train=[f"{key}{recorded.parent}"]))}
            assert not after & ours
            after |= ours
    composed = settings.composed

    def edited(*given: str) -> dict[str, Any]:
        """The files say another batch size."""
        found = json.loads(json.dumps(composed(*given), default=str))
        found["stage"]["loop"]["batch_size"] += 1
        return found

    monkeypatch.setattr(settings, "composed", edited)
    assert not after & {run.folder for run in plan(config)}


def test_minutes_of_a_resumed_training_are_those_of_all_its_parts(tmp_path: Path):
    run = Run(title="a training", arguments=("train",), folder=tmp_path / "run")
    execute_all([run], lambda run: files.write_json(run.folder / "figures.json", {"minutes": 12.5}), silent_bar)
    assert json.loads((run.folder / DONE).read_text())["minutes"] == 12.5


def test_as_many_runs_are_made_at_a_time_as_there_are_workers_each_after_what_it_needs(tmp_path: Path):
    def run(name: str, *needs: str) -> Run:
        arguments = ("train", *(f"stage.teacher={tmp_path / need / 'export'}" for need in needs))
        return Run(title=name, arguments=arguments, folder=tmp_path / name)

    pair, making, made = Barrier(2), set[str](), list[str]()

    def execute(run: Run) -> None:
        making.add(run.title)
        pair.wait(timeout=30)  # nobody comes alone
        assert len(making) == 2
        pair.wait(timeout=30)
        making.discard(run.title)
        made.append(run.title)
        pair.wait(timeout=30)

    runs = [run("a"), run("b", "a"), run("c"), run("d"), run("e", "a", "c"), run("f", "d")]
    outcome = execute_all(runs, execute, silent_bar, workers=2)
    assert [run.title for run in outcome.made] == ["a", "b", "c", "d", "e", "f"]
    assert [set(made[i : i + 2]) for i in (0, 2, 4)] == [{"a", "c"}, {"b", "d"}, {"e", "f"}]


def test_what_needs_a_failed_run_is_left_out_and_the_rest_is_made(tmp_path: Path):
    def run(name: str, need: str = "") -> Run:
        needs = (f"stage.teacher={tmp_path / need / 'export'}",) if need else ()
        return Run(title=name, arguments=("train", *needs), folder=tmp_path / name)

    def execute(run: Run) -> None:
        if run.title == "a":
            raise CalledProcessError(1, run.command)

    for workers in (1, 3):
        outcome = execute_all([run("a"), run("b", "a"), run("c", "b"), run("d")], execute, silent_bar, workers)
        assert [run.title for run in outcome.failed] == ["a", "b", "c"]
        assert [run.title for run in (outcome.made or outcome.skipped)] == ["d"]


def test_what_is_left_out_keeps_no_worker(tmp_path: Path):
    def run(name: str, need: str = "") -> Run:
        needs = (f"stage.teacher={tmp_path / need / 'export'}",) if need else ()
        return Run(title=name, arguments=("train", *needs), folder=tmp_path / name)

    free = Event()

    def execute(run: Run) -> None:
        if run.title == "bad":
            raise CalledProcessError(1, run.command)
        if run.title == "long":
            assert free.wait(timeout=30), "nobody else was made meanwhile"
        if run.title == "free":
            free.set()

    runs = [run("long"), run("bad"), run("b", "bad"), run("c", "b"), run("free")]
    outcome = execute_all(runs, execute, silent_bar, workers=2)
    assert [run.title for run in outcome.made] == ["long", "free"]


def test_an_error_that_nobody_foresaw_stops_what_is_being_made(tmp_path: Path):
    runs = [Run(title=name, arguments=("train",), folder=tmp_path / name) for name in "abc"]
    begun, stopped, made = Event(), Event(), list[str]()

    def execute(run: Run) -> None:
        if run.title == "a":
            assert begun.wait(timeout=30)
            raise ValueError("damaged")
        begun.set()
        assert stopped.wait(timeout=30)
        made.append(run.title)

    with pytest.raises(ValueError, match="damaged"):
        execute_all(runs, execute, silent_bar, workers=2, stop=stopped.set)
    assert made in (["b"], ["b", "c"]), "what was begun ends"


def test_a_command_that_begins_as_all_are_stopped_is_ended_too(tmp_path: Path):
    commands = Commands()
    commands.stop()
    with pytest.raises(CalledProcessError) as ended:
        commands(Run(title="late", arguments=("train",), folder=tmp_path / "late"))
    assert ended.value.returncode == -SIGTERM


def test_a_command_that_fails_says_why_in_its_log(tmp_path: Path):
    run = Run(title="no stage", arguments=("train", "stage=nonsense"), folder=tmp_path / "run")
    with pytest.raises(CalledProcessError):
        Commands()(run)
    assert "nonsense" in (tmp_path / "run.log").read_text()


def test_overrides_of_one_stage_reach_only_that_stage():
    config = AblationConfig(train=["stage.loop.batch_size=4", "teacher:stage.clip_latents=64", "init:stage.loop.lr=1"])
    assert config.overrides_of("teacher") == ["stage.loop.batch_size=4", "stage.clip_latents=64"]
    assert config.overrides_of("init") == ["stage.loop.batch_size=4", "stage.loop.lr=1"]
    assert config.overrides_of("context") == ["stage.loop.batch_size=4"]
