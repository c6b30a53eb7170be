"""What a stage gives when it is trained in one go, and when it is interrupted after every step."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from cfworld.train.processes.team import ALONE, Team
from cfworld.train.training_run import TrainingRun

__all__ = ["assert_resumes_equally", "trained"]


def trained(
    stage: Any, folder: Path, steps: int, team: Team = ALONE, details: Mapping[str, Any] | None = None
) -> list[dict[str, float]]:
    """Train a stage up to a step, resuming what is in the folder, and give the scalars of each step taken."""
    training = TrainingRun(stage, stage.config.loop, folder, torch.device("cpu"), details or {}, team)
    training.resume()
    taken = []
    while training.step < steps:
        training.take_step()
        taken.append({key: value.item() for key, value in training.scalars.items()})
    training.save()
    training.log.close()
    return taken


def assert_resumes_equally(make: Callable[[], Any], folder: Path, steps: int) -> None:
    """A new stage for every step, from the checkpoint before it, has the same scalars and weights as one for all."""
    whole, parts = make(), [make() for _ in range(steps)]
    expected = trained(whole, folder / "whole", steps)
    found = [trained(part, folder / "parts", step) for step, part in enumerate(parts, start=1)]
    assert found == [[scalars] for scalars in expected]
    weights = parts[-1].module.state_dict()
    for name, value in whole.module.state_dict().items():
        assert torch.equal(weights[name], value), name
