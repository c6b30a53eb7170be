import json
import re
import subprocess
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

pytest.importorskip("benchmarks.ablation")  # it lies beside the package, and is not installed with it

from benchmarks.ablation.__main__ import read_config, run_ablation
from benchmarks.ablation.config import AblationConfig
from benchmarks.ablation.execute import DONE
from benchmarks.ablation.figures import across_seeds, contexts
from benchmarks.ablation.plan import Run, plan
from benchmarks.ablation.plot import write_plot
from benchmarks.ablation.variants import VARIANTS
from cfworld import files
from cfworld.errors import ConfigError
from cfworld.metrics.progress import silent_bar

pytestmark = pytest.mark.sources

RECALLED = {"fast_only": 0.2, "sink_and_fast": 0.4, "full": 0.9, "without_cdmd": 0.8, "uniform_1": 0.95}
"""What the fake evaluation finds after 4 s; after 8 s it finds half as much."""
TEACHERS = ["teacher", "teacher_without_erft"]


def interval(mean: float) -> dict[str, Any]:
    return {"mean": mean, "low": mean - 0.02, "high": mean + 0.02, "count": 8}


def report(recalled: float) -> dict[str, Any]:
    routes = {
        f"away for {seconds} s": {
            "world": {"recalled": interval(recalled * share), "psnr": interval(20.0), "moved": interval(1.0)},
            "tokenizer": {"recalled": interval(1.0), "psnr": interval(30.0)},
            "chance": {"recalled": interval(1 / 16), "psnr": interval(10.0)},
        }
        for seconds, share in ((4, 1.0), (8, 0.5))
    }
    routes["full turn"] = {"world": {"recalled": interval(recalled / 4)}}
    colours = {name: {"deviation": interval(-0.5)} for name in ("red", "green", "blue", "saturation")}
    energies = {name: {"ratio": interval(0.9)} for name in ("sharpness", "motion")}
    return {
        "metrics": {
            "recall": {"routes": routes, "away": {"away for 4 s": 4.0, "away for 8 s": 8.0}},
            "drift_60s": {"seconds": [60.0], "worlds": {"world": colours | energies}},
            "promotions": {"world": {"promotion_rate": interval(0.5), "nominal_span_seconds": 41.6}},
        }
    }


class FakeCommands:
    """Stands for `cfworld`: a training needs what it begins with, an evaluation what it judges."""

    def __init__(self, fail: str = "") -> None:
        self.made: list[Run] = []
        self.fail = fail

    def __call__(self, run: Run) -> None:
        for argument in run.arguments:
            _, _, value = argument.partition("=")
            assert not value.endswith("/export") or Path(value).is_dir(), f"{run.title} came before {value}"
        if self.fail and self.fail in run.title:
            raise subprocess.CalledProcessError(1, run.command)
        self.made.append(run)
        if run.continues:
            ages = {key: [interval(1.0 + 0.1 * run.seed), interval(2.0)] for key in ("distance", "sharpness", "motion")}
            made = {"ages": [0.0, 60.0], "continuations": {"world": ages, "baseline": ages, "student itself": ages}}
            files.write_json(run.folder / "report.json", {"metrics": {"continuation": made}})
        elif run.variant:
            files.write_json(run.folder / "report.json", report(RECALLED.get(run.variant, 0.5) + 0.01 * run.seed))
        else:
            (run.folder / "export").mkdir()


def config(tmp_path: Path, **changes: Any) -> AblationConfig:
    settings = {"variants": list(RECALLED), "work": str(tmp_path / "work"), "results": str(tmp_path / "results")}
    return AblationConfig(**(settings | changes))


def test_workers_make_runs_at_the_same_time(tmp_path: Path):
    pair, commands = Barrier(2), FakeCommands()

    def execute(run: Run) -> None:
        if "teacher" in run.folder.name and not run.variant:
            pair.wait(timeout=30)
        commands(run)

    assert run_ablation(config(tmp_path, variants=["teacher"], seeds=[0, 1], workers=2), execute, silent_bar) == 0


def overrides(run: Run) -> dict[str, str]:
    return dict(argument.split("=", 1) for argument in run.arguments[1:])


