"""What the device in hand does at best: a large product of matrices, and a large copy."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch

from cfworld.metrics.machine import synchronize
from cfworld.metrics.speed.roofline import Rates

__all__ = ["measured_rates"]

_SIDE = {"cuda": 8192}
_COPIED = {"cuda": 2**31}
_SMALL_SIDE, _SMALL_COPY = 1024, 2**27
_ROUNDS = 10


def measured_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """Measure a device, in the number format in which the world computes.

    Args:
        device: Where.
        dtype: Of the matrices.

    Returns:
        The best of several rounds each.
    """
    side = _SIDE.get(device.type, _SMALL_SIDE)
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    source = torch.zeros(_COPIED.get(device.type, _SMALL_COPY), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Rates(
        flops_per_s=2 * side**3 / _best(lambda: left @ right, device),
        bytes_per_s=2 * source.numel() / _best(lambda: target.copy_(source), device),
    )


def _best(work: Callable[[], Any], device: torch.device) -> float:
    """Seconds of the fastest round."""
    seconds = []
    for _ in range(_ROUNDS):
        synchronize(device)
        begin = perf_counter()
        work()
        synchronize(device)
        seconds.append(perf_counter() - begin)
    return min(seconds)
