"""Rectified flow: the straight path between data and noise, and the conversions along it.

The time convention of cfworld: `sigma` = 1 is noise, `sigma` = 0 is data,

    x_sigma = (1 - sigma) x0 + sigma eps,    v = d x_sigma / d sigma = eps - x0

(Liu et al., "Flow Straight and Fast", arXiv 2209.03003, Eq. 1, with time running from data to noise).
All functions are elementwise and keep the wider dtype of their arguments.
"""

from jaxtyping import Float
from torch import Tensor

__all__ = ["denoised", "expand_sigma", "interpolate", "noise_from", "renoise", "velocity"]


def expand_sigma(sigma: Float[Tensor, "*prefix"], x: Float[Tensor, "*shape"]) -> Float[Tensor, "*expanded"]:
    """Give `sigma` trailing axes of size 1, so that it multiplies `x` along its leading axes and no others.

    Args:
        sigma: noise levels in [0, 1]; each axis equals the axis of `x` at the same place, or is 1. A scalar
            is allowed.
        x: what will be multiplied, for instance [B, N, C, h, w].

    Returns:
        A view of `sigma` with as many axes as `x`.

    Raises:
        ValueError: if an axis of `sigma` differs from the leading axes of `x`.
    """
    leading = x.shape[: sigma.ndim]
    agrees = sigma.ndim <= x.ndim and all(s in (1, a) for s, a in zip(sigma.shape, leading, strict=True))
    if not agrees:
        raise ValueError(
            f"sigma has shape {tuple(sigma.shape)}; expected the leading axes of x {tuple(x.shape)}, or 1 in "
            "their place: give one sigma per row and latent, [B, N]"
        )
    return sigma.reshape(sigma.shape + (1,) * (x.ndim - sigma.ndim))


def interpolate(
    x0: Float[Tensor, "*shape"], eps: Float[Tensor, "*shape"], sigma: Float[Tensor, "*prefix"]
) -> Float[Tensor, "*shape"]:
    """Noisy sample x_sigma = (1 - sigma) x0 + sigma eps (Eq. 1 of rectified flow).

    Args:
        x0: data, [B, N, C, h, w].
        eps: standard normal noise of the same shape.
        sigma: noise levels in [0, 1], [B, N] or a broadcastable prefix.

    Returns:
        x_sigma, with the shape of `x0`.
    """
    s = expand_sigma(sigma, x0)
    return (1 - s) * x0 + s * eps


def velocity(x0: Float[Tensor, "*shape"], eps: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Velocity of the path, v = eps - x0: the target of flow matching."""
    return eps - x0


def denoised(
    x: Float[Tensor, "*shape"], v: Float[Tensor, "*shape"], sigma: Float[Tensor, "*prefix"]
) -> Float[Tensor, "*shape"]:
    """Data that a velocity points to, x0 = x_sigma - sigma v."""
    return x - expand_sigma(sigma, x) * v


def noise_from(
    x: Float[Tensor, "*shape"], v: Float[Tensor, "*shape"], sigma: Float[Tensor, "*prefix"]
) -> Float[Tensor, "*shape"]:
    """Noise that a velocity comes from, eps = x_sigma + (1 - sigma) v."""
    return x + (1 - expand_sigma(sigma, x)) * v


def renoise(
    x0: Float[Tensor, "*shape"], eps: Float[Tensor, "*shape"], sigma: Float[Tensor, "*prefix"]
) -> Float[Tensor, "*shape"]:
    """Put a prediction back to noise level `sigma` with fresh noise, as a few-step generator does."""
    return interpolate(x0, eps, sigma)
