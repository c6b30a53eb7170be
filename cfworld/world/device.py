"""Where to compute, as it is named from outside."""

from typing import Any

import torch

from cfworld.errors import ConfigError

__all__ = ["usable_device"]


def usable_device(device: Any) -> torch.device:
    """A device that PyTorch computes on here.

    Args:
        device: A `torch.device`, or its name: "cpu", "cuda", "cuda:1" ...

    Returns:
        The device, with its index where it has one.

    Raises:
        ConfigError: If there is no such device, or values cannot be computed on it.
    """
    try:
        probe = torch.zeros(1, device=device)
        probe.item()  # "meta" has no values
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        known = ["cpu", *(f"cuda:{index}" for index in range(count))]
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ConfigError(
            f"got device={device!r}, on which PyTorch cannot compute here ({reason}); choose among {', '.join(known)}"
        ) from None
    return probe.device
