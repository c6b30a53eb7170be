"""Weights of the places of a latent, so that those which are hard to predict do not drown those which must be exact."""

import torch
from jaxtyping import Float
from torch import Tensor

from cfworld.errors import ConfigError
from cfworld.train.team import ALONE, Team

__all__ = ["PositionBalance"]

_SLOWEST = 0.01
"""Least share of a step in the running mean."""


class PositionBalance:
    """Weighs the squared error of every place by a power of its own running mean.

    The loss of a plain strip is a few thousandths where that of a wall is a few hundredths, and yet a heading that is
    read off the strip must not drift. With w = (E / mean E)^-p, p = 0 leaves the loss as it is, and p = 1 gives all
    places equal shares of it, as where each place's error is a Gaussian's whose variance is learnt (Kendall et al.,
    arXiv 1705.07115, section 3.2). The weights are scaled so that the loss keeps its level beside others.

    Args:
        exponent: p, in 0 to 1.
        size: Rows and columns of a latent.
        device: Where the weights lie.

    Raises:
        ConfigError: If the exponent lies elsewhere.
    """

    def __init__(self, exponent: float, size: tuple[int, int], device: torch.device | str = "cpu") -> None:
        self.check(exponent)
        self.exponent = exponent
        self.mean_squares = torch.ones(size, device=device)
        self.steps = 0

    @staticmethod
    def check(exponent: float) -> None:
        """Make sure that an exponent is one."""
        if not 0 <= exponent <= 1:
            raise ConfigError(f"position_balance must lie in 0 to 1; got {exponent}.")

    def weights(self) -> Float[Tensor, "h w"]:
        """What to multiply squared errors by; 1 everywhere before the first step."""
        level = self.mean_squares.mean()
        weights = (self.mean_squares / level) ** -self.exponent
        return weights * (level / (weights * self.mean_squares).mean())

    def add(self, errors: Float[Tensor, "M C h w"], team: Team = ALONE) -> None:
        """Take a step's errors into account; all of a team's, which share one mean."""
        squares = team.sum(errors.detach().square().mean(dim=1).sum(dim=0)) / max(team.total(len(errors)), 1)
        self.steps += 1
        self.mean_squares += max(1 / self.steps, _SLOWEST) * (squares.clamp(min=1e-12) - self.mean_squares)

    def state_dict(self) -> dict[str, Tensor | int]:
        """Everything that resuming needs."""
        return {"mean_squares": self.mean_squares, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Restore what `state_dict` returned."""
        self.mean_squares.copy_(torch.as_tensor(state["mean_squares"]))
        self.steps = int(state["steps"])
