"""Products and functions of per-row vectors whose bits do not depend on how many rows there are."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Linear", "by_full_rows", "sigmoid_of_rows"]

_ROWS = {"cpu": 16}
_LANES = 32


class Linear(nn.Linear):
    """A linear layer of tokens. On a CPU, unless gradients are recorded, they come out the same however many there are.

    A row of a batch may have few tokens: the prompts of a latent are one a frame.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [..., D] to tokens [..., E]; see `by_full_rows`."""
        if x.device.type != "cpu" or torch.is_grad_enabled() or x.ndim < 2 or not x.numel():
            return super().forward(x)
        return by_full_rows(super().forward, x.flatten(0, -2)).unflatten(0, x.shape[:-1])


def by_full_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function of rows to a number of rows that is rounded up.

    A CPU multiplies fewer than about a dozen rows in another order than many, and the last elements of a tensor, those
    that do not fill its vector registers, go through another exponential. Elsewhere only one row is special.

    Args:
        function: From rows [R, D] to rows [R, E], each by itself.
        x: Rows [R, D]; repeated as often as need be.

    Returns:
        The function's rows [R, E].
    """
    rows = x.shape[0]
    multiple = _ROWS.get(x.device.type, 1)
    full = max(-(-rows // multiple) * multiple, 2)
    if full == rows:
        return function(x)
    return function(torch.cat([x, x[:1].expand(full - rows, -1)]))[:rows]


def sigmoid_of_rows(logits: Tensor) -> Tensor:
    """Sigmoid of few numbers a row, [R, F]: every row fills whole vector registers of its own."""
    width = logits.shape[-1]
    return F.pad(logits, (0, -width % _LANES)).sigmoid()[..., :width]
