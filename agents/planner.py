"""An agent without training: it forks the world, plays candidates to their end, and does as those that fared best."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces
from jaxtyping import Float, Shaped

from cfworld.agents.sight import Seen
from cfworld.envs.spaces import world_action_space
from cfworld.errors import ConfigError
from cfworld.settings import Choice, check_counts
from cfworld.world import Ends, Start, World, WorldState
from cfworld.world.start_encoding import neutral_action

__all__ = ["Method", "Planner", "PlannerConfig"]

_SMALLEST = 0.05
"""The share that every choice keeps while a plan is refined, of one choice or of the range of a box."""


class Method(Choice):
    """How a plan is found."""

    cem = "cem"
    """Cross-entropy method: draw candidates, refit to the best of them, draw again; take the last fit's centre."""
    shooting = "shooting"
    """Random shooting: draw candidates once, take the best."""


@dataclass(kw_only=True, slots=True)
class PlannerConfig:
    """How the planner plans.

    Attributes:
        method: cem, the cross-entropy method, or shooting, which draws candidates once.
        candidates: Futures that are tried at once, each a fork of the present moment with noise of its own.
        iterations: How often the cross-entropy method draws them.
        elites: From how many of the best it draws the next.
        depth: Actions of a plan.
        hold: Steps for which an action of a plan is kept.
        every: Steps after which it plans anew.
        gamma: Discount of a step.
        max_rows: Futures in one batch at most.
    """

    method: Method = Method.cem
    candidates: int = 24
    iterations: int = 2
    elites: int = 5
    depth: int = 6
    hold: int = 2
    every: int = 2
    gamma: float = 1.0
    max_rows: int = 256

    def __post_init__(self) -> None:
        self.method = Method(self.method)
        check_counts(
            self, "candidates", "iterations", "elites", "depth", "hold", "every", "max_rows", prefix="planner."
        )
        if not 0 <= self.gamma <= 1:
            raise ConfigError(f"got planner.gamma={self.gamma}; expected 0 to 1")
        if self.elites > self.candidates:
            raise ConfigError(f"got planner.elites={self.elites} of {self.candidates} candidates; expected no more")
        if self.candidates > self.max_rows:
            raise ConfigError(f"got planner.max_rows={self.max_rows} for {self.candidates} candidates; expected more")
        if self.every > self.depth * self.hold:
            raise ConfigError(
                f"got planner.every={self.every}; expected at most the {self.depth * self.hold} steps of a plan"
            )


