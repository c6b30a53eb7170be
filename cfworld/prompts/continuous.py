"""Prompts of continuous actions: normalised by their bounds, then a small network."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from cfworld.errors import ActionError, ConfigError
from cfworld.prompts.base import PromptEncoder, as_tensor, expand_frames

__all__ = ["ContinuousPromptConfig", "ContinuousPrompts"]


@dataclass(kw_only=True, slots=True)
class ContinuousPromptConfig:
    """Prompts of a one-axis `Box`: bounds per component, width of a token, frames of a chunk."""

    low: list[float]
    high: list[float]
    dim: int
    frames: int

    def __post_init__(self) -> None:
        """Refuse bounds that cannot normalise, and sizes below 1."""
        if len(self.low) != len(self.high) or not self.low:
            raise ConfigError(
                f"ContinuousPromptConfig has {len(self.low)} low and {len(self.high)} high bounds; "
                "expected one of each per component of the action"
            )
        for i, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigError(
                    f"ContinuousPromptConfig bounds component {i} by [{low}, {high}]; expected finite low < high"
                )
        for name in ("dim", "frames"):
            if getattr(self, name) < 1:
                raise ConfigError(f"ContinuousPromptConfig.{name} is {getattr(self, name)}; expected at least 1")


class ContinuousPrompts(PromptEncoder):
    """Actions scaled to [-1, 1], through two linear layers."""

    low: Tensor
    high: Tensor

    def __init__(self, config: ContinuousPromptConfig) -> None:
        super().__init__(config.dim, config.frames)
        self.config = config
        self.register_buffer("low", torch.tensor(config.low, dtype=torch.float32), persistent=False)
        self.register_buffer("high", torch.tensor(config.high, dtype=torch.float32), persistent=False)
        self.network = nn.Sequential(
            nn.Linear(len(config.low), config.dim), nn.SiLU(), nn.Linear(config.dim, config.dim)
        )

    def embed(self, actions: Float[Tensor, "*batch F A"]) -> Float[Tensor, "*batch F D"]:
        """Normalise by the bounds, then embed."""
        scaled = 2 * (actions - self.low) / (self.high - self.low) - 1
        return self.network(scaled.to(self.null.dtype))

    def check(self, actions: Any, batch: int, frames: int, values: bool = True) -> Float32[Tensor, "B F A"]:
        """Validate finite actions within the bounds, [B, A] or [B, F, A]; see `PromptEncoder.check`.

        Integers are accepted, as every integer is a real number.
        """
        tensor = as_tensor(actions).float()
        tensor = expand_frames(tensor, batch, frames, (len(self.config.low),))
        if values:
            self._check_values(tensor)
        return tensor

    def _check_values(self, actions: Tensor) -> None:
        if not bool(actions.isfinite().all()):
            raise ActionError("got an action that is NaN or infinite; expected finite numbers")
        low, high = self.low.to(actions.device), self.high.to(actions.device)
        outside = (actions < low) | (actions > high)
        if bool(outside.any()):
            row, frame, component = outside.nonzero()[0].tolist()
            raise ActionError(
                f"got {actions[row, frame, component]:g} as component {component} of row {row}'s action; "
                f"expected [{low[component]:g}, {high[component]:g}]: clip it to the action space"
            )
