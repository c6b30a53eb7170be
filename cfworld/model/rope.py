"""Three-axis rotary position embedding, in the interleaved layout of Wan.

A head's channel pairs are split into a temporal, a vertical and a horizontal part (22 / 21 / 21 of 64 pairs at
Wan's size). Keys are stored un-rotated in the memory, so that a slot can take a new temporal position whenever its
rank changes (Eq. 8 of Context Forcing).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["apply_rope", "axis_pairs", "rope_table"]


def axis_pairs(head_dim: int) -> tuple[int, int, int]:
    """Channel pairs for time, height and width: Wan's split, the remainder going to time."""
    pairs = head_dim // 2
    return pairs - 2 * (pairs // 3), pairs // 3, pairs // 3


def _angles(positions: Tensor, num_pairs: int, theta: float) -> Tensor:
    frequencies = theta ** (-torch.arange(num_pairs, device=positions.device, dtype=torch.float64) / num_pairs)
    return positions.to(torch.float64)[..., None] * frequencies


def rope_table(
    positions: Int[Tensor, "*batch"], grid: tuple[int, int], head_dim: int, theta: float
) -> tuple[Float[Tensor, "*batch n 1 d"], Float[Tensor, "*batch n 1 d"]]:
    """Cosines and signed sines for the tokens of latents at the given temporal positions.

    Args:
        positions: Temporal position of each latent.
        grid: Rows and columns of tokens in a latent, n = rows * columns.
        head_dim: Width d of a head.
        theta: Base of the frequencies.

    Returns:
        Two float32 tables; the sine is negative on the first channel of every pair, so that
        `apply_rope` needs no further sign.
    """
    rows, columns = grid
    pairs_t, pairs_h, pairs_w = axis_pairs(head_dim)
    device = positions.device
    row = torch.arange(rows, device=device).repeat_interleave(columns)
    column = torch.arange(columns, device=device).repeat(rows)
    lead = (*positions.shape, rows * columns)
    angles = torch.cat(
        [
            _angles(positions, pairs_t, theta)[..., None, :].expand(*lead, pairs_t),
            _angles(row, pairs_h, theta).expand(*lead, pairs_h),
            _angles(column, pairs_w, theta).expand(*lead, pairs_w),
        ],
        dim=-1,
    )
    cos = angles.cos().repeat_interleave(2, dim=-1)
    sin = angles.sin().repeat_interleave(2, dim=-1)
    sin[..., 0::2] *= -1
    return cos[..., None, :].float(), sin[..., None, :].float()


def apply_rope(
    x: Float[Tensor, "*batch n H d"], cos: Float[Tensor, "*#batch n 1 d"], sin: Float[Tensor, "*#batch n 1 d"]
) -> Float[Tensor, "*batch n H d"]:
    """Rotate queries or keys: (a, b) -> (a cos - b sin, a sin + b cos) on every channel pair."""
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return x * cos.to(x.dtype) + swapped * sin.to(x.dtype)
