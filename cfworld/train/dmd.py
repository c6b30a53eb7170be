"""Distribution matching: gradients from the difference of two scores, as pure functions of tensors.

Context Forcing's Eq. 4 (Stage 1) and Eq. 6 (Stage 2) are one expression; they differ in what the scores see:

    grad L = E[ w_t alpha_t (s_fake(x_t, t | X_1:k) - s_real(x_t, t | X_1:k)) dG/dtheta ],

with X_1:k the student's own rollout (nothing, or a short prefix, in Stage 1). On the straight path the score is
s(x_t, t) = -(x_t - (1 - sigma) x0_hat) / sigma^2, so that at equal x_t the difference of two scores is a positive
multiple of the difference of their predictions of x0, and w_t alpha_t is free to make of it the scale-free
direction of DMD2 (arXiv 2405.14867, section 4) and Self-Forcing (arXiv 2506.08009).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from cfworld.diffusion import expand_sigma, sample_sigma, velocity

__all__ = ["SIGMA_RANGE", "critic_loss", "dmd_direction", "dmd_loss", "score_sigma"]

SIGMA_RANGE = (0.02, 0.98)
"""Noise levels at which scores are compared: at the ends the difference is all error."""


def score_sigma(num_targets: int, shift: float, generator: torch.Generator) -> Float[Tensor, " B"]:
    """Noise levels of the scores: uniform, shifted, clamped to `SIGMA_RANGE`; one for all latents of a target.

    Args:
        num_targets: How many targets there are.
        shift: The timestep shift; 5 in Self-Forcing.
        generator: Source of randomness, on the device of the result.
    """
    return sample_sigma((num_targets,), shift, generator).clamp(*SIGMA_RANGE)


def dmd_direction(
    x: Float[Tensor, "B N *latent"],
    x0_fake: Float[Tensor, "B N *latent"],
    x0_real: Float[Tensor, "B N *latent"],
    num_chunks: int = 1,
) -> Float[Tensor, "B N *latent"]:
    """The direction of Eq. 4 and Eq. 6, g = (x0_fake - x0_real) / mean |x - x0_real|, in float64.

    Args:
        x: What the student generated.
        x0_fake: Data that the critic sees in its noisy copy.
        x0_real: Data that the teacher sees in the same noisy copy.
        num_chunks: Parts of equal length along the latents, each of which has a mean of its own; 1 for one mean
            a row.

    Returns:
        g, without a gradient, and 0 where the mean is (the teacher leaves what the student generated as it is).
    """
    x, x0_fake, x0_real = (part.detach().double() for part in (x, x0_fake, x0_real))
    away = (x - x0_real).abs().unflatten(1, (num_chunks, -1))
    mean = away.flatten(2).mean(dim=2).repeat_interleave(away.shape[2], dim=1)
    scale = expand_sigma(mean, x)
    return torch.where(scale == 0, 0.0, (x0_fake - x0_real) / scale)


def dmd_loss(x: Float[Tensor, "*shape"], direction: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """A loss whose gradient is the direction: L = 1/2 MSE(x, stop_grad[x - g]), so that dL/dx = g / numel.

    Computed in float64: the two arguments of the square are close together.
    """
    wide = x.double()
    return 0.5 * (wide - (wide - direction.double()).detach()).square().mean()


def critic_loss(
    predicted: Float[Tensor, "*shape"], x: Float[Tensor, "*shape"], eps: Float[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """Flow matching on what the student generates, E |v_fake - (eps - x)|^2: the critic follows the student.

    Args:
        predicted: Velocity that the critic predicts in a noisy copy of `x`.
        x: What the student generated; no gradient reaches it.
        eps: Noise of that copy.
    """
    return (predicted.float() - velocity(x.detach().float(), eps)).square().mean()
