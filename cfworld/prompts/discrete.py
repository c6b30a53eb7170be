"""Prompts of discrete actions: a table of embeddings."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cfworld.errors import ActionError, ConfigError
from cfworld.prompts.base import PromptEncoder, as_tensor, expand_frames

__all__ = ["DiscretePromptConfig", "DiscretePrompts"]

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


@dataclass(kw_only=True, slots=True)
class DiscretePromptConfig:
    """Prompts of `Discrete(num_actions)`: width of a token, frames of a chunk."""

    num_actions: int
    dim: int
    frames: int

    def __post_init__(self) -> None:
        """Refuse sizes below 1."""
        for name in ("num_actions", "dim", "frames"):
            if getattr(self, name) < 1:
                raise ConfigError(f"DiscretePromptConfig.{name} is {getattr(self, name)}; expected at least 1")


class DiscretePrompts(PromptEncoder):
    """One learned embedding per action."""

    def __init__(self, config: DiscretePromptConfig) -> None:
        super().__init__(config.dim, config.frames)
        self.config = config
        self.actions = nn.Embedding(config.num_actions, config.dim)
        nn.init.normal_(self.actions.weight, std=0.5)

    def embed(self, actions: Int64[Tensor, "*batch F"]) -> Float[Tensor, "*batch F D"]:
        """Look the actions up."""
        return self.actions(actions)

    def check(self, actions: Any, batch: int, frames: int, values: bool = True) -> Int64[Tensor, "B F"]:
        """Validate integer actions in [0, num_actions), [B] or [B, F]; see `PromptEncoder.check`."""
        tensor = as_tensor(actions)
        if tensor.dtype not in _INTEGERS:
            raise ActionError(
                f"got actions of dtype {tensor.dtype}; expected integers: this world's actions are discrete"
            )
        tensor = expand_frames(tensor.long(), batch, frames, ())
        if values and batch > 0:
            low, high = (int(v) for v in tensor.aminmax())
            if low < 0 or high >= self.config.num_actions:
                wrong = low if low < 0 else high
                raise ActionError(f"got action {wrong}; expected integers from 0 to {self.config.num_actions - 1}")
        return tensor
