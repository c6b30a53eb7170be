"""What teacher and critic say of a student's targets: the two losses of distribution matching."""

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from cfworld.diffusion import denoised, guided, interpolate
from cfworld.model import Generator
from cfworld.rollout import Context, read
from cfworld.train.distillation.self_rollout import Target, recording
from cfworld.train.dmd import critic_loss, dmd_direction, dmd_loss, score_sigma
from cfworld.train.processes.team import ALONE, Team

__all__ = ["fake_score_loss", "score_velocity", "student_loss"]


def score_velocity(
    generator: Generator,
    noisy: Float[Tensor, "B M C h w"],
    sigma: Float[Tensor, " B"],
    actions: Num[Tensor, "B M f *action"],
    context: Context,
    dropped: Bool[Tensor, "B M"] | None = None,
) -> Float[Tensor, "B M C h w"]:
    """Velocity of a target under the slots before it; its latents attend to each other and share a noise level."""
    prompts = generator.prompts(actions) if dropped is None else generator.prompts(actions, dropped)
    return read(generator, noisy, sigma[:, None].expand(noisy.shape[:2]), prompts, context).velocity


def student_loss(
    real: Generator,
    fake: Generator,
    target: Target,
    generator: torch.Generator,
    *,
    shift: float,
    guidance: float = 1.0,
    num_chunks: int = 1,
    team: Team = ALONE,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The student's loss, Eq. 4 and Eq. 6: both scores read the same noisy copy under the same slots.

    Args:
        real: The teacher.
        fake: The critic.
        target: What the student made, with its gradient.
        generator: Draws noise levels and noise.
        shift: Shift of the noise levels.
        guidance: Textbook scale of the teacher's classifier-free guidance, 1 for none (upstream's s is this less 1).
        num_chunks: Chunks that each have a normaliser of their own; 1 for one a row.
        team: Who has the other rows.

    Returns:
        The loss, and the root mean square of the direction and the mean |x0_fake - x0_real|.
    """
    x = target.latents
    with torch.no_grad():
        sigma, noise = _level_and_noise(target, shift, generator, team)
        noisy = interpolate(x.detach(), noise, sigma)
        v_real = score_velocity(real, noisy, sigma, target.actions, target.real)
        if guidance != 1.0:
            nothing = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
            v_real = guided(v_real, score_velocity(real, noisy, sigma, target.actions, target.real, nothing), guidance)
        x0_fake = denoised(noisy, score_velocity(fake, noisy, sigma, target.actions, target.fake), sigma)
        x0_real = denoised(noisy, v_real, sigma)
        direction = dmd_direction(x, x0_fake, x0_real, num_chunks)
    metrics = {"direction": team.mean(direction.square().mean()).sqrt(), "score_gap": (x0_fake - x0_real).abs().mean()}
    return dmd_loss(x, direction), metrics


def fake_score_loss(
    fake: Generator, target: Target, generator: torch.Generator, *, shift: float, team: Team = ALONE
) -> Tensor:
    """The critic's loss: flow matching on the student's targets, under the slots that they were made with."""
    x = target.latents.detach()
    sigma, noise = _level_and_noise(target, shift, generator, team)
    with recording(True):
        predicted = score_velocity(fake, interpolate(x, noise, sigma), sigma, target.actions, target.fake)
        return critic_loss(predicted, x, noise)


def _level_and_noise(target: Target, shift: float, generator: torch.Generator, team: Team) -> tuple[Tensor, Tensor]:
    """A noise level [B] and noise for every row of all targets: this process's of those that all draw."""
    x, number = target.latents, target.num_targets
    rows = len(x) * team.size
    sigma = score_sigma(rows, shift, generator)
    noise = torch.randn(rows, *x.shape[1:], generator=generator, device=x.device)
    return team.own(sigma, number), team.own(noise, number)
