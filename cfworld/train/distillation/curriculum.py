"""How long a student rolls out before it is judged, and where its denoising stops: laws and draws.

Context Forcing, section 3.2: the horizon is k ~ U(k_min, N_max(t)), and N_max grows linearly with the training step.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from cfworld.errors import ConfigError

__all__ = ["CurriculumConfig", "draw_exit", "draw_horizons", "largest_horizon"]


@dataclass(kw_only=True, slots=True)
class CurriculumConfig:
    """How many chunks a student generates on its own before those that carry the loss: its horizon.

    Attributes:
        shortest: k_min, the least horizon. Fresh rollouts have at least so many chunks between the real prefix and the
            targets; ongoing ones are judged at every age up to their horizon, from the first chunk on.
        first: N_max at the first step.
        last: N_max from step `ramp_steps` on.
        ramp_steps: Steps over which N_max grows.
    """

    shortest: int = 0
    first: int = 0
    last: int = 0
    ramp_steps: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.shortest <= self.first <= self.last or self.ramp_steps < 1:
            raise ConfigError(
                "Expected 0 <= shortest <= first <= last and ramp_steps of 1 or more in the curriculum; got "
                f"{self.shortest}, {self.first}, {self.last} and {self.ramp_steps}."
            )


def largest_horizon(config: CurriculumConfig, step: int) -> int:
    """N_max at a step: a straight line from `first` to `last` over `ramp_steps`, rounded, and constant after it."""
    share = min(step / config.ramp_steps, 1.0)
    return config.first + round(share * (config.last - config.first))


def draw_horizons(
    config: CurriculumConfig, step: int, shape: tuple[int, ...], generator: torch.Generator
) -> Int64[Tensor, "*shape"]:
    """Draw k ~ U{shortest, ..., N_max(step)}."""
    end = largest_horizon(config, step) + 1
    return torch.randint(config.shortest, end, shape, generator=generator, device=generator.device)


def draw_exit(num_steps: int, generator: torch.Generator) -> int:
    """The denoising pass at which all targets of a step stop, uniform over the passes (Self-Forcing, Algorithm 1)."""
    return int(torch.randint(num_steps, (), generator=generator, device=generator.device))