def test_variants_share_what_they_have_in_common():
    runs = plan(AblationConfig(seeds=[0], variants=["full", "without_cdmd", "self_forcing", "score_window_2"]))
    stages = [run.folder.name.split("_")[0] for run in runs if not run.variant]
    assert {stage: stages.count(stage) for stage in set(stages)} == {"teacher": 2, "init": 1, "local": 4, "context": 3}
    assert [run.variant for run in runs if run.variant] == ["full", "without_cdmd", "self_forcing", "score_window_2"]


def test_every_variant_has_the_same_budget_and_its_own_settings():
    runs = plan(AblationConfig(seeds=[0]))
    for run in runs:
        if run.arguments[0] == "train":
            steps = {"teacher": 600, "init": 150, "local": 150, "context": 300}[overrides(run)["stage"]]
            alone = "without CDMD" in run.title and overrides(run)["stage"] == "local"
            assert int(overrides(run)["stage.loop.steps"]) == (450 if alone else steps)
    of = {run.title: overrides(run) for run in runs}
    assert of["without bounded positions, seed 0: context"]["world.memory.positions"] == "ABSOLUTE"
    assert of["uniform slow memory, interval 2, seed 0: local"]["world.memory.consolidate_every"] == "2"
    assert of["teacher without ERFT, seed 0: teacher"]["stage.erft.probability"] == "0"
    assert of["short teacher, short student (Self-Forcing), seed 0: context"]["paradigm"] == "self_forcing"
    assert of["score window of 4 chunks, seed 0: context"]["stage.score_window"] == "4"


def test_seeds_have_nothing_in_common():
    first, second = (plan(AblationConfig(seeds=[seed], variants=["full"])) for seed in (0, 1))
    assert not {run.folder for run in first} & {run.folder for run in second}
    assert [overrides(run)["stage.loop.seed"] for run in second if not run.variant] == ["1"] * 4


def test_runs_are_made_in_order_once_and_never_again(tmp_path: Path):
    settings = config(tmp_path, seeds=[0, 1])
    first, second = FakeCommands(), FakeCommands()
    assert run_ablation(settings, first, silent_bar) == 0
    assert len({run.folder for run in first.made}) == len(first.made) == len(plan(settings))
    assert run_ablation(settings, second, silent_bar) == 0
    assert second.made == []


def test_an_interrupted_ablation_goes_on_with_what_is_left(tmp_path: Path):
    settings = config(tmp_path, seeds=[0])
    run_ablation(settings, FakeCommands(), silent_bar)
    lost = plan(settings)[-1]
    (lost.folder / DONE).unlink()
    again = FakeCommands()
    run_ablation(settings, again, silent_bar)
    assert again.made == [lost]


def test_another_budget_is_another_ablation(tmp_path: Path):
    first = {run.folder for run in plan(config(tmp_path))}
    longer = AblationConfig(variants=list(RECALLED), work=str(tmp_path / "work"), train=["stage.loop.batch_size=2"])
    assert not first & {run.folder for run in plan(longer)}


def test_what_stands_on_a_failed_run_is_left_out_and_the_rest_is_made(tmp_path: Path):
    settings = config(tmp_path, seeds=[0])
    commands = FakeCommands(fail="uniform slow memory, interval 1, seed 0: local")
    assert run_ablation(settings, commands, silent_bar) == 3  # local, context and the evaluation
    written = json.loads((tmp_path / "results" / "ablation.json").read_text())
    assert set(written["variants"]) == set(RECALLED) - {"uniform_1"}
    assert len(written["failed"]) == 3
    assert "interval 1, seed 0: local" in (tmp_path / "results" / "ablation.md").read_text()


def test_the_table_stands_beside_the_papers(tmp_path: Path):
    settings = config(tmp_path, seeds=[0, 1, 2])
    run_ablation(settings, FakeCommands(), silent_bar)
    page = (tmp_path / "results" / "ablation.md").read_text()
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in page.splitlines() if line.startswith("| ")}
    # 0.90, 0.91, 0.92 after 4 s and half of it after 8 s: 0.6825 +- 4.303 x 0.0075 / sqrt(3)
    assert "| 3 | 4.00 [4.00, 4.00] | 0.68 [0.66, 0.70] | 20.00" in page
    assert "82.45 | 95.34 | 94.88 | 58.26" in page
    assert "| recall after (s) | 4 | 8 | a full turn |" in page
    assert re.search(r"^\| full \| 0\.91 \| 0\.4[56] \| 0\.23 \|$", page, re.MULTILINE)
    assert (tmp_path / "results" / "ablation.png").read_bytes().startswith(b"\x89PNG")
    assert {"full", "without CDMD (Stage 1 alone)", "uniform slow memory, interval 1"} <= set(rows)
    assert "Other than in the paper, uniform slow memory, interval 1 is above full" in page
    assert "Other than in the paper, without CDMD (Stage 1 alone) is above" not in page
    written = json.loads((tmp_path / "results" / "ablation.json").read_text())
    assert written["variants"]["full"]["summary"]["effective_context"]["count"] == 3
    assert set(written["variants"]["full"]["seeds"]) == {"0", "1", "2"}


