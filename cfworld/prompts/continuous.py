"""Prompts of continuous actions: normalised by stored statistics or by their bounds, then a small network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from cfworld.errors import ActionError, ConfigError
from cfworld.prompts.base import FramePrompts, as_tensor, expand_frames
from cfworld.rows import Linear
from cfworld.settings import check_counts

__all__ = ["ContinuousPromptConfig", "ContinuousPrompts", "check_box"]


@dataclass(kw_only=True, slots=True)
class ContinuousPromptConfig:
    """Prompts of a one-axis `Box`.

    Attributes:
        low: Lower bound of each component.
        high: Upper bound of each component.
        dim: Width D of a token.
        frames: Frames of a latent.
        mean: Mean of each component in the training data; without it, bounds are scaled to -1 and 1.
        std: Standard deviation of each component there.
    """

    low: list[float]
    high: list[float]
    dim: int
    frames: int
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse bounds and statistics that cannot normalise, and sizes below 1."""
        check_box(self.low, self.high, self.mean, self.std)
        check_counts(self, "dim", "frames", prefix="ContinuousPromptConfig.")


def check_box(low: Sequence[float], high: Sequence[float], mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuse bounds and statistics that cannot normalise.

    Raises:
        ConfigError: if they are of different lengths, not finite, or in the wrong order.
    """
    if len(low) != len(high) or not low:
        raise ConfigError(
            f"got {len(low)} low and {len(high)} high bounds; expected one of each per component of the action"
        )
    for i, (lowest, highest) in enumerate(zip(low, high, strict=True)):
        if not (math.isfinite(lowest) and math.isfinite(highest) and lowest < highest):
            raise ConfigError(f"got bounds [{lowest}, {highest}] for component {i}; expected finite low < high")
    if (mean or std) and not len(mean) == len(std) == len(low):
        raise ConfigError(
            f"got {len(mean)} means and {len(std)} standard deviations for {len(low)} components; expected one of each "
            "per component, or none at all"
        )
    if not all(map(math.isfinite, mean)) or not all(math.isfinite(one) and one > 0 for one in std):
        raise ConfigError(f"got mean={mean}, std={std}; expected finite numbers, and each std above 0")


class ContinuousPrompts(FramePrompts):
    """Normalised actions through two linear layers."""

    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, config: ContinuousPromptConfig) -> None:
        super().__init__(config.dim, config.frames, (len(config.low),), torch.float32)
        self.config = config
        for name in ("low", "high", "mean", "std"):
            values = torch.tensor(getattr(config, name), dtype=torch.float32)
            self.register_buffer(name, values, persistent=False)
        self.network = nn.Sequential(Linear(len(config.low), config.dim), nn.SiLU(), Linear(config.dim, config.dim))

    def embed(self, actions: Float[Tensor, "*batch F A"]) -> Float[Tensor, "*batch F D"]:
        """Normalise, then embed."""
        return self.network(self.normalised(actions).to(self.null.dtype))

    def normalised(self, actions: Float[Tensor, "*batch F A"]) -> Float[Tensor, "*batch F A"]:
        """Zero mean and unit deviation over the training data; without statistics, the bounds at -1 and 1."""
        if self.config.std:
            return (actions - self.mean) / self.std
        return 2 * (actions - self.low) / (self.high - self.low) - 1

    def check(self, actions: Any, batch: int | None, frames: int, values: bool = True) -> Float32[Tensor, "B F A"]:
        """Validate finite actions within the bounds, [B, A] or [B, F, A]; see `PromptEncoder.check`.

        Integers are accepted, as every integer is a real number.
        """
        tensor = as_tensor(actions).float()
        tensor = expand_frames(tensor, batch, frames, self.action_shape)
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
                f"got {actions[row, frame, component]:.9g} as component {component} of row {row}'s action; "
                f"expected [{low[component]:g}, {high[component]:g}]: clip it to the action space"
            )
