"""Consistency distillation: a student that jumps from any point of the teacher's trajectory to its end.

The consistency function is f(x_sigma, sigma) = x_sigma - sigma v(x_sigma, sigma), which is the identity at sigma = 0
whatever v is: the boundary condition of Song et al. (arXiv 2303.01469, section 3) needs no further parameters.

A level i of a grid of N lies at u = 1 - i / N before the timestep shift: level 0 is noise, level N is data.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from cfworld.diffusion.flow import denoised, expand_sigma
from cfworld.diffusion.schedule import shift as shifted
from cfworld.diffusion.solver import VelocityFn, euler

__all__ = ["consistency_target", "draw_levels", "level_path", "pseudo_huber"]


def draw_levels(
    shape: Sequence[int], num_levels: int, num_steps: int, step_share: float, generator: torch.Generator
) -> Int[Tensor, "*shape"]:
    """Draw levels, favouring those at which the few-step sampler will call the student.

    Args:
        shape: Shape of the result.
        num_levels: Levels of the grid; the data, level `num_levels`, is never drawn.
        num_steps: Steps of the sampler; divides `num_levels`, so that its levels are levels of the grid.
        step_share: Share of draws from the sampler's levels alone; the rest is uniform over all.
        generator: Source of randomness, on the device of the result.

    Returns:
        int64 in 0 to num_levels - 1.
    """
    lead, device = tuple(shape), generator.device
    anywhere = torch.randint(num_levels, lead, generator=generator, device=device)
    of_sampler = torch.randint(num_steps, lead, generator=generator, device=device) * (num_levels // num_steps)
    return torch.where(torch.rand(lead, generator=generator, device=device) < step_share, of_sampler, anywhere)


def level_path(
    level: Int[Tensor, "*shape"], num_levels: int, num_substeps: int, shift: float, *, to_data: bool = False
) -> Float32[Tensor, " points *shape"]:
    """Noise levels that the teacher passes from a level to the next one.

    Args:
        level: 0 to num_levels - 1.
        num_levels: Levels of the grid.
        num_substeps: Steps of the teacher on the way, equal before the shift.
        shift: The timestep shift.
        to_data: Go to the data instead of the next level.

    Returns:
        float32 [num_substeps + 1, *shape], falling from the level's sigma to the next one's (0 for the data, exactly).
    """
    start = (num_levels - level).double()
    end = torch.zeros_like(start) if to_data else start - 1
    parts = [(start * (num_substeps - i) + end * i) / (num_levels * num_substeps) for i in range(num_substeps + 1)]
    return shifted(torch.stack(parts), shift).float()


@torch.no_grad()
def consistency_target(
    teacher: VelocityFn,
    student: VelocityFn,
    x: Float[Tensor, "B N *latent"],
    path: Float32[Tensor, "points B N *rest"],
    solver: Callable[[VelocityFn, Tensor, Tensor], Tensor] = euler,
    *,
    to_data: bool = False,
) -> Float[Tensor, "B N *latent"]:
    """What f(x, path[0]) shall be: f of the averaged student at the point to which the teacher carries x.

    Consistency Models, Eqs. 6 and 7. Where the path ends at the data, the target is the teacher's own trajectory's
    end. No gradient reaches anything.

    Args:
        teacher: The frozen teacher's velocity.
        student: The averaged student's velocity.
        x: Points at path[0].
        path: Falling noise levels of every latent.
        solver: `euler` or `heun`.
        to_data: All paths end there, so that no student is asked. It is not read off the paths: processes that share
            a student out must all ask it, or none.
    """
    ahead = solver(teacher, x, path)
    if to_data:
        return ahead
    end = path[-1]
    return torch.where(expand_sigma(end, ahead) > 0, denoised(ahead, student(ahead, end), end), ahead)


def pseudo_huber(difference: Float[Tensor, "*lead C h w"], scale: float) -> Float[Tensor, "*lead"]:
    """Distance of every latent, sqrt(d^2 + c^2) - c, where d^2 is the mean square over its elements.

    Song & Dhariwal, arXiv 2310.14189, section 3.3, per element. Far above c it grows like d, so that no few latents
    rule the gradient; far below c like d^2 / 2c.

    Args:
        difference: Prediction minus target.
        scale: c, in units of latents; 0 for the plain mean square d^2.
    """
    squared = difference.square().mean(dim=(-3, -2, -1))
    return torch.sqrt(squared + scale**2) - scale if scale else squared
