"""How an agent learns to look ahead: from many short futures of the dream, what each action costs.

A hazard says of every step how probably it is the last, which is more than an end tells, and a dream is truest in its
first seconds. So the agent watches short futures of many recorded moments, in which somebody keeps on doing the same.
From these it learns what each action costs, which is how probable it makes death, and does what costs least.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn
from tqdm import trange

from cfworld.agents.config import AgentTrainConfig
from cfworld.agents.costs import Costs, costs_loss, worth
from cfworld.agents.features import LatentFeatures
from cfworld.agents.futures import Futures
from cfworld.agents.policy import num_own, seen_space
from cfworld.agents.randomness import random_aside
from cfworld.agents.watching import watch_all
from cfworld.world import World

__all__ = ["Foreseen", "Lesson", "foresee"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Foreseen:
    """What was watched and learned."""

    steps: int
    """Steps that were watched."""
    danger: float
    """Mean probability of dying in one of them."""
    agreement: float
    """How often the agent's likeliest action is the one that is worth most, at the end."""


def foresee(
    config: AgentTrainConfig,
    world: World,
    policy: ActorCriticPolicy,
    folder: Path,
    tell: Callable[[int], object] = lambda _: None,
) -> Foreseen:
    """Watch futures, learn what actions cost, and teach the policy to do what is worth most.

    Args:
        config: how, and what the policy sees: latents and its own last action.
        world: dreams.
        policy: learns.
        folder: keeps what was watched under these settings, so that it need not be watched again.
        tell: told of the steps that were watched.

    Raises:
        ConfigError: if the world's actions are not discrete.
    """
    num_actions = num_own(config, world)
    futures = watch_all(config, world, folder, tell)
    lesson = Lesson(config, futures, num_actions)
    with random_aside(world.device, config.seed):
        costs = _build(config, world, num_actions, futures.hazard.shape[1])
    lesson.learn(costs)
    agreement = lesson.teach(policy, costs)
    return Foreseen(steps=futures.hazard.numel(), danger=float(futures.hazard.mean()), agreement=agreement)


class Lesson:
    """What is learned from futures: moments are drawn, shown as an agent would see them, and answered.

    Args:
        config: how long, how noisy what is seen is, and how often the moment is one with which a future begins.
        futures: what was watched.
        num_actions: how many actions there are.
    """

    def __init__(self, config: AgentTrainConfig, futures: Futures, num_actions: int):
        self._config = config
        self._how = config.foresight
        self._futures = futures
        self._num_actions = num_actions
        self._rng = torch.Generator().manual_seed(config.seed)

    def learn(self, costs: Costs) -> None:
        """Fit costs to the hazards of those who went on with what they did."""

        def loss() -> Tensor:
            row, time = self._drawn()
            return costs_loss(costs, self._futures, row, time, self._seen)

        self._descend(costs, loss, "learning what actions cost")

    def teach(self, policy: ActorCriticPolicy, costs: Costs) -> float:
        """Give a policy the eyes of the costs, and fit it to what actions are worth: the more, the likelier.

        Args:
            policy: learns; its features are those of the costs.
            costs: know.

        Returns:
            The share of choices, over the last tenth of the gradient steps, in which the likeliest action is the one
            that is worth most.
        """
        policy.features_extractor.load_state_dict(costs.features.state_dict())
        device = next(costs.parameters()).device
        agreement = []

        def loss() -> Tensor:
            row, time = self._drawn()
            latents, last = self._futures.seen[row, time], self._forgotten(self._futures.last[row, time])
            with torch.no_grad():
                told = costs(_observation(latents, last, self._num_actions).to(device))
                aim = (worth(told, last.to(device), self._how.margin) / _SHARPNESS).softmax(dim=1)
            seen = _observation(self._noisy(latents), last, self._num_actions).to(device)
            likely = policy.get_distribution(seen).distribution.logits  # pyright: ignore
            agreement.append((likely.argmax(dim=1) == aim.argmax(dim=1)).float().mean().item())
            return F.cross_entropy(likely, aim)

        self._descend(policy, loss, "teaching what they are worth")
        return float(np.mean(agreement[-max(1, len(agreement) // 10) :]))

    def _drawn(self) -> tuple[Int[Tensor, " B"], Int[Tensor, " B"]]:
        """Rows and times. What is seen in a future's first moment was recorded, as it is in a simulator."""
        size, (rows, times) = (self._config.batch_size,), self._futures.hazard.shape
        row = torch.randint(rows, size, generator=self._rng)
        time = torch.randint(times, size, generator=self._rng)
        return row, torch.where(torch.rand(size, generator=self._rng) < self._how.at_start, 0, time)

    def _seen(self, latents: Tensor, last: Tensor) -> Float[Tensor, "B n"]:
        return _observation(self._noisy(latents), self._forgotten(last), self._num_actions)

    def _noisy(self, latents: Tensor) -> Tensor:
        return latents + self._config.obs_noise * torch.randn(latents.shape, generator=self._rng)

    def _forgotten(self, last: Int[Tensor, " B"]) -> Int[Tensor, " B"]:
        """Sometimes nothing was done before, as at the beginning of an episode."""
        return torch.where(torch.rand(last.shape, generator=self._rng) < _FORGETS, -1, last)

    def _descend(self, network: nn.Module, loss: Callable[[], Tensor], what: str) -> None:
        optimizer = torch.optim.Adam(network.parameters(), _LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self._how.updates)
        for _ in trange(self._how.updates, desc=what, unit="update", leave=False):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
            schedule.step()


def _build(config: AgentTrainConfig, world: World, num_actions: int, num_steps: int) -> Costs:
    features = LatentFeatures(
        seen_space(config, world),
        config.features,
        world.tokenizer.latent_shape,
        num_own=num_actions,
        width=config.width,
    )
    return Costs(features, config.features, config.hidden, num_actions, num_steps).to(world.device)


def _observation(latents: Tensor, last: Int[Tensor, " B"], num_actions: int) -> Float[Tensor, "B n"]:
    """Latents with the last action behind them, as `VecOwnActions` shows them; -1 stands for none."""
    own = F.one_hot(last.clamp(min=0), num_actions) * (last >= 0)[:, None]
    return torch.cat([latents.float(), own.float()], dim=1)


_LEARNING_RATE = 1e-3
_FORGETS = 0.1
"""Often enough to learn the beginnings of episodes, and seldom enough to learn the rest."""
_SHARPNESS = 0.02
"""What costs so much more is less likely by a factor e."""
