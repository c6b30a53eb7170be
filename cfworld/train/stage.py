"""What the loop trains: a stage says on what and by which loss."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cfworld.train.optim import Role
from cfworld.train.processes.team import Team

__all__ = ["SharedStage", "Stage", "StageWithAverage", "StageWithProduct", "StageWithRoles"]


@runtime_checkable
class Stage(Protocol):
    """What is trained, on what, and by which loss."""

    module: nn.Module
    """Its parameters with `requires_grad` are trained, in place."""

    def batch(self, step: int) -> Any:
        """Return the batch of a step: a pure function of (seed, step)."""
        ...

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and scalars to log; all randomness is `generator`'s, seeded by (seed, step)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what else must be saved: tensors, numbers, strings, lists and dicts."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...

    def sample(self, ema_module: nn.Module, step: int, folder: Path) -> Mapping[str, float] | None:
        """Write a contact sheet into `folder`; scalars that are returned go into the log."""
        ...

    def export(self, ema_module: nn.Module, folder: Path) -> Mapping[str, Any] | None:
        """Write the final artefact into `folder`; what is returned joins the figures."""
        ...


@runtime_checkable
class StageWithRoles(Stage, Protocol):
    """A stage whose module has parts with optimisers, rates and clipping of their own.

    A step moves only the parts that its loss gave a gradient, so that one part may be updated more often than another.
    """

    def roles(self) -> Mapping[str, Role]:
        """The parts by name; together they hold everything that is trained."""
        ...


@runtime_checkable
class StageWithProduct(Stage, Protocol):
    """A stage that trains more than it makes, as a student beside its critic."""

    @property
    def product(self) -> str:
        """Name of the part of `module` that it makes: only this is averaged, sampled and exported; "" for all of it."""
        ...


@runtime_checkable
class StageWithAverage(Stage, Protocol):
    """A stage that learns from the moving average of what it trains."""

    average: nn.Module
    """The run puts its average here, and moves, shares out and saves it."""


@runtime_checkable
class SharedStage(Stage, Protocol):
    """A stage that several processes can train together."""

    def join(self, team: Team) -> None:
        """Take this process's rows of every batch from now on, and share out the stage's own networks."""
        ...
