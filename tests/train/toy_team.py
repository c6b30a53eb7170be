"""Toy stages of every kind, and what two processes do with them in `test_parallel`."""

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from cfworld.errors import ConfigError
from cfworld.tokenizer import BlockVAE
from cfworld.train.banks.dataset import open_dataset, read_latents
from cfworld.train.distillation.anchor import AnchorConfig
from cfworld.train.forcing.clip_losses import ClipStep
from cfworld.train.forcing.resampling import ResamplingConfig
from cfworld.train.launch import joined
from cfworld.train.loop import run
from cfworld.train.loop_config import LoopConfig
from cfworld.train.processes.team import ALONE, Team
from cfworld.train.stage import SharedStage
from cfworld.train.teacher import TeacherStage, TeacherStageConfig
from tests.toy import toy_config
from tests.train import test_consistency, test_heads, test_tokenizer_stage, toy_distill
from tests.train.resuming import trained
from tests.train.toy_bank import toy_bank
from tests.train.toy_dataset import settings

ANCHOR = AnchorConfig(weight=0.5, clip_latents=8)
RESAMPLING = ResamplingConfig(share=0.5, stretch=3, tolerance=100.0)
"""The truth is a target wherever latents lie: what is rounded otherwise decides nothing."""


def loop(steps: int = 3, **changes: Any) -> LoopConfig:
    values: dict[str, Any] = {"batch_size": 4, "warmup": 0, "lr": 1e-3, "schedule": "constant", "save_every": 1}
    values |= {"log_every": 1, "sample_every": 0}
    return LoopConfig(steps=steps, **values | changes)


def muon_loop(**changes: Any) -> LoopConfig:
    return loop(optimizer="muon", **changes)


def teacher(**changes: Any) -> TeacherStage:
    """A teacher whose matrices Muon moves."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = BlockVAE(toy_config().tokenizer)
    settings: dict[str, Any] = {"clip_latents": 8, "min_latents": 4, "num_copies": 2, "sheet_rows": 1}
    config = TeacherStageConfig(loop=muon_loop(**changes), sheet_latents=8, **settings)
    config.erft = replace(config.erft, start_step=1, per_step=6)
    config.resampling = RESAMPLING
    return TeacherStage(config, toy_config(), tokenizer, toy_bank(14, 7, 12, god=(1,)), toy_bank(20, 16, seed=1))


STAGES: dict[str, Callable[[], SharedStage]] = {
    "tokenizer": lambda: test_tokenizer_stage.stage(
        {"adversarial_weight": 0.5, "feature_weight": 0.5, "detail_share": 0.5}, **asdict(loop())
    ),
    "teacher": teacher,
    "init": lambda: test_consistency.stage(loop=loop(), resampling=RESAMPLING),
    "local": lambda: toy_distill.local_stage(loop=loop(), generator_every=1, score_copies=2),
    "context": lambda: toy_distill.context_stage(loop=loop(), anchor=ANCHOR),
    "heads": lambda: test_heads.stage(loop=loop()),
    "narrow": lambda: teacher(precision="bf16", gradient_checkpointing=True),
    "unsharded": lambda: teacher(shard=False, compile=True),
}
"""By name; "narrow" is a teacher that computes in bfloat16, with gradient checkpointing. "unsharded" goes through
`torch.compile`, which is told to compile nothing, for that would take minutes."""

STEPS = {"tokenizer": 2, "teacher": 3, "init": 3, "local": 2, "context": 3, "heads": 2, "narrow": 2, "unsharded": 2}
"""How long each is trained: those with a state of their own for two steps more than the one before they are saved."""

REFUSED = {"batch_size": 3, "compile": True}

RESUMED = [name for name, steps in STEPS.items() if steps == 3]


def in_parts(name: str, root: Path, team: Team = ALONE) -> list[dict[str, float]]:
    """Train a stage in root/whole, and leave what one step made of it in root/begun."""
    whole, begun = root / "whole" / name, root / "begun" / name
    losses = trained(STAGES[name](), whole, 1, team)
    if team.leads:
        shutil.copytree(whole, begun)
    team.wait()
    return losses + trained(STAGES[name](), whole, STEPS[name], team)


def latents_read(root: Path, team: Team) -> list[float]:
    """Means of the latents of the dataset in root/data, which nobody has encoded before, in each process."""
    os.chdir(root)
    world = settings("data")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        tokenizer = BlockVAE(world.tokenizer)
    bank = read_latents(world, "data", open_dataset(world, "data"), tokenizer, "cpu", team=team)
    mean, rank = bank.latents.double().mean(), torch.eye(2, dtype=torch.float64)[0 if team.leads else 1]
    return team.sum(mean * rank).tolist()


def refusal(folder: Path, team: Team, changes: dict[str, Any]) -> str:
    """What a run of a teacher under such a configuration is refused with."""
    try:
        run(teacher(**changes), loop(**changes), folder, team=team)
    except ConfigError as error:
        return str(error)
    return "none"


def ended(folder: Path, team: Team) -> None:
    """A run that one process alone is asked to end, in its second step."""
    stage = teacher(steps=100, save_every=100)
    draw = stage.batch

    def batch(step: int) -> ClipStep:
        if step == 1 and not team.leads:
            signal.raise_signal(signal.SIGTERM)
        return draw(step)

    stage.batch = batch
    with suppress(KeyboardInterrupt):
        run(stage, stage.config.loop, folder, team=team)


def two_processes(root: Path, team: Team) -> None:
    """Everything that `test_parallel` looks at; at last a run that goes on until it is killed."""
    losses = {name: in_parts(name, root / "two", team) for name in STAGES}
    while not (root / "one" / "ready").exists():
        time.sleep(0.05)
    resumed = {name: trained(STAGES[name](), root / "one" / "begun" / name, STEPS[name], team) for name in RESUMED}
    refusals = {name: refusal(root / "refused", team, {name: value}) for name, value in REFUSED.items()}
    latents = latents_read(root, team)
    ended(root / "ended", team)
    figures = run(teacher(), loop(2, export_every=1), root / "led", team=team)
    if team.leads:
        report = {"losses": losses, "resumed": resumed, "refusals": refusals, "latents": latents, "figures": figures}
        (root / "report.part").write_text(json.dumps(report, default=float))
        (root / "report.part").rename(root / "report.json")
    endless = teacher(steps=100_000)
    run(endless, endless.config.loop, root / "killed", team=team)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.compiler.set_stance("force_eager")
    with joined("cpu") as (two, _):
        two_processes(Path(sys.argv[1]), two)
