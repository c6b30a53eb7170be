"""Solvers: from noise to data along a velocity field.

`velocity_fn(x [B, N, ...], sigma float32 [B, N])` is the only thing that they know of a network. `sigmas`
is the grid of `schedule.sigmas`, from 1 to 0, or a path of its own for every latent, [steps + 1, B, N].
"""

from collections.abc import Callable

from jaxtyping import Float, Float32
from torch import Tensor

from cfworld.diffusion.flow import denoised, expand_sigma, renoise
from cfworld.settings import Choice

__all__ = ["NoiseFn", "Solver", "VelocityFn", "euler", "few_step", "heun", "integrate", "levels_of_passes"]

VelocityFn = Callable[[Tensor, Tensor], Tensor]
NoiseFn = Callable[[int], Tensor]


class Solver(Choice):
    """How noise becomes data."""

    EULER = "euler"
    HEUN = "heun"
    FEW_STEP = "few_step"


def integrate(
    solver: Solver,
    velocity_fn: VelocityFn,
    x: Float[Tensor, "B N *latent"],
    sigmas: Float32[Tensor, " steps_and_end *lead"],
    noise_fn: NoiseFn,
) -> Float[Tensor, "B N *latent"]:
    """Go along the path from `x` by the solver that is named; `noise_fn` is few_step's alone."""
    if solver is Solver.FEW_STEP:
        return few_step(velocity_fn, x, sigmas, noise_fn)
    return (euler if solver is Solver.EULER else heun)(velocity_fn, x, sigmas)


def levels_of_passes(solver: Solver, num_steps: int) -> list[int]:
    """Which level of the grid each call of the velocity is at: Heun's corrector looks from the next one."""
    return [level for step in range(num_steps) for level in ((step, step + 1) if solver is Solver.HEUN else (step,))]


def euler(
    velocity_fn: VelocityFn, x: Float[Tensor, "B N *latent"], sigmas: Float32[Tensor, " steps_and_end *lead"]
) -> Float[Tensor, "B N *latent"]:
    """Integrate dx / dsigma = v with the explicit Euler method; exact on a constant velocity.

    Args:
        velocity_fn: the velocity field, called once per step.
        x: the sample at `sigmas[0]`.
        sigmas: falling noise levels.

    Returns:
        The sample at `sigmas[-1]`.
    """
    for i in range(len(sigmas) - 1):
        v = velocity_fn(x, _per_latent(sigmas[i], x))
        x = x + expand_sigma(sigmas[i + 1] - sigmas[i], x) * v
    return x


def heun(
    velocity_fn: VelocityFn, x: Float[Tensor, "B N *latent"], sigmas: Float32[Tensor, " steps_and_end *lead"]
) -> Float[Tensor, "B N *latent"]:
    """Integrate dx / dsigma = v with Heun's trapezoid; exact on a velocity that is linear in sigma.

    The corrector also runs on the last step: unlike EDM's, this velocity is finite at sigma = 0.

    Args:
        velocity_fn: the velocity field, called twice per step.
        x: the sample at `sigmas[0]`.
        sigmas: falling noise levels.

    Returns:
        The sample at `sigmas[-1]`.
    """
    for i in range(len(sigmas) - 1):
        step = expand_sigma(sigmas[i + 1] - sigmas[i], x)
        v = velocity_fn(x, _per_latent(sigmas[i], x))
        v_end = velocity_fn(x + step * v, _per_latent(sigmas[i + 1], x))
        x = x + step * (v + v_end) / 2
    return x


def few_step(
    velocity_fn: VelocityFn,
    x: Float[Tensor, "B N *latent"],
    sigmas: Float32[Tensor, " steps_and_end *lead"],
    noise_fn: NoiseFn,
) -> Float[Tensor, "B N *latent"]:
    """Sample a distilled generator: denoise completely, put fresh noise back, repeat.

    Self-Forcing (arXiv 2506.08009), Algorithm 2; Context Forcing samples alike.

    Args:
        velocity_fn: the velocity field, called once per step.
        x: the sample at `sigmas[0]`; at 1, pure noise, the draw of pass 0.
        sigmas: falling noise levels; the last one, 0, is where the result lies.
        noise_fn: standard normal noise like `x` for pass 1, 2, ...

    Returns:
        The denoised sample of the last pass.
    """
    num_passes = len(sigmas) - 1
    for i in range(num_passes):
        sigma = _per_latent(sigmas[i], x)
        x = denoised(x, velocity_fn(x, sigma), sigma)
        if i + 1 < num_passes:
            x = renoise(x, noise_fn(i + 1), _per_latent(sigmas[i + 1], x))
    return x


def _per_latent(sigma: Tensor, x: Tensor) -> Tensor:
    return sigma if sigma.ndim else sigma.expand(x.shape[:2])