def test_a_single_seed_tells_no_order(tmp_path: Path):
    run_ablation(config(tmp_path, seeds=[0]), FakeCommands(), silent_bar)
    page = (tmp_path / "results" / "ablation.md").read_text()
    assert "uniform slow memory, interval 1 is above full: one seed has no interval." in page


def test_where_nothing_was_recalled_there_is_no_picture(tmp_path: Path):
    (tmp_path / "old.png").write_bytes(b"of another table")
    write_plot(tmp_path / "old.png", {"full": {0: {"recall": {}}}})
    assert not (tmp_path / "old.png").exists()


def test_teachers_with_and_without_erft_continue_the_full_methods_student(tmp_path: Path):
    settings = config(tmp_path, seeds=[0, 1], variants=["full", *TEACHERS])
    runs = plan(settings)
    (first, second) = (run for run in runs if run.continues)
    full, teacher, without = (
        next(run for run in runs if run.variant == name and run.seed == 0) for name in ["full", *TEACHERS]
    )
    given = overrides(first)
    assert given["continuation.student"] == overrides(full)["world"]
    assert (given["world"], given["baseline"]) == (overrides(teacher)["world"], overrides(without)["world"])
    assert second.seed == 1
    run_ablation(settings, FakeCommands(), silent_bar)
    page = (tmp_path / "results" / "ablation.md").read_text()
    assert "| teacher without ERFT | 0 | 1.05 [" in page
    assert "| student itself | 60 | 2.00 [2.00, 2.00] |" in page


def test_the_effective_context_is_set_against_the_best_baseline():
    def found(at_4: float, at_8: float, moved: float = 1.0) -> dict[str, Any]:
        others = {"ceiling": interval(1.0), "chance": interval(0.06), "moved": interval(moved)}
        return {"recall": {4.0: {"recalled": interval(at_4)} | others, 8.0: {"recalled": interval(at_8)} | others}}

    reached = contexts({"fast_only": found(0.6, 0.1), "sink_and_fast": found(0.2, 0.5), "full": found(0.9, 0.7)})
    assert reached == {"fast_only": 4.0, "sink_and_fast": 0.0, "full": 4.0}
    assert contexts({"full": found(0.9, 0.7)}) == {"full": 8.0}  # against chance
    assert contexts({"full": found(0.9, 0.7, moved=0.4)}) == {"full": 0.0}, "who has not left does not return"


def test_intervals_over_seeds_are_students():
    found = across_seeds([1.0, 2.0, 3.0])
    assert found.mean == 2
    assert found.high - found.mean == pytest.approx(4.303 / np.sqrt(3))
    assert np.isnan(across_seeds([1.0]).low)
    assert across_seeds([1.0, None, 3.0]).count == 2


def test_arguments_are_read_and_checked():
    settings = read_config(["world=doom_rooms", "seeds=[4,5,6]", "steps.local=7", "variants=[full]"])
    assert (settings.world, settings.seeds, settings.steps.local, settings.chosen) == (
        "doom_rooms",
        [4, 5, 6],
        7,
        ["full"],
    )
    with pytest.raises(ConfigError, match="expected some of fast_only"):
        AblationConfig(variants=["nothing"])
    with pytest.raises(ConfigError, match="different ones"):
        AblationConfig(seeds=[1, 1])
    with pytest.raises(ConfigError, match="workers=0; expected an integer of at least 1"):
        AblationConfig(workers=0)
    with pytest.raises(ConfigError, match=r"steps\.init=0"):
        read_config(["steps.init=0"])


def test_the_papers_variants_are_there():
    assert [name for name, variant in VARIANTS.items() if variant.paper] == [
        "full",
        "without_cdmd",
        "without_bounded_positions",
        "uniform_1",
        "uniform_2",
    ]
