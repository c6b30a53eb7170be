"""From the device to the host in one copy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

__all__ = ["as_given", "pack", "to_host", "unpack"]


def as_given(tensor: Tensor, tensors: bool) -> Any:
    """What a caller gets of a tensor: itself if they asked for `tensors`, else an array."""
    return tensor if tensors else tensor.cpu().numpy()


def to_host(*tensors: Tensor) -> list[np.ndarray]:
    """Tensors as arrays; whatever their types, they come from a device in one copy."""
    if tensors[0].device.type == "cpu":
        return [tensor.numpy() for tensor in tensors]
    return unpack(pack(tensors).cpu().numpy(), tensors)


def pack(tensors: Sequence[Tensor]) -> UInt8[Tensor, " n"]:
    """The bytes of all tensors, those with the widest elements first, so that each is aligned."""
    return torch.cat([tensors[index].contiguous().flatten().view(torch.uint8) for index in _order(tensors)])


def unpack(packed: UInt8[np.ndarray, " n"], like: Sequence[Tensor]) -> list[np.ndarray]:
    """Undo `pack`: arrays of the shapes and types of `like`, in its order; they share the packed bytes."""
    arrays = [packed] * len(like)
    first = 0
    for index in _order(like):
        tensor = like[index]
        last = first + tensor.numel() * tensor.element_size()
        dtype = torch.empty(0, dtype=tensor.dtype).numpy().dtype
        arrays[index] = packed[first:last].view(dtype).reshape(tensor.shape)
        first = last
    return arrays


def _order(tensors: Sequence[Tensor]) -> list[int]:
    return sorted(range(len(tensors)), key=lambda index: -tensors[index].element_size())
