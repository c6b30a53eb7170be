"""Muon for every device: PyTorch's computes in bfloat16, which a processor without it emulates at a crawl."""

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from cfworld.precision import fast_precision

__all__ = ["Muon", "OnWhole", "orthogonalized"]

OnWhole = Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration: steep at zero, so that few rounds lift small singular values."""


class Muon(torch.optim.Optimizer):
    """Momentum whose update of a matrix is orthogonalised, then scaled to the size of AdamW's.

    Args:
        parameters: Matrices.
        lr: Learning rate, shared with an AdamW beside it.
        weight_decay: Decoupled decay.
        momentum: Decay of the momentum, which looks ahead as Nesterov's does.
        rounds: Rounds of the Newton-Schulz iteration.
        on_whole: Applies a function of a whole matrix to one of which other processes may have parts.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        rounds: int = 5,
        on_whole: OnWhole = lambda function, matrix: function(matrix),
    ) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "rounds": rounds})
        self._on_whole = on_whole

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move every matrix that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(parameter.grad)
                momentum = state["momentum_buffer"].lerp_(parameter.grad, 1 - group["momentum"])
                orthogonal = partial(orthogonalized, rounds=group["rounds"])
                update = self._on_whole(orthogonal, parameter.grad.lerp(momentum, group["momentum"]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-0.2 * math.sqrt(max(parameter.shape)) * group["lr"])


def orthogonalized(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Bring the singular values of a matrix near 1 by the Newton-Schulz iteration, keeping its singular vectors.

    Args:
        matrix: [m, n].
        rounds: Rounds of the iteration.

    Returns:
        [m, n], in bfloat16 where the device is fast in it, else in float32.
    """
    a, b, c = NEWTON_SCHULZ
    x = matrix.bfloat16() if fast_precision(matrix.device) == "bf16" else matrix.float()
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(rounds):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
