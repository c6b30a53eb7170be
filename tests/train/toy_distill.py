"""Toy stages of distillation: a teacher and a student with random weights, and a bank of random latents."""

from typing import Any

from cfworld import World
from cfworld.train.context import ContextStage, ContextStageConfig
from cfworld.train.distillation.curriculum import CurriculumConfig
from cfworld.train.local import LocalStage, LocalStageConfig
from cfworld.train.loop_config import LoopConfig
from tests.toy import toy_world
from tests.train.toy_bank import toy_bank


def toy_loop(steps: int = 4, **changes: Any) -> LoopConfig:
    values: dict[str, Any] = {"steps": steps, "batch_size": 2, "warmup": 0, "save_every": 2, "sample_every": 0}
    values |= {"lr": 3e-3, "log_every": 1, **changes}
    return LoopConfig(**values)


def _settings(steps: int, changes: dict[str, Any]) -> dict[str, Any]:
    plain = {"loop": toy_loop(steps), "generator_every": 2, "min_latents": 4, "num_steps": 2}
    return plain | {"sheet_rows": 1, "sheet_latents": 8, "num_targets": 2} | changes


def local_stage(steps: int = 4, *, student: World | None = None, **changes: Any) -> LocalStage:
    config = LocalStageConfig(**_settings(steps, changes))
    return LocalStage(config, toy_world(), student or toy_world(seed=1), toy_bank(14, 7, 12), toy_bank(20, seed=1))


def context_stage(steps: int = 4, **changes: Any) -> ContextStage:
    curriculum = CurriculumConfig(shortest=1, first=2, last=4, ramp_steps=4)
    config = ContextStageConfig(**_settings(steps, {"curriculum": curriculum, "num_targets": 1} | changes))
    return ContextStage(config, toy_world(), toy_world(seed=1), toy_bank(14, 7, 12), toy_bank(20, seed=1))
