"""What the metrics look at in frames: pure functions of uint8 images, one number per image.

Leading axes are kept, so [B, T, H, W, 3] gives [B, T].
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, UInt8
from torch.nn import functional

__all__ = [
    "MAX_PSNR",
    "MIN_MOVING_PIXELS",
    "MOVING_THRESHOLD",
    "blurred",
    "colour",
    "luma",
    "motion",
    "moving_pixels",
    "psnr",
    "saturation",
    "sharpness",
    "ssim",
]

MAX_PSNR = 60.0
"""PSNR of equal images, so that a mean over starts stays finite."""
MOVING_THRESHOLD = 16
"""A pixel moves where some channel changes by more than this, of 255."""
MIN_MOVING_PIXELS = 16
"""Starts with fewer moving pixels do not count for the PSNR over moving pixels."""
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_SSIM_WINDOW, _SSIM_SIGMA = 11, 1.5


def luma(frames: UInt8[np.ndarray, "*batch H W 3"]) -> Float32[np.ndarray, "*batch H W"]:
    """Brightness in [0, 1] (Rec. 601)."""
    return (frames.astype(np.float32) / 255) @ _LUMA


def psnr(
    frames: UInt8[np.ndarray, "*batch H W 3"],
    truth: UInt8[np.ndarray, "*batch H W 3"],
    mask: Bool[np.ndarray, "*batch H W"] | None = None,
) -> Float64[np.ndarray, "*batch"]:
    """Peak signal-to-noise ratio in dB, at most `MAX_PSNR`.

    Args:
        frames: images to judge.
        truth: what they should be.
        mask: which pixels count; all by default. NaN where fewer than `MIN_MOVING_PIXELS` do.
    """
    squared = ((frames.astype(np.float32) - truth) / 255) ** 2
    if mask is None:
        error = squared.mean(axis=(-3, -2, -1), dtype=np.float64)
    else:
        count = mask.sum(axis=(-2, -1)).astype(np.float64)
        total = (squared.mean(axis=-1) * mask).sum(axis=(-2, -1), dtype=np.float64)
        error = np.where(count >= MIN_MOVING_PIXELS, total / np.maximum(count, 1), np.nan)
    return np.asarray(-10 * np.log10(np.maximum(error, 10 ** (-MAX_PSNR / 10))))


def moving_pixels(
    truth: UInt8[np.ndarray, "*batch H W 3"], before: UInt8[np.ndarray, "*batch H W 3"]
) -> Bool[np.ndarray, "*batch H W"]:
    """Pixels that the twin changed since `before` by more than `MOVING_THRESHOLD` in some channel."""
    change = np.abs(truth.astype(np.int16) - before.astype(np.int16))
    return change.max(axis=-1) > MOVING_THRESHOLD


def ssim(
    frames: UInt8[np.ndarray, "*batch H W 3"], truth: UInt8[np.ndarray, "*batch H W 3"]
) -> Float64[np.ndarray, "*batch"]:
    """Structural similarity of the brightness (Wang et al. 2004, Eq. 13): Gaussian window, valid places."""
    x, y = _images(luma(frames)), _images(luma(truth))
    mean_x, mean_y = _smooth(x), _smooth(y)
    var_x, var_y = _smooth(x * x) - mean_x**2, _smooth(y * y) - mean_y**2
    covariance = _smooth(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    score = score / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return score.mean(dim=(1, 2, 3)).double().numpy().reshape(frames.shape[:-3])


def sharpness(frames: UInt8[np.ndarray, "*batch H W 3"]) -> Float64[np.ndarray, "*batch"]:
    """High-frequency energy: mean square of the brightness after the four-neighbour Laplacian."""
    y = luma(frames)
    centre = y[..., 1:-1, 1:-1]
    around = y[..., :-2, 1:-1] + y[..., 2:, 1:-1] + y[..., 1:-1, :-2] + y[..., 1:-1, 2:]
    return np.asarray(((centre - around / 4) ** 2).mean(axis=(-2, -1), dtype=np.float64))


def motion(frames: UInt8[np.ndarray, "*batch T H W 3"]) -> Float64[np.ndarray, "*batch"]:
    """Motion energy: mean square of the brightness differences of consecutive frames."""
    return np.asarray((np.diff(luma(frames), axis=-3) ** 2).mean(axis=(-3, -2, -1), dtype=np.float64))


def colour(frames: UInt8[np.ndarray, "*batch H W 3"]) -> Float64[np.ndarray, "*batch 3"]:
    """Mean red, green and blue in [0, 1]."""
    return frames.mean(axis=(-3, -2), dtype=np.float64) / 255


def saturation(frames: UInt8[np.ndarray, "*batch H W 3"]) -> Float64[np.ndarray, "*batch"]:
    """Mean difference between the largest and the smallest channel, in [0, 1]."""
    spread = frames.max(axis=-1).astype(np.float32) - frames.min(axis=-1)
    return np.asarray(spread.mean(axis=(-2, -1), dtype=np.float64) / 255)


def blurred(frames: UInt8[np.ndarray, "*batch H W 3"], sigma: float = 1.5) -> UInt8[np.ndarray, "*batch H W 3"]:
    """Frames under a Gaussian blur of `sigma` pixels, edges mirrored."""
    radius = math.ceil(3 * sigma)
    images = torch.from_numpy(np.moveaxis(frames.astype(np.float32), -1, -3)).reshape(-1, 1, *frames.shape[-3:-1])
    images = functional.pad(images, (radius,) * 4, mode="reflect")
    smooth = _smooth(images, 2 * radius + 1, sigma).round().clamp(0, 255).byte()
    planes = smooth.numpy().reshape(*frames.shape[:-3], 3, *frames.shape[-3:-1])
    return np.ascontiguousarray(np.moveaxis(planes, -3, -1))


def _images(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).reshape(-1, 1, *values.shape[-2:])


def _smooth(images: torch.Tensor, window: int = _SSIM_WINDOW, sigma: float = _SSIM_SIGMA) -> torch.Tensor:
    """Gaussian average of [n, 1, H, W] at the places where the whole window fits."""
    offsets = torch.arange(window, dtype=torch.float32) - window // 2
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    images = functional.conv2d(images, kernel.view(1, 1, -1, 1))
    return functional.conv2d(images, kernel.view(1, 1, 1, -1))
