"""What actions cost: how probably one dies before long, if one goes on with them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from cfworld.agents.futures import Futures

__all__ = ["Costs", "costs_loss", "worth"]


class Costs(nn.Module):
    """What each action costs: the probability of dying within a few steps, if one takes it and goes on with it.

    Args:
        features: makes numbers of what is seen.
        features_dim: how many.
        hidden: width of the layer behind them.
        num_actions: how many actions there are.
        num_steps: how many steps it looks ahead.
    """

    def __init__(self, features: nn.Module, features_dim: int, hidden: int, num_actions: int, num_steps: int):
        super().__init__()
        self.num_actions = num_actions
        self.num_steps = num_steps
        self.features = features
        self.head = nn.Sequential(
            nn.Linear(features_dim, hidden), nn.ReLU(), nn.Linear(hidden, num_actions * num_steps)
        )
        nn.init.constant_(self.head[-1].bias, _RARE)  # pyright: ignore[reportArgumentType]

    def logits(self, seen: Float[Tensor, "B n"]) -> Float[Tensor, "B A K"]:
        """Log odds of dying in each of the next steps, with each action."""
        return self.head(self.features(seen)).unflatten(1, (self.num_actions, self.num_steps))

    def forward(self, seen: Float[Tensor, "B n"]) -> Float[Tensor, "B A"]:
        """Costs of all actions: `1 - prod_k (1 - hazard_k)`."""
        return -torch.expm1(F.logsigmoid(-self.logits(seen)).sum(dim=2))


def costs_loss(
    costs: Costs,
    futures: Futures,
    row: Int[Tensor, " B"],
    time: Int[Tensor, " B"],
    see: Callable[[Tensor, Tensor], Float[Tensor, "B n"]],
) -> Float[Tensor, ""]:
    """Cross-entropy of hazards and what the dream told of them, over the steps in which the same was done.

    Nobody dies in what was watched, so every step weighs as much as it is probable to live until then; else one
    fireball would be counted in all steps that it lasts.

    Args:
        costs: a network that learns.
        futures: what was watched.
        row: whose future, each.
        time: from which step on.
        see: makes what the network sees of latents and what was done before.
    """
    device = next(costs.parameters()).device
    hazard, known = (held.to(device) for held in futures.held(row, time, costs.num_steps))
    told = costs.logits(see(futures.seen[row, time], futures.last[row, time]).to(device))
    told = told[torch.arange(len(row)), futures.done[row, time].to(device)]
    wrong = F.binary_cross_entropy_with_logits(told, hazard, reduction="none")
    alive = torch.cat([torch.ones_like(hazard[:, :1]), (1 - hazard).cumprod(dim=1)[:, :-1]], dim=1)
    weight = alive * known
    return (wrong * weight).sum() / weight.sum()


def worth(costs: Float[Tensor, "B A"], last: Int[Tensor, " B"], margin: float) -> Float[Tensor, "B A"]:
    """What actions are worth: less what they cost, and a margin more for the one that was done before.

    Args:
        costs: of every action.
        last: what was done before. Nothing, action 0, is not kept for its own sake, nor is -1, the beginning.
        margin: of a cost.
    """
    kept = F.one_hot(last.clamp(min=0), costs.shape[1]) * (last > 0)[:, None]
    return margin * kept - costs


_RARE = -4.0
"""Log odds of dying in a step, before anything is learned."""
