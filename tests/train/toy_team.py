"""Toy stages of every kind, and what two processes do with them in `test_parallel`."""

import json
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from cfworld.errors import ConfigError
from cfworld.tokenizer import BlockVAE
from cfworld.train.loop import LoopConfig, SharedStage, TrainingRun, run
from cfworld.train.teacher import TeacherStage, TeacherStageConfig
from cfworld.train.team import ALONE, Team, joined
from tests.toy import toy_config
from tests.train import test_consistency, test_heads, test_tokenizer_stage, toy_distill
from tests.train.toy_bank import toy_bank

STEPS, HALF = 4, 2


def loop(steps: int = STEPS, **changes: Any) -> LoopConfig:
    values: dict[str, Any] = {"batch_size": 4, "warmup": 0, "lr": 3e-3, "schedule": "constant", "save_every": 2}
    values |= {"log_every": 1, "sample_every": 0}
    return LoopConfig(steps=steps, **values | changes)


def teacher(**changes: Any) -> TeacherStage:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = BlockVAE(toy_config().tokenizer)
    settings: dict[str, Any] = {"clip_latents": 8, "min_latents": 4, "num_copies": 2, "sheet_rows": 1}
    config = TeacherStageConfig(loop=loop(**changes), sheet_latents=8, **settings)
    config.erft = replace(config.erft, start_step=1, per_step=6)
    return TeacherStage(config, toy_config(), tokenizer, toy_bank(14, 7, 12, god=(1,)), toy_bank(20, 16, seed=1))


STAGES: dict[str, Callable[[], SharedStage]] = {
    "tokenizer": lambda: test_tokenizer_stage.stage({"adversarial_weight": 0.5}, **vars_of(loop())),
    "teacher": teacher,
    "teacher_muon": lambda: teacher(optimizer="muon"),
    "init": lambda: test_consistency.stage(loop=loop()),
    "local": lambda: toy_distill.local_stage(loop=loop(), score_window=2),
    "context": lambda: toy_distill.context_stage(loop=loop()),
    "heads": lambda: test_heads.stage(loop=loop()),
}


def vars_of(config: LoopConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in LoopConfig.__slots__}


def trained(name: str, folder: Path, steps: int, team: Team = ALONE) -> list[dict[str, float]]:
    """Train a stage up to a step, resuming what is in the folder, and give the scalars of each step taken."""
    stage = STAGES[name]()
    training = TrainingRun(stage, stage.config.loop, folder, torch.device("cpu"), {}, team)
    training.resume()
    taken = []
    while training.step < steps:
        training.take_step()
        taken.append({key: value.item() for key, value in training.scalars.items()})
    training.save()
    training.log.close()
    return taken


def two_processes(folder: Path, team: Team) -> None:
    """What `test_parallel` looks at: losses, a run in two halves, a run that one process began, and a whole one."""
    losses, resumed = {}, {}
    for name in STAGES:
        losses[name] = trained(name, folder / "two" / name, HALF, team)
        if team.leads:
            shutil.copytree(folder / "two" / name, folder / "half" / name)
        team.wait()
        losses[name] += trained(name, folder / "two" / name, STEPS, team)
        resumed[name] = trained(name, folder / "one" / name, STEPS, team)
    try:
        run(teacher(batch_size=3), loop(batch_size=3), folder / "refused", team=team)
        refusal = ""
    except ConfigError as error:
        refusal = str(error)
    whole = run(teacher(), loop(), folder / "whole", team=team)
    if team.leads:
        report = {"losses": losses, "resumed": resumed, "refusal": refusal, "whole": whole}
        (folder / "report.part").write_text(json.dumps(report, default=float))
        (folder / "report.part").rename(folder / "report.json")
    run(toy_distill.context_stage(loop=loop(100_000)), loop(100_000), folder / "killed", team=team)


if __name__ == "__main__":
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    with joined("cpu") as (two, _):
        while not (root / "one" / "ready").exists():
            time.sleep(0.05)
        two_processes(root, two)
