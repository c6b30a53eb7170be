"""Weights of a latent's positions, so that those which are hard to predict do not drown those which must be exact."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from cfworld.errors import ConfigError
from cfworld.train.processes.team import ALONE, Team

__all__ = ["SpatialBalance"]

SLOWEST = 0.01
"""Least share of a step in the running means."""
SMALLEST = 1e-3
"""Running means below this share of their own mean count as this, so that no weight grows without bound."""


class SpatialBalance:
    """Weighs the squared errors at every position (row and column) of a latent by a power of their running mean.

    The squared error of a plain strip is a few thousandths where that of a wall is a few hundredths, and yet a heading
    that is read off the strip must not drift. With w = (E / mean E)^-p, p = 0 leaves the squared errors as they are,
    and p = 1 gives all positions equal shares of their sum, as where each position's error is a Gaussian's whose
    variance is learnt (Kendall et al., arXiv 1705.07115, section 3.2). The weights are scaled so that the sum keeps
    its level.

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
            raise ConfigError(f"spatial_balance must lie in 0 to 1; got {exponent}.")

    def weights(self) -> Float[Tensor, "h w"]:
        """What to multiply squared errors by; 1 everywhere before the first step, and always for p = 0."""
        shares = (self.mean_squares / self.mean_squares.mean()).clamp(min=SMALLEST)
        weights = shares**-self.exponent
        return weights * (shares.mean() / (weights * shares).mean())

    def add(self, errors: Float[Tensor, "*lead C h w"], known: Bool[Tensor, "*lead"], team: Team = ALONE) -> None:
        """Take a step's errors into account where they are known; all of a team's, which share one mean."""
        if not self.exponent:
            return
        counted = errors.detach()[known]
        count = max(team.total(len(counted)), 1)
        squares = team.sum(counted.square().mean(dim=1).sum(dim=0)) / count
        self.steps += 1
        self.mean_squares += max(1 / self.steps, SLOWEST) * (squares - self.mean_squares)

    def state_dict(self) -> dict[str, Tensor | int]:
        """Everything that resuming needs."""
        return {"mean_squares": self.mean_squares, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Tensor | int]) -> None:
        """Restore what `state_dict` returned."""
        self.mean_squares.copy_(torch.as_tensor(state["mean_squares"]))
        self.steps = int(state["steps"])
