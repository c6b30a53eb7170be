import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cfworld.cli.evaluate import evaluate
from cfworld.errors import ConfigError
from cfworld.metrics import evaluation
from cfworld.metrics.bootstrap import Interval
from cfworld.metrics.continuation import ContinuationConfig
from cfworld.metrics.control import ControlConfig
from cfworld.metrics.drift import DriftConfig
from cfworld.metrics.evaluation import METRICS, EvaluateConfig, baseline_titles, check_baseline, judge
from cfworld.metrics.fidelity import FidelityConfig
from cfworld.metrics.judgement import Judgement, Table
from cfworld.metrics.novelty import NoveltyConfig
from cfworld.metrics.probe import ProbeConfig
from cfworld.metrics.promotions import PromotionsConfig
from cfworld.metrics.report import markdown
from cfworld.metrics.rollouts import endless
from cfworld.metrics.routes import RecallConfig
from cfworld.metrics.survival import SurvivalConfig
from cfworld.model import ActionConfig
from cfworld.world import Ends, Novelty
from tests.toy import toy_world


def small(**changes: object) -> EvaluateConfig:
    settings = {
        "world": "toy",
        "starts": 2,
        "prefix_latents": 2,
        "fidelity": FidelityConfig(seconds=[0.4]),
        "drift": DriftConfig(seconds=[1.6], every=0.8, starts=2),
        "survival": SurvivalConfig(policies=["sticky"], starts=2, max_ticks=32),
        "recall": RecallConfig(away=[1.6], full_turn=False, starts=2),
        "probe": ProbeConfig(seconds=2.0, starts=2),
        "promotions": PromotionsConfig(seconds=2.0, starts=2),
        "novelty": NoveltyConfig(seconds=0.8, starts=2, ages=[0.8]),
    }
    return EvaluateConfig(**(settings | changes))  # pyright: ignore[reportArgumentType]


def test_the_command_writes_report_plots_and_film_strips(tmp_path: Path):
    world = toy_world()
    world.novelty = Novelty(layers=(0,), offset=torch.zeros(24), before=torch.eye(24), after=torch.eye(24))
    world.save_pretrained(tmp_path / "world")
    out = tmp_path / "out"
    evaluate(small(world=str(tmp_path / "world"), out=str(out), controls=["freeze"], baseline=str(tmp_path / "world")))
    report = json.loads((out / "report.json").read_text())
    expected = {"fidelity", "control", "heads", "drift_1.6s", "survival", "recall", "probe", "promotions", "novelty"}
    assert set(report["metrics"]) == expected
    assert set(report["bars"]["fidelity"]) == {"world", "baseline", "freeze"}
    assert len(report["about"]["checksums"]) == 2
    page = (out / "report.md").read_text()
    pictures = {path.name for path in out.glob("*.png")}
    assert {
        "fidelity.png",
        "fidelity_0.png",
        "control.png",
        "drift_0.png",
        "survival.png",
        "recall.png",
        "promotions.png",
        "novelty.png",
    } <= pictures
    assert all(f"({name})" in page for name in pictures)
    assert (out / "config.yaml").is_file()


def test_an_interruption_loses_the_metric_under_way_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "run_drift", interrupted)
    toy_world().save_pretrained(tmp_path / "world")
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        evaluate(small(world=str(tmp_path / "world"), out=str(out), metrics=["fidelity", "drift"]))
    assert set(json.loads((out / "report.json").read_text())["metrics"]) == {"fidelity"}
    assert "(fidelity.png)" in (out / "report.md").read_text()
    assert (out / "fidelity.png").is_file()


def test_a_world_is_its_own_equal_baseline():
    world = toy_world()
    judged = list(judge({"world": world, "baseline": world}, small(metrics=["fidelity", "heads"])))
    assert [judgement.metric for judgement in judged] == ["fidelity", "heads"]
    predictors = judged[0].figures["predictors"]
    assert predictors["world"] == predictors["baseline"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "cfworld/DoomTakeCoverReal-v0"}, "source=cfworld/DoomTakeCoverReal-v0; expected cfworld/Panorama"),
        ({"actions": ActionConfig(num_actions=5)}, "actions=.*num_actions=5.*; expected .*num_actions=3"),
        ({"fps": 7}, "fps=7; expected 10"),
    ],
)
def test_a_baseline_of_another_twin_is_refused(changes: dict, message: str):
    ours = toy_world().config
    check_baseline(ours, replace(ours))
    with pytest.raises(ConfigError, match=f"the world of baseline= has {message}"):
        check_baseline(ours, replace(ours, **changes))
    with pytest.raises(ConfigError, match=f"the world of continuation.student= has {message}"):
        check_baseline(ours, replace(ours, **changes), given="continuation.student")


