"""Short futures of the dream: nobody dies in them, and what was to be feared is told."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cfworld.envs.latents import flat_latents
from cfworld.world import Ends, Start, World

__all__ = ["Futures", "watch"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Futures:
    """T steps of B episodes side by side, and the L = T + 1 moments around them."""

    seen: Float[Tensor, "B L n"]
    """Latents before each step, and after the last; float16."""
    last: Int[Tensor, "B L"]
    """What was done just before."""
    hazard: Float[Tensor, "B T"]
    """Probability of dying in the step."""

    @property
    def done(self) -> Int[Tensor, "B T"]:
        """What was done in each step."""
        return self.last[:, 1:]

    def held(
        self, row: Int[Tensor, " N"], time: Int[Tensor, " N"], num_steps: int
    ) -> tuple[Float[Tensor, "N K"], Bool[Tensor, "N K"]]:
        """Hazards of the steps from a time on, and for which of them the same was done, and it was watched."""
        ahead = time[:, None] + torch.arange(num_steps)
        watched = ahead < self.hazard.shape[1]
        ahead = ahead.clamp(max=self.hazard.shape[1] - 1)
        same = self.done[row[:, None], ahead] == self.done[row, time][:, None]
        return self.hazard[row[:, None], ahead], watched & same.cumprod(dim=1).bool()

    def as_dict(self) -> dict[str, Tensor]:
        """All tensors, by name."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def together(cls, parts: "Sequence[Futures]") -> "Futures":
        """All episodes of several, which are equally long."""
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in cls.__slots__})


@torch.inference_mode()
def watch(world: World, starts: Sequence[Start], num_steps: int, explore: float, seed: int) -> Futures:
    """Watch episodes of someone who keeps on doing the same, and now and then something else.

    Args:
        world: dreams; its actions are discrete.
        starts: where each episode begins, with the actions that led there.
        num_steps: steps of each.
        explore: probability, at every step, of an action drawn evenly; one half at the first.
        seed: of the dream and of what is done.
    """
    rng = np.random.default_rng(np.random.SeedSequence((seed, _STREAM)))
    rows, num_actions = len(starts), world.config.actions.num_actions
    seeds = rng.integers(2**62, size=rows).tolist()
    world = world.with_ends(Ends.NEVER)
    state, _ = world.initial(seeds, starts, decode=False)
    acted = np.array([0 if start.actions is None else start.actions[-1] for start in starts], np.int64)
    seen, last, hazard = [flat_latents(state.latents).cpu()], [acted], []
    for step in range(num_steps):
        changes = rng.random(rows) < (explore if step else _AT_FIRST)
        acted = np.where(changes, rng.integers(num_actions, size=rows), acted)
        state, out = world.step(state, acted, decode=False, donate=True)
        seen.append(flat_latents(out.latents).cpu())
        last.append(acted)
        hazard.append(1 - (1 - out.hazard).prod(dim=1))
    return Futures(
        seen=torch.stack(seen, dim=1).half(),
        last=torch.as_tensor(np.stack(last, axis=1)),
        hazard=torch.stack(hazard, dim=1).float().cpu(),
    )


_AT_FIRST = 0.5
"""Half of the futures go on with what was recorded; the others may begin anything."""
_STREAM = 19
