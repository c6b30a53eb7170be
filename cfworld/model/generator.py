"""Everything of a world that is trained after its tokenizer, as one module."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cfworld.errors import ConfigError
from cfworld.model.config import TransformerConfig
from cfworld.model.heads import Heads
from cfworld.model.transformer import Transformer
from cfworld.prompts import ContinuousPromptConfig, ContinuousPrompts, DiscretePromptConfig, DiscretePrompts
from cfworld.prompts.base import PromptEncoder

__all__ = ["ActionConfig", "Generator"]


@dataclass(kw_only=True, slots=True)
class ActionConfig:
    """The actions of a world: `num_actions` discrete ones, or a box bounded by `low` and `high`.

    Attributes:
        num_actions: Size of a Discrete space; 0 for a Box.
        low: Lower bounds of a Box.
        high: Upper bounds of a Box.
    """

    num_actions: int = 0
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if (self.num_actions > 0) == bool(self.low):
            raise ConfigError(
                f"actions are either num_actions > 0 or bounds low and high; got num_actions={self.num_actions}, "
                f"low={self.low}, high={self.high}."
            )

    def prompts(self, dim: int, frames: int) -> PromptEncoder:
        """The prompt encoder for these actions, with tokens of width `dim` for `frames` frames a latent."""
        if self.num_actions:
            return DiscretePrompts(DiscretePromptConfig(num_actions=self.num_actions, dim=dim, frames=frames))
        return ContinuousPrompts(ContinuousPromptConfig(low=self.low, high=self.high, dim=dim, frames=frames))


class Generator(nn.Module):
    """Prompt encoder, transformer and heads.

    `key_centre`, [L, H d], is the mean un-rotated key of every layer over typical data: centred similarity compares
    keys after subtracting it. It is measured when training ends (`cfworld.rollout.mean_keys`).
    """

    key_centre: Tensor

    def __init__(self, actions: ActionConfig, transformer: TransformerConfig) -> None:
        super().__init__()
        self.prompts = actions.prompts(transformer.prompt_dim, transformer.frames_per_latent)
        self.transformer = Transformer(transformer)
        self.heads = Heads(transformer)
        self.register_buffer("key_centre", torch.zeros(transformer.depth, transformer.dim))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the transformer in place: the part that all passes share, training's and generation's."""
        self.transformer.compile(*args, **kwargs)
