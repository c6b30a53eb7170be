"""What all stages that learn from real clips share: batches, random promotions, and the heads' losses."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from cfworld.errors import ConfigError
from cfworld.train.banks.latent_bank import ClipBatch
from cfworld.train.forcing.gathered import GatheredOutput
from cfworld.train.processes.team import ALONE, Team

__all__ = ["ClipStep", "check_head_weights", "head_losses", "masked_mean", "random_promotions"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipStep:
    """One step's clips.

    Attributes:
        clips: The clips.
        step: The step that they are for.
    """

    clips: ClipBatch
    step: int


def random_promotions(
    rows: int, num_chunks: int, cadence: int, interval: int, generator: torch.Generator
) -> Bool[Tensor, "{rows} {num_chunks}"]:
    """Which chunks of each clip are promoted: Bernoulli draws at the memory's checks, at a rate of the clip's own.

    Args:
        rows: Clips.
        num_chunks: Chunks of a clip.
        cadence: Chunks from check to check; a clip begins anywhere between two checks.
        interval: Longest mean distance between promoted chunks, in checks; the rates lie between 1 and its inverse,
            uniform in their logarithm.
        generator: Source of randomness, on the device of the result.
    """
    device = generator.device
    exponent = torch.rand(rows, 1, generator=generator, device=device)
    rate = float(interval) ** -exponent
    promoted = torch.rand(rows, num_chunks, generator=generator, device=device) < rate
    phase = torch.randint(cadence, (rows, 1), generator=generator, device=device)
    return promoted & ((torch.arange(num_chunks, device=device) + phase) % cadence == 0)


def check_head_weights(reward_weight: float, hazard_weight: float) -> None:
    """Make sure that the weights of `head_losses` are weights.

    Raises:
        ConfigError: If one of them is negative.
    """
    if not min(reward_weight, hazard_weight) >= 0:
        raise ConfigError(
            f"got reward_weight={reward_weight}, hazard_weight={hazard_weight}; expected 0 or more of each."
        )


def head_losses(
    output: GatheredOutput, clips: ClipBatch, team: Team = ALONE, true: Bool[Tensor, "B T"] | None = None
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Squared error of the rewards, and negative log-likelihood of the ends where there could have been any.

    Both are 0 for a world without heads.

    Args:
        output: What the heads said of the context.
        clips: What happened in the recording.
        team: Who has the other clips.
        true: Where the context is the recording's, for what happens in what a network made nobody knows; everywhere
            if it is None.

    Returns:
        The loss of the rewards, and that of the ends.
    """
    if not output.has_heads:
        return clips.rewards.new_zeros(()), clips.rewards.new_zeros(())
    known = torch.ones_like(clips.valid) if true is None else true[..., None]
    reward = masked_mean((output.reward - clips.rewards).square(), clips.valid & known, team)
    surprise = functional.binary_cross_entropy_with_logits(output.hazard_logit, clips.ends, reduction="none")
    return reward, masked_mean(surprise, clips.mortal & known, team)


def masked_mean(values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"], team: Team = ALONE) -> Float[Tensor, ""]:
    """Mean over what the mask keeps, 0 if it keeps nothing: the mean over a team's processes is that over all rows."""
    return team.size * (values * mask).sum() / team.sum(mask.sum()).clamp(min=1)
