"""A stage that fits a matrix: small enough to be trained hundreds of times."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cfworld.train.loop import run
from cfworld.train.loop_config import LoopConfig
from cfworld.train.training_run import step_generator


class ToyStage:
    """Fits y = A x, with noise from the step's generator and a running total as extra state."""

    def __init__(self, pause: float = 0.0) -> None:
        torch.manual_seed(7)
        self.module: nn.Module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
        self.pause = pause
        self.losses: list[float] = []
        self.total = torch.zeros(())
        self.sampled: list[int] = []

    def batch(self, step: int) -> Tensor:
        return torch.randn(5, 3, generator=step_generator(1, step))

    def loss(self, batch: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        time.sleep(self.pause)
        noise = 0.1 * torch.randn(5, 2, generator=generator)
        loss = (self.module(batch) - batch[:, :2] - noise + 0.01 * self.total).square().mean()
        self.total = self.total + loss.detach()
        self.losses.append(loss.item())
        return loss, {"total": self.total}

    def state_dict(self) -> dict[str, Any]:
        return {"total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.total = state["total"]

    def sample(self, ema_module: nn.Module, step: int, folder: Path) -> Mapping[str, float] | None:
        self.sampled.append(step)
        return {"step": float(step)}

    def export(self, ema_module: nn.Module, folder: Path) -> Mapping[str, Any] | None:
        (folder / "artefact").write_text("done")
        return {"exported": True}


def toy_config(**changes: Any) -> LoopConfig:
    values: dict[str, Any] = {"steps": 6, "batch_size": 5, "log_every": 1, "save_every": 3, "lr": 0.05}
    values |= {"warmup": 2, "sample_every": 0}
    return LoopConfig(**values | changes)


def trained(folder: Path, details: dict[str, Any] | None = None, **changes: Any) -> ToyStage:
    stage = ToyStage()
    run(stage, toy_config(**changes), folder, details=details)
    return stage


if __name__ == "__main__":  # run by a test that kills it
    run(ToyStage(pause=0.005), toy_config(steps=100_000, save_every=2), Path(sys.argv[1]))
