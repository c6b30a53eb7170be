"""Counter-based noise: a pure function of (row seed, step, pass, element).

There is no generator to carry along, so any state can be saved, copied or forked, and a row's noise does
not depend on the batch in which it is computed. A 64-bit integer hash (the finaliser of SplitMix64, Steele
et al. 2014) is made of wrapping int64 operations, which every device computes alike; Box-Muller runs in
float64 and is rounded to float32, so that devices whose logarithms differ in the last bit still agree.
Everything is vectorised and reads nothing back to the host, so it can be captured in a CUDA graph.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

__all__ = ["counter_noise", "counter_uniform"]


def _signed(word: int) -> int:
    """Two's complement of a 64-bit word, as int64 tensors want it."""
    return word - (1 << 64) if word >> 63 else word


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MIX_1 = _signed(0xBF58476D1CE4E5B9)
_MIX_2 = _signed(0x94D049BB133111EB)
_LOW_32 = (1 << 32) - 1
_NORMAL_STREAM = 0
_UNIFORM_STREAM = 1


def counter_noise(
    seeds: Int64[Tensor, " B"], step: Int64[Tensor, " B"], pass_index: int, shape: Sequence[int]
) -> Float32[Tensor, "B ..."]:
    """Standard normal noise, fixed by (seed, step, pass, element) on every device and in every batch.

    Args:
        seeds: one seed per row; any int64.
        step: the step that each row is at.
        pass_index: which draw of the step: 0 for the initial noise, 1, 2, ... for re-noising.
        shape: shape of one row's noise. An element is its flat index: a longer shape extends a shorter one.

    Returns:
        float32 noise, on the device of `seeds`.
    """
    size = math.prod(shape)
    words = _words(seeds, step, pass_index, _NORMAL_STREAM, (size + 1) // 2)
    radius = torch.sqrt(-2 * torch.log(_unit(_logical_shift(words, 32), 32)))
    angle = (2 * math.pi) * _unit(words & _LOW_32, 32)
    pairs = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1)
    return pairs.flatten(1)[:, :size].float().reshape(len(seeds), *shape)


def counter_uniform(
    seeds: Int64[Tensor, " B"], step: Int64[Tensor, " B"], pass_index: int, shape: Sequence[int]
) -> Float32[Tensor, "B ..."]:
    """Uniform noise in the open interval (0, 1), independent of `counter_noise` of the same arguments.

    Args:
        seeds: one seed per row; any int64.
        step: the step that each row is at.
        pass_index: which draw of the step.
        shape: shape of one row's noise.

    Returns:
        float32 odd multiples of 2^-24, on the device of `seeds`.
    """
    words = _words(seeds, step, pass_index, _UNIFORM_STREAM, math.prod(shape))
    return _unit(_logical_shift(words, 41), 23).float().reshape(len(seeds), *shape)


def _words(seeds: Tensor, step: Tensor, pass_index: int, stream: int, count: int) -> Tensor:
    """Hash (seed, step, pass, stream, element) into int64 words [B, count]."""
    key = _mix((seeds + 1) * _GOLDEN)
    key = _mix(key + (step + 1) * _GOLDEN)
    key = _mix(key + _signed((2 * pass_index + stream + 1) * _GOLDEN % (1 << 64)))
    counter = torch.arange(1, count + 1, device=seeds.device) * _GOLDEN
    return _mix(key[:, None] + counter)


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _logical_shift(x, 30)) * _MIX_1
    x = (x ^ _logical_shift(x, 27)) * _MIX_2
    return x ^ _logical_shift(x, 31)


def _logical_shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _unit(word: Tensor, bits: int) -> Tensor:
    """Middle of one of 2^bits equal parts of (0, 1), in float64."""
    return (word.double() + 0.5) * 2.0**-bits
