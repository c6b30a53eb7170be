"""How a reconstruction of blocks is weighted, compared and shown.

Blocks come with the frame before them: G = F + 1 frames. Pixels P = 3 F are frames and colours on one axis.
"""

import torch
from einops import rearrange, repeat
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional

__all__ = [
    "contact_sheet",
    "detail",
    "local_mean",
    "mean_error",
    "pixel_weights",
    "reconstruction_figures",
    "weighted_error",
]

MOVING = 0.05
"""A pixel moves when a colour changes by more than this share of its range."""


def pixel_weights(
    frames: UInt8[Tensor, "B G H W 3"],
    median: UInt8[Tensor, "H W 3"],
    *,
    rare: float,
    motion: float,
    clip: float,
) -> Float32[Tensor, "B P H W"]:
    """Weight pixels by 1 + rare * |x_t - median| + motion * |x_t - x_(t-1)|, means over colours.

    Args:
        frames: Blocks, each preceded by the frame before it.
        median: The dataset's median frame.
        rare: Weight of the distance from the median frame.
        motion: Weight of the change since the frame before.
        clip: Largest distance and change that count; colours span 0 to 1.

    Returns:
        Weights of the blocks' frames, the same for the colours of a pixel.
    """
    values = frames.float() / 255.0
    distance = (values[:, 1:] - median.float() / 255.0).abs().mean(dim=-1).clamp(max=clip)
    change = (values[:, 1:] - values[:, :-1]).abs().mean(dim=-1).clamp(max=clip)
    return repeat(1.0 + rare * distance + motion * change, "B F H W -> B (F c) H W", c=3)


def weighted_error(
    pixels: Float32[Tensor, "B P H W"],
    target: Float32[Tensor, "B P H W"],
    weights: Float32[Tensor, "B P H W"],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return three weighted means: absolute error, squared error, absolute error of spatial differences."""
    error = pixels - target
    absolute = (weights * error.abs()).mean()
    squared = (weights * error.square()).mean()
    across = (weights[..., 1:] * (error[..., 1:] - error[..., :-1]).abs()).mean()
    down = (weights[..., 1:, :] * (error[..., 1:, :] - error[..., :-1, :]).abs()).mean()
    return absolute, squared, 0.5 * (across + down)


def mean_error(
    pixels: Float32[Tensor, "B P H W"],
    target: Float32[Tensor, "B P H W"],
    weights: Float32[Tensor, "B P H W"],
) -> Tensor:
    """Weighted absolute plus squared error of 5x5 means: right brightness, whatever the grain."""
    error = local_mean(pixels - target)
    return (weights * (error.abs() + error.square())).mean()


def local_mean(images: Float32[Tensor, "B D H W"], size: int = 5) -> Float32[Tensor, "B D H W"]:
    """Mean over the window of `size` x `size` pixels around each, of those that there are."""
    return functional.avg_pool2d(images, size, stride=1, padding=size // 2, count_include_pad=False)


def detail(images: Float32[Tensor, "B D H W"]) -> Float32[Tensor, "B D H W"]:
    """What a 3x3 mean takes away."""
    return images - local_mean(images, 3)


def reconstruction_figures(frames: UInt8[Tensor, "B G H W 3"], decoded: UInt8[Tensor, "B F H W 3"]) -> dict[str, float]:
    """Measure reconstructions.

    Args:
        frames: Real blocks, each preceded by the frame before it.
        decoded: Their reconstructions, without that frame.

    Returns:
        `psnr`: peak signal-to-noise ratio over all pixels, in dB.
        `psnr_moving`: the same over pixels of which a colour changed by over 0.05 since the frame before.
        `sharpness`: high-frequency energy as a share of the real frames' (below 1: blurred).
    """
    values, output = frames.float() / 255.0, decoded.float() / 255.0
    real = values[:, 1:]
    moving = ((real - values[:, :-1]).abs() > MOVING).any(dim=-1)
    error = (output - real).square().mean(dim=-1)
    moving_error = error[moving].mean() if bool(moving.any()) else error.mean()
    sharp, truth = (detail(rearrange(part, "B F H W c -> (B F) c H W")).square().mean() for part in (output, real))
    sharpness = sharp / truth.clamp(min=1e-12)
    return {
        "psnr": _decibel(error.mean()),
        "psnr_moving": _decibel(moving_error),
        "sharpness": float(sharpness),
    }


def contact_sheet(
    frames: UInt8[Tensor, "B F H W 3"],
    decoded: UInt8[Tensor, "B F H W 3"],
    scores: Float32[Tensor, " B"],
    *,
    blocks_per_row: int = 2,
    num_rows: int = 4,
    zoom: int = 2,
) -> UInt8[Tensor, "h w 3"]:
    """Arrange real blocks above their reconstructions.

    Args:
        frames: Real blocks.
        decoded: Their reconstructions.
        scores: How much happens in each block; blocks are taken evenly from the upper quarter.
        blocks_per_row: Blocks side by side.
        num_rows: Pairs of rows.
        zoom: Enlargement of the pixels.

    Returns:
        One RGB image.
    """
    count = min(blocks_per_row * num_rows, len(scores))
    upper = scores.argsort(descending=True)[: max(count, len(scores) // 4)]
    chosen = upper[torch.linspace(0, len(upper) - 1, count).long()]
    chosen = chosen[: count - count % blocks_per_row or count]
    pairs = torch.stack([frames[chosen], decoded[chosen]])
    columns = min(blocks_per_row, len(chosen))
    image = rearrange(pairs, "k (r b) F H W c -> (r k H) (b F W) c", b=columns)
    return image.repeat_interleave(zoom, dim=0).repeat_interleave(zoom, dim=1).contiguous()


def _decibel(mean_squared_error: Tensor) -> float:
    return float(-10.0 * torch.log10(mean_squared_error.clamp(min=1e-10)))
