"""Products and functions of per-row vectors whose bits do not depend on how many rows there are."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Linear", "by_full_rows", "sigmoid_of_rows"]

_ROWS = {"cpu": 16}
_LANES = 32


class Linear(nn.Linear):
    """A linear layer of tokens. On a CPU, unless gradients are recorded, they come out the same however many there are.

    Fewer than 16 are multiplied in another order than more, and a row of a batch may have as few: the prompts of a
    latent are one a frame.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens [..., D] to tokens [..., E]; see `by_full_rows`."""
        rows = x.shape[:-1].numel()
        if x.device.type != "cpu" or torch.is_grad_enabled() or not 0 < rows < _ROWS["cpu"]:
            return super().forward(x)
        return by_full_rows(super().forward, x.reshape(rows, -1)).view(*x.shape[:-1], -1)


def by_full_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply a function of rows to a number of rows that is rounded up.

    A CPU multiplies fewer than about a dozen rows in another order than many, and the last elements of a tensor, those
    that do not fill its vector registers, go through another exponential. Elsewhere only one row is special.

    Args:
        function: From rows [R, D] to rows [R, E], each by itself.
        x: Rows [R, D]; rows of zeros are added.

    Returns:
        The function's rows [R, E].
    """
    rows = x.shape[0]
    multiple = _ROWS.get(x.device.type, 1)
    full = max(-(-rows // multiple) * multiple, 2)
    if full == rows:
        return function(x)
    return function(functional.pad(x, (0, 0, 0, full - rows)))[:rows]


def sigmoid_of_rows(logits: Tensor) -> Tensor:
    """Sigmoid of few numbers a row, [R, F]: every row fills whole vector registers of its own."""
    width = logits.shape[-1]
    return functional.pad(logits, (0, -width % _LANES)).sigmoid()[..., :width]
