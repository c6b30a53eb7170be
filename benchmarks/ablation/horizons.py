"""How far Stage 2 rolls out within its budget: beyond what the memory spans, or the slow slots would teach nothing."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cfworld.memory import MemoryConfig

__all__ = ["Horizons", "horizons"]

LEAST_SECONDS = 20.0
"""Rollouts outlast this much game time, too."""
_FIRST = 12
"""N_max at the first step, in chunks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Horizons:
    """Stage 2's curriculum."""

    first: int
    """N_max at the first step, in chunks."""
    last: int
    """N_max from step `ramp_steps` on."""
    ramp_steps: int
    """Steps over which it grows."""
    span: float
    """Chunks that the memory spans nominally, or that pass in `LEAST_SECONDS`, whichever is more."""
    chunk_seconds: float
    """Game time of a chunk."""
    steps: int
    """Stage 2's budget."""

    @property
    def outlasts(self) -> bool:
        """Whether rollouts that began at full horizon outlast the span within the budget, one chunk a step."""
        return self.first + self.ramp_steps + self.span < self.steps

    @property
    def overrides(self) -> tuple[str, ...]:
        """Of `cfworld train stage=context`."""
        settings = {"first": self.first, "last": self.last, "ramp_steps": self.ramp_steps}
        return tuple(f"stage.curriculum.{name}={value}" for name, value in settings.items())

    @property
    def note(self) -> str:
        """What stands under the table."""
        grows = f"Stage 2's horizon grows to {self.last} chunks ({self.last * self.chunk_seconds:.1f} s) " + (
            "at once" if self.ramp_steps == 1 else f"over {self.ramp_steps} steps"
        )
        span = f"{self.span:.0f} chunks ({self.span * self.chunk_seconds:.1f} s)"
        if self.outlasts:
            least = "what the full memory spans if every check promotes, or 20 s if that is more"
            return f"{grows}, and so outlasts {span}: {least}."
        return f"{grows}, but {self.steps} steps are too few for rollouts to reach the {span} that it has to outlast."


def horizons(world: Mapping[str, Any], steps: int) -> Horizons:
    """The curriculum that fits a budget.

    Args:
        world: settings of the world, as they are composed.
        steps: optimiser steps of Stage 2. Its ongoing rollouts advance by a chunk a step.

    Returns:
        Horizons whose last is half as much again as the span, or less where the budget is short.
    """
    memory = MemoryConfig(**world["memory"])
    chunk = memory.latents_per_chunk
    chunk_seconds = chunk * world["tokenizer"]["frames_per_latent"] / world["fps"]
    span = max(memory.nominal_span(memory.target_rate or 1.0) / chunk, LEAST_SECONDS / chunk_seconds)
    last = min(math.ceil(1.5 * span), max(math.ceil(1.1 * span), 2 * steps // 3))
    first = min(_FIRST, last)
    ramp_steps = max(1, min(steps // 2, steps - last - first))
    return Horizons(first=first, last=last, ramp_steps=ramp_steps, span=span, chunk_seconds=chunk_seconds, steps=steps)
