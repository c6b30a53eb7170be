"""Random numbers of PyTorch that are drawn aside, so that nobody else's change."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["random_aside"]


@contextmanager
def random_aside(device: torch.device, seed: int | None = None) -> Iterator[None]:
    """Draw what is drawn inside from copies of the generators of the CPU and of a device.

    `torch.manual_seed` would seed every GPU there is, and a fork of some of them would not undo that.

    Args:
        device: where numbers may be drawn, besides the CPU.
        seed: of both copies; None goes on as the generators would.
    """
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus):
        if seed is not None:
            torch.default_generator.manual_seed(seed)
            for gpu in gpus:
                with torch.cuda.device(gpu):
                    torch.cuda.manual_seed(seed)
        yield
