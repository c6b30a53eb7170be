"""How an agent learns to look ahead: from many short futures of the dream, what each action costs.

A hazard says of every step how probably it is the last, which is more than an end tells, and a dream is truest in its
first seconds. So the agent watches short futures of many moments, in which somebody keeps on doing the same and
sometimes changes. From these it learns what it costs to do something from now on, and does what is cheapest.
"""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

from cfworld.agents.config import AgentTrainConfig, ForesightConfig
from cfworld.agents.features import LatentFeatures
from cfworld.agents.futures import Futures, watch
from cfworld.agents.moments import draw_moments
from cfworld.agents.policy import num_own, seen_space
from cfworld.data import EpisodeStore
from cfworld.errors import CheckpointError
from cfworld.files import write_aside
from cfworld.world import World

__all__ = ["Costs", "Foreseen", "cheapest", "foresee", "learn_costs", "teach", "watch_part"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Foreseen:
    """What was watched and learned."""

    steps: int
    """Steps that were watched."""
    danger: float
    """Mean probability of dying in one of them."""
    agreement: float
    """How often the agent's likeliest action is the cheapest, at the end."""


class Costs(nn.Module):
    """What each action costs: the discounted probability of dying, if one takes it and goes on with it.

    Args:
        features: makes numbers of what is seen.
        features_dim: how many.
        hidden: width of the layer behind them.
        num_actions: how many actions there are.
    """

    def __init__(self, features: nn.Module, features_dim: int, hidden: int, num_actions: int):
        super().__init__()
        self.num_actions = num_actions
        self.features = features
        self.head = nn.Sequential(nn.Linear(features_dim, hidden), nn.ReLU(), nn.Linear(hidden, num_actions))

    def forward(self, seen: Float[Tensor, "B n"]) -> Float[Tensor, "B A"]:
        """Costs of all actions."""
        return self.head(self.features(seen)) / _SCALE


def foresee(
    config: AgentTrainConfig,
    world: World,
    policy: ActorCriticPolicy,
    folder: Path,
    tell: Callable[[int], object] = lambda _: None,
) -> Foreseen:
    """Watch futures, learn what actions cost, and teach the policy to do what is cheapest.

    Args:
        config: how, and what the policy sees: latents and its own last action.
        world: dreams.
        policy: learns.
        folder: keeps what was watched under these settings, so that it need not be watched again.
        tell: told of the steps that were watched.

    Raises:
        ConfigError: if the world's actions are not discrete.
    """
    num_actions, how = num_own(config, world), config.foresight
    futures = _watched(config, world, folder, tell)
    spread = torch.cat([torch.full(futures.seen.shape[-1:], config.obs_noise), torch.zeros(num_actions)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        space = seen_space(config, world)
        features = LatentFeatures(space, config.features, world.tokenizer.latent_shape, num_own=num_actions)
        costs = Costs(features, config.features, config.hidden, num_actions).to(world.device)
    learn_costs(costs, futures, how, spread, config.batch_size, config.seed)
    agreement = teach(policy, costs, futures, how, spread, config.batch_size, config.seed)
    return Foreseen(steps=futures.hazard.numel(), danger=float(futures.hazard.mean()), agreement=agreement)


def _watched(config: AgentTrainConfig, world: World, folder: Path, tell: Callable[[int], object]) -> Futures:
    """All parts; those that are in the folder are read."""
    assert config.starts is not None
    store = EpisodeStore.open(config.starts)
    folder = folder / _digest(config, world, store)
    folder.mkdir(parents=True, exist_ok=True)
    parts, watched = [], 0
    while watched < config.foresight.steps:
        file = folder / f"{len(parts):05}.pt"
        if not file.exists():
            with write_aside(file) as aside:
                torch.save(watch_part(config, world, store, len(parts)).as_dict(), aside)
        parts.append(_read(file))
        watched += parts[-1].hazard.numel()
        tell(parts[-1].hazard.numel())
    return Futures.together(parts)


def _read(file: Path) -> Futures:
    try:
        return Futures(**torch.load(file, weights_only=True))
    except Exception as error:
        raise CheckpointError(f"{file} is damaged ({error}); delete it, and it is watched again") from error


def watch_part(config: AgentTrainConfig, world: World, store: EpisodeStore, number: int) -> Futures:
    """One part of what is watched: `num_envs` futures, of moments that its number draws."""
    seed = int(np.random.SeedSequence((config.seed, _STREAM, number)).generate_state(1)[0])
    starts = draw_moments(world, store, config.num_envs, seed)
    num_steps = -(-config.foresight.horizon // world.config.frames_per_step)
    return watch(world, starts, num_steps, config.foresight.explore, seed)


def learn_costs(
    costs: Costs,
    futures: Futures,
    config: ForesightConfig,
    spread: Float[Tensor, " n"],
    batch_size: int,
    seed: int,
) -> None:
    """Fit costs to what was watched: `cost = hazard + (1 - hazard) gamma cost'`.

    What follows, `cost'`, is that of going on with the same or, as often as something is changed, of the cheapest.

    Args:
        costs: a network with random weights.
        futures: what was watched.
        config: how long, how far ahead, and how often something is changed.
        spread: standard deviation of the noise on each number that is seen.
        batch_size: steps in one gradient step.
        seed: of noise and order.
    """
    rng = torch.Generator().manual_seed(seed)
    device = next(costs.parameters()).device
    later = copy.deepcopy(costs).requires_grad_(requires_grad=False)
    optimizer, schedule = _descent(costs, config.updates)
    rows, times = futures.hazard.shape
    for _ in range(config.updates):
        row = torch.randint(rows, (batch_size,), generator=rng)
        time = torch.randint(times, (batch_size,), generator=rng)
        now, then = (
            _noisy(_observation(futures.seen[row, at], futures.last[row, at], costs.num_actions), spread, rng).to(
                device
            )
            for at in (time, time + 1)
        )
        hazard, done = futures.hazard[row, time].to(device), futures.done[row, time].to(device)
        with torch.no_grad():
            ahead = later(then)
            usual = (1 - config.explore) * _at(ahead, done) + config.explore * ahead.amin(dim=1)
            target = hazard + (1 - hazard) * config.gamma * usual
        loss = F.smooth_l1_loss(_SCALE * _at(costs(now), done), _SCALE * target)
        _descend(loss, optimizer, schedule)
        with torch.no_grad():
            for slow, fast in zip(later.parameters(), costs.parameters(), strict=True):
                slow.lerp_(fast, _FOLLOW)


def cheapest(costs: Float[Tensor, "B A"], last: Int[Tensor, " B"], margin: float) -> Int[Tensor, " B"]:
    """What to do: the same as before, unless something else is cheaper by more than a margin.

    Args:
        costs: of every action.
        last: what was done before. Nothing, action 0, is not kept for its own sake, nor is -1, the beginning.
        margin: of a cost.
    """
    best = costs.argmin(dim=1)
    stays = (last > 0) & (_at(costs, last.clamp(min=0)) - _at(costs, best) <= margin)
    return torch.where(stays, last, best)


def teach(
    policy: ActorCriticPolicy,
    costs: Costs,
    futures: Futures,
    config: ForesightConfig,
    spread: Float[Tensor, " n"],
    batch_size: int,
    seed: int,
) -> float:
    """Fit a policy to what is cheapest at all that was seen, whatever had been done before.

    Args:
        policy: learns.
        costs: know.
        futures: what was seen.
        config: how long, and the margin.
        spread: standard deviation of the noise under which the policy sees.
        batch_size: steps in one gradient step.
        seed: of noise and order.

    Returns:
        The share of choices, over the last tenth of the gradient steps, in which the likeliest action is the cheapest.
    """
    rng = torch.Generator().manual_seed(seed)
    device = next(costs.parameters()).device
    flat = futures.seen.flatten(0, 1)
    optimizer, schedule = _descent(policy, config.updates)
    agreement = []
    for _ in range(config.updates):
        drawn = torch.randint(len(flat), (batch_size,), generator=rng)
        last = torch.randint(-1, costs.num_actions, (batch_size,), generator=rng)
        seen = _observation(flat[drawn], last, costs.num_actions)
        with torch.no_grad():
            choice = cheapest(costs(seen.to(device)), last.to(device), config.margin)
        told = policy.get_distribution(_noisy(seen, spread, rng).to(device))  # pyright: ignore[reportCallIssue]
        loss = -told.log_prob(choice).mean()
        _descend(loss, optimizer, schedule)
        agreement.append((told.mode() == choice).float().mean().item())
    return float(np.mean(agreement[-max(1, len(agreement) // 10) :]))


def _descent(network: nn.Module, updates: int) -> tuple[Optimizer, LRScheduler]:
    optimizer = torch.optim.Adam(network.parameters(), _LEARNING_RATE)
    return optimizer, CosineAnnealingLR(optimizer, updates)


def _descend(loss: Tensor, optimizer: Optimizer, schedule: LRScheduler) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()


def _digest(config: AgentTrainConfig, world: World, store: EpisodeStore) -> str:
    """Tells what is watched under one set of settings from what is watched under another."""
    how = config.foresight
    told = (world.fingerprint, str(world.sampler), str(store.lengths.tolist()), config.num_envs, config.seed)
    return hashlib.sha256(repr((*told, how.horizon, how.explore)).encode()).hexdigest()[:12]


def _observation(latents: Tensor, last: Int[Tensor, " B"], num_actions: int) -> Float[Tensor, "B n"]:
    """Latents with the last action behind them, as `VecOwnActions` shows them; -1 stands for none."""
    own = F.one_hot(last.clamp(min=0), num_actions) * (last >= 0)[:, None]
    return torch.cat([latents.float(), own.float()], dim=1)


def _noisy(seen: Tensor, spread: Tensor, rng: torch.Generator) -> Tensor:
    return seen + spread * torch.randn(seen.shape, generator=rng)


def _at(values: Float[Tensor, "B A"], places: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
    return values.gather(1, places[:, None])[:, 0]


_SCALE = 10.0
"""Costs are hundredths; networks learn numbers near one sooner."""
_LEARNING_RATE = 1e-3
_FOLLOW = 0.01
_STREAM = 23
