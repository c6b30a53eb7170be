"""Linear layers in 8-bit floating point, by torchao: weights once, activations as they come, scaled row by row."""

import torch
from torch import nn

from cfworld.errors import ConfigError, MissingDependencyError
from cfworld.model.transformer import Transformer

__all__ = ["use_fp8"]

_CAPABILITY = (8, 9)
_MULTIPLE = 16
"""Widths of matrices that the kernels take."""


def use_fp8(transformer: Transformer) -> None:
    """Let the blocks' linear layers compute in 8 bits from now on; attention and all else stay as they are.

    For generation alone: there is no way back, and no gradient. Compile the step too: scaling by itself costs more
    than is won.

    Raises:
        ConfigError: If the weights lie on a device that cannot multiply 8-bit numbers, or are not bfloat16.
        MissingDependencyError: If torchao is not installed.
    """
    weight = transformer.patch_embedding.weight
    if weight.device.type != "cuda" or torch.cuda.get_device_capability(weight.device) < _CAPABILITY:
        raise ConfigError(
            f"got fp8 for a transformer on {weight.device}; expected a CUDA device of compute capability 8.9 or more. "
            "Leave fp8 out."
        )
    if weight.dtype is not torch.bfloat16:
        raise ConfigError(f"got fp8 for weights of {weight.dtype}; expected bfloat16: load the world with it.")
    try:
        from torchao.quantization import (  # pyright: ignore[reportMissingImports]
            Float8DynamicActivationFloat8WeightConfig,
            PerRow,
            quantize_,
        )
    except ImportError as error:
        raise MissingDependencyError.with_hint("fp8", "torchao", "fp8") from error
    quantize_(transformer.blocks, Float8DynamicActivationFloat8WeightConfig(granularity=PerRow()), _fits)


def _fits(module: nn.Module, _name: str) -> bool:
    """Whether a module is a linear layer of widths that the kernels take."""
    return isinstance(module, nn.Linear) and not (module.in_features % _MULTIPLE or module.out_features % _MULTIPLE)
