"""An exponential moving average of a module's weights."""

import copy

import torch
from torch import nn

__all__ = ["EMA"]


class EMA:
    """Keeps `module`, a float32 copy whose weights follow those of the trained module.

    The decay warms up as min(decay, (1 + t) / (10 + t)), so that the random weights of the start are soon
    forgotten. Buffers and integer tensors are copied as they are.

    Args:
        source: The module that is trained.
        decay: Final decay, 0 to 1; 0 makes the average equal the source.
    """

    def __init__(self, source: nn.Module, decay: float) -> None:
        self.decay = decay
        self.module = copy.deepcopy(source).float().requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, source: nn.Module, step: int) -> None:
        """Move the average towards the source's weights.

        Args:
            source: The trained module, after the optimiser's step number `step` (the first is 0).
            step: Says how far the decay has warmed up.
        """
        decay = self.decay_at(step)
        for average, value in zip(self.module.parameters(), source.parameters(), strict=True):
            average.lerp_(value.detach().float(), 1.0 - decay)
        for average, value in zip(self.module.buffers(), source.buffers(), strict=True):
            average.copy_(value)

    def decay_at(self, step: int) -> float:
        """Return the decay of step number `step`."""
        return min(self.decay, (1 + step) / (10 + step))
