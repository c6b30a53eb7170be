"""A network of few blocks as the beginning of one with more: what is new passes on what it is given at first."""

from collections.abc import Mapping

import torch
from torch import Tensor

from cfworld.errors import ConfigError

__all__ = ["deepened_generator"]

_BLOCKS = "transformer.blocks."
_OUTPUTS = tuple(f"{layer}.{kind}" for layer in ("self_attn.o", "cross_attn.o", "ffn.2") for kind in ("weight", "bias"))
"""What a block adds to its tokens comes through these alone."""


def deepened_generator(weights: Mapping[str, Tensor], depth: int, new_depth: int) -> dict[str, Tensor]:
    """Weights of a generator of more blocks that predicts what the old one does (block expansion, arXiv 2401.02415).

    The new blocks stand evenly among the old ones. Each is a copy of the old block before it whose outputs are zero, so
    that it adds nothing before the first step and its outputs have a gradient in it.

    Args:
        weights: State of a generator.
        depth: Its blocks.
        new_depth: Blocks of the new one.

    Raises:
        ConfigError: If there are to be fewer blocks, or there were none to copy.
    """
    if new_depth < depth or (depth == 0 and new_depth > 0):
        raise ConfigError(f"got depth={new_depth} for weights of {depth} blocks; expected no fewer, and one to copy.")
    sources = [place * depth // new_depth for place in range(new_depth)]
    deepened = {name: tensor for name, tensor in weights.items() if not name.startswith(_BLOCKS)}
    deepened["key_centre"] = weights["key_centre"][torch.tensor(sources, dtype=torch.long)]
    for place, source in enumerate(sources):
        is_new = place > 0 and sources[place - 1] == source
        for name in [name for name in weights if name.startswith(f"{_BLOCKS}{source}.")]:
            part = name.removeprefix(f"{_BLOCKS}{source}.")
            tensor = weights[name]
            deepened[f"{_BLOCKS}{place}.{part}"] = torch.zeros_like(tensor) if is_new and part in _OUTPUTS else tensor
    return deepened
