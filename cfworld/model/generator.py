"""Everything of a world that is trained after its tokenizer, as one module."""

from typing import Any

import torch
from torch import Tensor, nn

from cfworld.model.config import TransformerConfig
from cfworld.model.heads import Heads, NoHeads
from cfworld.model.transformer import Transformer
from cfworld.prompts import ActionConfig

__all__ = ["ActionConfig", "Generator"]


class Generator(nn.Module):
    """Prompt encoder, transformer and heads.

    `key_centre`, [L, H d], is the mean un-rotated key of every layer over typical data: centred similarity compares
    keys after subtracting it. It is measured when training ends (`cfworld.prefix.mean_keys`).
    """

    key_centre: Tensor

    def __init__(self, actions: ActionConfig, transformer: TransformerConfig) -> None:
        super().__init__()
        self.prompts = actions.prompts(transformer.prompt_dim, transformer.frames_per_latent)
        self.transformer = Transformer(transformer)
        self.heads: Any = Heads(transformer) if transformer.heads else NoHeads(transformer)
        self.register_buffer("key_centre", torch.zeros(transformer.depth, transformer.dim))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the transformer in place: the part that all passes share, training's and generation's."""
        self.transformer.compile(*args, **kwargs)
