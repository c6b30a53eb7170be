"""Noise levels: the timestep shift, the sampler's grid, and the training distribution."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float32
from torch import Tensor

__all__ = ["sample_sigma", "shift", "sigmas", "stratified_sigma"]

_SMALLEST = 2.0**-24
_LARGEST = 1.0 - 2.0**-24


def shift(sigma: Float[Tensor, "*shape"], s: float) -> Float[Tensor, "*shape"]:
    """Move levels towards noise: s sigma / (1 + (s - 1) sigma) (Esser et al., arXiv 2403.03206, Eq. 23).

    Args:
        sigma: levels in [0, 1].
        s: at least 1 in practice; 1 leaves the levels alone, 1 / s undoes s.
    """
    return _shifted(sigma, s)


def sigmas(num_steps: int, shift: float, device: torch.device | str | None = None) -> Float32[Tensor, " steps_and_end"]:
    """Grid of the sampler: `num_steps` equal steps from 1 to 0, shifted.

    Four steps with shift 5 are the paper's [1000, 937.5, 833.3, 625] / 1000, then 0.

    Args:
        num_steps: number of network passes, at least 1.
        shift: the timestep shift.
        device: where the grid is made.

    Returns:
        float32 [num_steps + 1], strictly falling from 1 to 0.

    Raises:
        ValueError: if there is no step, or the shift is not positive.
    """
    if num_steps < 1:
        raise ValueError(f"num_steps is {num_steps}; expected at least 1")
    if not shift > 0:
        raise ValueError(f"shift is {shift}; expected a positive number (1 = none, 5 in the paper)")
    grid = torch.linspace(1, 0, num_steps + 1, dtype=torch.float64, device=device)
    return _shifted(grid, shift).float()


def sample_sigma(
    shape: Sequence[int],
    shift: float,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Float32[Tensor, "*shape"]:
    """Training noise levels: uniform, then shifted.

    Args:
        shape: shape of the result, for instance (B, N).
        shift: the timestep shift.
        generator: source of randomness, on the device of the result.
        device: where the levels are made; the generator's device by default.

    Returns:
        float32 levels in the open interval (0, 1).
    """
    if device is None and generator is not None:
        device = generator.device
    uniform = torch.rand(tuple(shape), generator=generator, device=device)
    return _shifted(uniform, shift).clamp(_SMALLEST, _LARGEST)


def stratified_sigma(shape: tuple[int, int, int], shift: float, generator: torch.Generator) -> Float32[Tensor, "B M T"]:
    """Training noise levels of M copies that share the range out: copy m draws u from [m / M, (m + 1) / M).

    Over the copies the levels are distributed as `sample_sigma`'s, with less variance.

    Args:
        shape: (B, M, T): rows, copies, levels of each copy.
        shift: the timestep shift.
        generator: source of randomness, on the device of the result.

    Returns:
        float32 levels in the open interval (0, 1).
    """
    uniform = torch.rand(shape, generator=generator, device=generator.device)
    copy = torch.arange(shape[1], device=generator.device)[:, None]
    return _shifted((copy + uniform) / shape[1], shift).clamp(_SMALLEST, _LARGEST)


def _shifted(sigma: Tensor, s: float) -> Tensor:
    return s * sigma / (1 + (s - 1) * sigma)
