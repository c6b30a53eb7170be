"""Calibration of the heads on a world's own rollouts: one shift for the hazard, one for the reward.

The heads learn from real clips. On what the generator itself makes they may be off as a whole: features drift a
little, and a rare end is easily drowned. So the world is rolled out for a moment from real starts under the real
actions, and the hazard's logit is shifted until the expected number of ends is the twin's.

Nothing but a shift is fitted. A rollout parts from the twin's course sooner or later, and what the twin then does is
noise to it: labels that are right on average, but no longer for this picture. A shift needs only the average. A slope
or weights fitted to such labels would learn that pictures tell nothing.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from cfworld.train.banks.latent_bank import ClipBatch
from cfworld.train.forcing.clip_losses import masked_mean
from cfworld.train.replay import replayed
from cfworld.world import Ends, World

__all__ = ["HeadShifts", "calibrate", "fit_shift"]

BRACKET = 30.0
"""Shifts of a logit are looked for between minus this and this."""

BATCH = 32
"""Rows that are rolled out at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HeadShifts:
    """What calibration found.

    Attributes:
        hazard: Added to the hazard's logit.
        reward: Added to the reward of a frame.
        ends: Ends of the twin within the rollouts' frames.
        expected_before: Ends that the hazard expected in those frames.
        expected_after: Ends that it expects with its shift.
    """

    hazard: float
    reward: float
    ends: float
    expected_before: float
    expected_after: float


def calibrate(world: World, clips: ClipBatch, prior: float) -> HeadShifts:
    """Shift a world's heads, in place, to what the twin did after the same starts under the same actions.

    Args:
        world: Its generator's heads are shifted.
        clips: Prefixes of `prefix_latents` latents and what came after them, drawn evenly over the episodes.
        prior: Standard deviation of the shift of the hazard that is expected beforehand; few ends move it little.
    """
    parts = [_rollout(world, clips, rows) for rows in torch.arange(len(clips.latents)).split(BATCH)]
    logit, reward = (torch.cat(part) for part in zip(*parts, strict=True))
    after = slice(world.config.prefix_latents, world.config.prefix_latents + logit.shape[1])
    mortal, valid = clips.mortal[:, after], clips.valid[:, after]
    ends, logit = clips.ends[:, after][mortal], logit[mortal]
    shift = fit_shift(logit, ends, prior)
    reward_shift = masked_mean(clips.rewards[:, after] - reward, valid)
    world.generator.heads.hazard.out.bias.data += shift
    world.generator.heads.reward.out.bias.data += reward_shift
    return HeadShifts(
        hazard=shift,
        reward=float(reward_shift),
        ends=float(ends.sum()),
        expected_before=float(logit.sigmoid().sum()),
        expected_after=float((logit + shift).sigmoid().sum()),
    )


def fit_shift(logit: Float[Tensor, " n"], happened: Float[Tensor, " n"], prior: float) -> float:
    """The shift of logits that is most likely under a normal prior around zero.

    It solves sum(happened - p(shift)) = shift / prior^2: without a prior, as many as happened are expected.

    Args:
        logit: Predicted logit of each trial.
        happened: 1 where it happened, 0 where it did not.
        prior: Standard deviation of the prior.
    """
    logit, observed = logit.double(), happened.double().sum()
    low, high = -BRACKET, BRACKET
    for _ in range(60):
        middle = (low + high) / 2
        excess = observed - (logit + middle).sigmoid().sum() - middle / prior**2
        low, high = (middle, high) if excess > 0 else (low, middle)
    return (low + high) / 2


def _rollout(
    world: World, clips: ClipBatch, rows: Int64[Tensor, " B"]
) -> tuple[Float[Tensor, "B L f"], Float[Tensor, "B L f"]]:
    """Logit of the hazard and reward at every frame after the prefixes of some clips; ends do not stop a row."""
    chunk = world.config.latents_per_chunk
    logits, rewards = [], []
    for out in replayed(world, clips.latents[rows], clips.actions[rows], rows.tolist(), Ends.NEVER):
        logits.append(out.hazard.double().logit(eps=1e-12).float().unflatten(1, (chunk, -1)))
        rewards.append(out.reward_frames.unflatten(1, (chunk, -1)))
    return torch.cat(logits, dim=1).clone(), torch.cat(rewards, dim=1).clone()
