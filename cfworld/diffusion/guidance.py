"""Classifier-free guidance."""

from jaxtyping import Float
from torch import Tensor

__all__ = ["guided"]


def guided(v_cond: Float[Tensor, "*shape"], v_uncond: Float[Tensor, "*shape"], scale: float) -> Float[Tensor, "*shape"]:
    """Guided velocity u + scale (c - u) (Ho & Salimans, arXiv 2207.12598, Eq. 6, with scale = w + 1).

    Velocities may be mixed in place of scores or predictions of x0, which are affine in them at any sigma.

    Args:
        v_cond: velocity under the prompt, c.
        v_uncond: velocity under the null prompt, u.
        scale: 1 is no guidance, 0 ignores the prompt. Code that writes c + s (c - u) means scale = s + 1.
    """
    return v_uncond + scale * (v_cond - v_uncond)