class Planner:
    """A `Player` that looks ahead in the world. In a simulator it goes on from the last frames that it saw there.

    Args:
        world: the world that it plans in.
        config: how.

    Raises:
        ConfigError: if actions are neither Discrete nor a Box.
    """

    looks = False

    def __init__(self, world: World, config: PlannerConfig):
        space = world_action_space(world.config.actions)
        if not isinstance(space, spaces.Discrete | spaces.Box):
            raise ConfigError(f"the world's actions are {space}; the planner plans in Discrete or Box spaces")
        self.config = config
        self._world = world.with_ends(Ends.NEVER)
        self._space = space
        self._rngs: list[np.random.Generator] = []
        self._plan: np.ndarray | None = None
        self._taken = 0
        self._frames: np.ndarray | None = None
        self._actions: np.ndarray | None = None

    def begin(self, seeds: Sequence[int]) -> None:
        """Begin an episode per seed."""
        self._rngs = [np.random.default_rng(np.random.SeedSequence((seed, _PLAN_STREAM))) for seed in seeds]
        self._plan = self._frames = self._actions = None
        self._taken = 0

    def keep(self, rows: np.ndarray) -> None:
        """Go on with these episodes."""
        self._rngs = [self._rngs[row] for row in rows]
        parts = (None if part is None else part[rows] for part in (self._plan, self._frames, self._actions))
        self._plan, self._frames, self._actions = parts

    def act(self, seen: Seen) -> np.ndarray:
        """The next actions of the plans, [B] or [B, A]."""
        if seen.frames is not None and seen.state is None:
            self._remember(seen.frames)
        if self._plan is None or self._taken == self.config.every:
            self._plan, self._taken = self._planned(self._present(seen)), 0
        actions = self._plan[:, self._taken // self.config.hold]
        self._taken += 1
        if self._actions is not None:
            per_frame = np.repeat(actions[:, None], self._world.config.frames_per_step, axis=1)
            self._actions = np.concatenate([self._actions, per_frame], axis=1)
        return actions

    def _remember(self, frames: np.ndarray) -> None:
        """Keep as many frames, and the actions that made them, as a start of the world has; before the first, that."""
        length = self._world.config.prefix_latents * self._world.config.frames_per_latent
        if self._frames is None or self._actions is None:
            self._frames = np.repeat(frames[:, :1], length, axis=1)
            neutral = np.asarray(neutral_action(self._world.config.actions), self._space.dtype)
            self._actions = np.broadcast_to(neutral, (*self._frames.shape[:2], *neutral.shape))
        self._frames = np.concatenate([self._frames, frames], axis=1)[:, -length:]
        self._actions = self._actions[:, -length:]

    def _present(self, seen: Seen) -> WorldState:
        if seen.state is not None:
            return seen.state
        assert self._frames is not None
        assert self._actions is not None
        pairs = zip(self._frames, self._actions, strict=True)
        starts = [Start(frames=frames, actions=actions) for frames, actions in pairs]
        return self._world.initial([0] * len(starts), starts, decode=False)[0]

    def _planned(self, state: WorldState) -> np.ndarray:
        """A plan for each row, [B, depth, ...]; as many rows at once as fit."""
        at_once = max(1, self.config.max_rows // self.config.candidates)
        rows = np.arange(state.num_rows)
        groups = [rows[first : first + at_once] for first in range(0, len(rows), at_once)]
        return np.concatenate([self._search(state.select(group.tolist()), group) for group in groups])

    def _search(self, state: WorldState, rows: np.ndarray) -> np.ndarray:
        config = self.config
        draws = [_Draws(self._space, config.depth, self._rngs[row]) for row in rows]
        if config.method is Method.shooting:
            plans = np.stack([draw.plans(config.candidates) for draw in draws])
            best = self._values(state, plans, rows).argmax(axis=1)
            return plans[np.arange(len(rows)), best]
        for _ in range(config.iterations):
            plans = np.stack([draw.plans(config.candidates) for draw in draws])
            order = np.argsort(-self._values(state, plans, rows), axis=1, kind="stable")
            for place, draw in enumerate(draws):
                draw.refit(plans[place, order[place, : config.elites]])
        return np.stack([draw.centre() for draw in draws])

    def _values(
        self, state: WorldState, plans: Shaped[np.ndarray, "B n D ..."], rows: np.ndarray
    ) -> Float[np.ndarray, "B n"]:
        """What each plan is expected to bring: rewards, each weighted by the probability of living to see it."""
        config, (num_rows, count) = self.config, plans.shape[:2]
        seeds = [int(seed) for row in rows for seed in self._rngs[row].integers(2**63, size=count)]
        forks = state.select(np.repeat(np.arange(num_rows), count).tolist()).reseeded(seeds)
        alive = torch.ones(num_rows * count, device=self._world.device)
        value = torch.zeros_like(alive)
        for step in range(config.depth * config.hold):
            actions = plans[:, :, step // config.hold].reshape(num_rows * count, *plans.shape[3:])
            forks, out = self._world.step(forks, actions, decode=False, donate=True)
            before = torch.cat([torch.ones_like(alive)[:, None], (1 - out.hazard).cumprod(dim=1)], dim=1)
            value += config.gamma**step * alive * (before[:, :-1] * out.reward_frames).sum(dim=1)
            alive *= before[:, -1]
        return value.view(num_rows, count).double().cpu().numpy()


class _Draws:
    """From what the candidates of one row are drawn: independent choices for each action of the plan."""

    def __init__(self, space: spaces.Discrete | spaces.Box, depth: int, rng: np.random.Generator):
        self._space = space
        self._rng = rng
        if isinstance(space, spaces.Discrete):
            self._shares = np.full((depth, int(space.n)), 1 / int(space.n))
        else:
            self._mean = np.broadcast_to((space.low + space.high) / 2, (depth, *space.shape))
            self._std = np.broadcast_to((space.high - space.low) / 2, (depth, *space.shape))

    def plans(self, count: int) -> np.ndarray:
        if isinstance(self._space, spaces.Discrete):
            ladder = self._shares.cumsum(axis=1)
            ladder[:, -1] = 1.0
            return (self._rng.random((count, len(ladder), 1)) >= ladder).sum(axis=2).astype(np.int64)
        drawn = self._mean + self._std * self._rng.standard_normal((count, *self._mean.shape))
        return drawn.clip(self._space.low, self._space.high).astype(np.float32)

    def refit(self, elites: np.ndarray) -> None:
        if isinstance(self._space, spaces.Discrete):
            shares = (elites[:, :, None] == np.arange(int(self._space.n))).mean(axis=0)
            self._shares = (1 - _SMALLEST) * shares + _SMALLEST / int(self._space.n)
        else:
            self._mean = elites.mean(axis=0)
            self._std = np.maximum(elites.std(axis=0), _SMALLEST * (self._space.high - self._space.low))

    def centre(self) -> np.ndarray:
        if isinstance(self._space, spaces.Discrete):
            return self._shares.argmax(axis=1)
        return np.asarray(self._mean, np.float32)


_PLAN_STREAM = 11