def test_the_command_refuses_a_baseline_of_another_twin_before_it_writes(tmp_path: Path):
    toy_world().save_pretrained(tmp_path / "world")
    toy_world(source="cfworld/DoomTakeCoverReal-v0").save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match="trained for the same twin"):
        evaluate(small(world=str(tmp_path / "world"), baseline=str(tmp_path / "other"), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_the_command_refuses_to_continue_a_student_of_another_twin(tmp_path: Path):
    toy_world().save_pretrained(tmp_path / "world")
    student = toy_world(source="cfworld/DoomTakeCoverReal-v0")
    student.variant = "student"
    student.save_pretrained(tmp_path / "student")
    continuation = ContinuationConfig(student=str(tmp_path / "student"), ages=[0.8], seconds=0.4, starts=2)
    changes = {"metrics": ["continuation"], "continuation": continuation, "out": str(tmp_path / "out")}
    with pytest.raises(ConfigError, match=r"the world of continuation\.student= has source="):
        evaluate(small(world=str(tmp_path / "world"), **changes))


def test_the_command_lets_a_world_continue_a_student(tmp_path: Path):
    world, student = toy_world(), toy_world()
    student.variant = "student"
    world.save_pretrained(tmp_path / "teacher")
    student.save_pretrained(tmp_path / "student")
    continuation = ContinuationConfig(student=str(tmp_path / "student"), ages=[0.8], seconds=0.4, starts=2)
    changes = {"metrics": ["continuation"], "continuation": continuation, "out": str(tmp_path / "out")}
    evaluate(small(world=str(tmp_path / "teacher"), variant="teacher", **changes))
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert set(report["metrics"]["continuation"]["continuations"]) == {"world", "student itself"}


def test_the_command_judges_a_world_with_another_memory_against_its_own(tmp_path: Path):
    toy_world().save_pretrained(tmp_path / "world")
    world, out = str(tmp_path / "world"), tmp_path / "out"
    evaluate(small(world=world, baseline=world, memory="fast_only", metrics=["probe"], out=str(out)))
    report = json.loads((out / "report.json").read_text())
    assert report["about"]["memory"] == "fast_only (sink 0, slow 0, fast 7, bounded positions)"
    assert "- memory: fast_only (sink 0" in (out / "report.md").read_text()
    kinds = {name: {slot["kind"] for slot in slots} for name, slots in report["metrics"]["probe"]["slots"].items()}
    assert kinds == {"world": {"fast"}, "baseline": {"sink", "slow", "fast"}}


@pytest.mark.parametrize(
    ("metric", "settings"),
    [("survival", SurvivalConfig(policies=["sticky", "nobody"])), ("promotions", PromotionsConfig(policy="nobody"))],
)
def test_a_policy_that_is_unknown_is_refused_before_anything_is_measured(metric: str, settings: object):
    config = small(metrics=["control", metric], **{metric: settings})
    with pytest.raises(ConfigError, match="policy 'nobody' is unknown"):
        judge({"world": toy_world()}, config)


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("config", "name", "several"),
    [
        (FidelityConfig, "seconds", True),
        (ControlConfig, "seconds", False),
        (DriftConfig, "seconds", True),
        (DriftConfig, "every", False),
        (RecallConfig, "away", True),
        (ProbeConfig, "seconds", False),
        (PromotionsConfig, "seconds", False),
        (ContinuationConfig, "ages", True),
        (ContinuationConfig, "seconds", False),
        (NoveltyConfig, "ages", True),
        (NoveltyConfig, "seconds", False),
    ],
)
def test_times_before_the_start_or_after_all_time_are_refused(config: type, name: str, several: bool, wrong: float):
    with pytest.raises(ConfigError, match=rf"{name}( is |=)\[?{wrong}.*; expected"):
        config(**{name: [wrong] if several else wrong})


def test_one_baseline_is_called_so_and_several_by_what_tells_their_folders_apart():
    assert baseline_titles([]) == {}
    assert baseline_titles(["runs/a/export"]) == {"baseline": "runs/a/export"}
    paths = ["runs/fast/export", "runs/sink/export", "other/fast/export"]
    assert list(baseline_titles(paths)) == ["baseline fast", "baseline sink", "baseline other/fast"]
    assert list(baseline_titles(paths).values()) == paths
    assert len(baseline_titles(["a", "a"])) == 2


def test_baselines_are_given_as_one_name_or_a_list_or_under_names_of_their_own():
    assert EvaluateConfig(world="w").baselines == {}
    assert EvaluateConfig(world="w", baseline="a").baselines == {"baseline": "a"}
    assert EvaluateConfig(world="w", baseline=["a", "b"]).baselines == {"baseline a": "a", "baseline b": "b"}
    assert EvaluateConfig(world="w", baseline={"window of 23": "runs/b"}).baselines == {"window of 23": "runs/b"}
    for wrong in ([1], 1, [""], {"window": 1}, {"window": ""}, {23: "runs/b"}):
        with pytest.raises(ConfigError, match="or a list of them"):
            EvaluateConfig(world="w", baseline=wrong)
    with pytest.raises(ConfigError, match="baselines called twin, freeze, as something else"):
        EvaluateConfig(world="w", baseline={"twin": "a", "window of 23": "b", "freeze": "c"})


def test_a_baseline_is_set_against_the_world_under_its_own_name():
    world = toy_world(source="cfworld/PanoramaReal-v0")
    config = small(metrics=["recall"], baseline={"window of 23": "runs/b"})
    (judged,) = judge({"world": world, "window of 23": world}, config)
    assert judged.figures["floor"] == ["window of 23"]


def test_metrics_that_the_twin_does_not_allow_are_refused():
    world = toy_world(source="cfworld/DoomTakeCoverReal-v0")
    with pytest.raises(ConfigError, match="recall"):
        judge({"world": world}, small(metrics=["recall"]))


def test_a_world_without_a_twin_is_refused():
    with pytest.raises(ConfigError, match="expected the id of a twin"):
        judge({"world": toy_world(source="my_videos")}, small())


def test_endless_worlds_never_end_and_leave_the_world_alone():
    world = toy_world()
    lasting = endless(world)
    assert lasting.config.ends is Ends.NEVER
    assert world.config.ends is Ends.SAMPLED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metrics": ["beauty"]}, "metrics=\\['beauty'\\]; expected some of fidelity"),
        ({"metrics": []}, "got no metrics"),
        ({"metrics": ["continuation"]}, "continuation without continuation.student="),
        ({"baseline": {"student itself": "toy"}}, "student itself"),
        ({"controls": ["melt"]}, "controls=\\['melt'\\]"),
        ({"starts": 0}, "starts=0"),
        (
            {"control": ControlConfig(starts=3)},
            "control.starts=3 with starts=2; .* give starts=3",
        ),
        ({"seed": 5}, "smaller ones are for training"),
    ],
)
def test_wrong_settings_are_explained(changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        small(**changes)


def test_the_metrics_are_those_that_the_design_names():
    assert METRICS[:7] == ("fidelity", "control", "heads", "drift", "survival", "recall", "probe")


def test_the_page_begins_with_what_was_judged_and_how():
    about = {"world": "toy", "baselines": {"window of 23": "runs/a", "fast": "runs/b"}, "controls": None, "seed": 3}
    page = markdown(about, [])
    assert page.startswith(
        "# Evaluation of toy\n\n- world: toy\n- baselines: window of 23: runs/a, fast: runs/b\n- seed: 3\n\nFigures"
    )


def test_cells_show_intervals_numbers_and_what_is_missing():
    row = ["world", Interval(mean=1.234, low=1.0, high=1.5, count=3), 0.012345, 512, None, np.nan]
    table = Table(title="T", columns=["", "a", "b", "c", "d", "e"], rows=[row])
    judgement = Judgement(metric="m", figures={}, bars={"world": {"high enough": True, "low": None}}, tables=[table])
    page = markdown({"world": "toy"}, [judgement])
    assert "| world | 1.23 [1.00, 1.50] | 0.012 | 512 | - | - |" in page
    assert "| high enough | passed |" in page
    assert "| low | not measurable |" in page
