"""Prompts of discrete actions: a table of embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from cfworld.errors import ActionError, ConfigError
from cfworld.prompts.base import FramePrompts, as_tensor, check_integers, expand_frames
from cfworld.prompts.names import check_names, numbered
from cfworld.settings import check_counts

__all__ = [
    "DiscretePromptConfig",
    "DiscretePrompts",
    "MultiDiscretePromptConfig",
    "MultiDiscretePrompts",
    "check_discrete",
]

_INIT_STD = 0.5


def check_discrete(
    actions: Any, num_actions: int, names: Sequence[str], batch: int | None, frames: int, values: bool = True
) -> Int64[Tensor, "B F"]:
    """Validate actions of `Discrete(num_actions)`, by number or by name; see `PromptEncoder.check`.

    Raises:
        ActionError: if shape, dtype, a name or a number is wrong.
    """
    tensor = check_integers(as_tensor(numbered(actions, names, num_actions)))
    tensor = expand_frames(tensor, batch, frames, ())
    if values and tensor.numel():
        low, high = (int(v) for v in tensor.aminmax())
        if low < 0 or high >= num_actions:
            raise ActionError(f"got action {low if low < 0 else high}; expected integers from 0 to {num_actions - 1}")
    return tensor


@dataclass(kw_only=True, slots=True)
class DiscretePromptConfig:
    """Prompts of `Discrete(num_actions)`: width of a token, frames of a latent, and what the actions are called."""

    num_actions: int
    dim: int
    frames: int
    names: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Refuse sizes below 1, and names that are not one for each action."""
        check_counts(self, "num_actions", "dim", "frames", prefix="DiscretePromptConfig.")
        check_names(self.names, self.num_actions)


class DiscretePrompts(FramePrompts):
    """One learned embedding per action."""

    def __init__(self, config: DiscretePromptConfig) -> None:
        super().__init__(config.dim, config.frames, (), torch.int64)
        self.config = config
        self.actions = nn.Embedding(config.num_actions, config.dim)
        nn.init.normal_(self.actions.weight, std=_INIT_STD)

    def embed(self, actions: Int64[Tensor, "*batch F"]) -> Float[Tensor, "*batch F D"]:
        """Look the actions up."""
        return self.actions(actions)

    def check(self, actions: Any, batch: int | None, frames: int, values: bool = True) -> Int64[Tensor, "B F"]:
        """Validate integers in [0, num_actions), or names, [B] or [B, F]; see `PromptEncoder.check`."""
        return check_discrete(actions, self.config.num_actions, self.config.names, batch, frames, values)


@dataclass(kw_only=True, slots=True)
class MultiDiscretePromptConfig:
    """Prompts of `MultiDiscrete(sizes)`: width of a token, frames of a latent."""

    sizes: list[int]
    dim: int
    frames: int

    def __post_init__(self) -> None:
        """Refuse sizes below 1."""
        if not self.sizes or min(self.sizes) < 1:
            raise ConfigError(f"MultiDiscretePromptConfig.sizes is {self.sizes}; expected some, each at least 1")
        check_counts(self, "dim", "frames", prefix="MultiDiscretePromptConfig.")


class MultiDiscretePrompts(FramePrompts):
    """One learned embedding per value of every component; a frame's token is the sum of its components'."""

    offsets: Tensor

    def __init__(self, config: MultiDiscretePromptConfig) -> None:
        super().__init__(config.dim, config.frames, (len(config.sizes),), torch.int64)
        self.config = config
        self.actions = nn.Embedding(sum(config.sizes), config.dim)
        nn.init.normal_(self.actions.weight, std=_INIT_STD / len(config.sizes) ** 0.5)
        sizes = torch.tensor(config.sizes)
        self.register_buffer("offsets", sizes.cumsum(0) - sizes, persistent=False)

    def embed(self, actions: Int64[Tensor, "*batch F K"]) -> Float[Tensor, "*batch F D"]:
        """Look the components up and add them."""
        return self.actions(actions + self.offsets).sum(dim=-2)

    def check(self, actions: Any, batch: int | None, frames: int, values: bool = True) -> Int64[Tensor, "B F K"]:
        """Validate integers in [0, size of the component), [B, K] or [B, F, K]; see `PromptEncoder.check`."""
        tensor = check_integers(as_tensor(actions))
        tensor = expand_frames(tensor, batch, frames, self.action_shape)
        if values:
            self._check_values(tensor)
        return tensor

    def _check_values(self, actions: Tensor) -> None:
        sizes = torch.tensor(self.config.sizes, device=actions.device)
        outside = (actions < 0) | (actions >= sizes)
        if bool(outside.any()):
            row, frame, component = outside.nonzero()[0].tolist()
            raise ActionError(
                f"got {int(actions[row, frame, component])} as component {component} of row {row}'s action; expected "
                f"integers from 0 to {self.config.sizes[component] - 1}"
            )
