"""Self-resampling: the context that a stage learns from holds what its own network makes of it.

Resampling Forcing (arXiv 2512.15702): the past is noised to a level t_s and denoised again by the network in training,
each latent after the resampled ones before it and without a gradient, while the targets stay the true ones. ERFT's
bank holds errors of single predictions from noised truth, which shows where everything is; what only adds up from step
to step, such as a heading that drifts, is in no such error, and is in these. It is off by default: docs/adr/0015
says what came of it and what is wrong with it.

Shapes: B clips, T latents, K = T / N chunks of N latents, S slots; R = B x stretches rows that are resampled side by
side.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor

from cfworld.diffusion import euler, few_step, heun, interpolate, sigmas
from cfworld.errors import ConfigError
from cfworld.model import Generator
from cfworld.rollout import Context, SamplerConfig, Solver, context_of_slots, read
from cfworld.train.gathered import SlotSchedule, gathered_keys
from cfworld.train.team import ALONE, Team

__all__ = ["Resampled", "ResamplingConfig", "draw_strengths", "draw_stretches", "resample", "resampled"]


@dataclass(kw_only=True, slots=True)
class ResamplingConfig:
    """How much of the context a network makes itself.

    Attributes:
        share: Share of clips whose context is resampled; 0 leaves it out.
        stretch: Chunks made one after the other, each from those before it. Every stretch begins in the true past, and
            a clip is resampled in stretches from its beginning, which stays true, to its end.
        lowest: Every stretch is noised to a level t_s of its own, uniform between this and 1; at 1 nothing of the truth
            is left but the actions.
        tolerance: Where a resampled latent is farther than this from the true one, in root mean square over the
            channels of a position, it shows another world that is as good, and the true one is no target there.
        sampler: How it is denoised, without guidance.
    """

    share: float = 0.0
    stretch: int = 8
    lowest: float = 1.0
    tolerance: float = 0.7
    sampler: SamplerConfig = field(default_factory=lambda: SamplerConfig(num_steps=4, shift=1.0))

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and 0 < self.lowest <= 1 and self.stretch >= 1 and self.tolerance > 0):
            raise ConfigError(
                f"Got resampling.share={self.share}, lowest={self.lowest}, stretch={self.stretch} and "
                f"tolerance={self.tolerance}; expected a share in 0 to 1, a noise level above 0 and up to 1, one chunk "
                "or more, and a positive distance."
            )
        if self.sampler.guidance != 1.0:
            raise ConfigError(f"Got resampling.sampler.guidance={self.sampler.guidance}; expected 1, which is none.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resampled:
    """Contexts of which some are resampled.

    Attributes:
        context: The latents to learn from, [B, T, C, h, w].
        agrees: Where they show the same as the true ones, [B, T, h, w].
    """

    context: Tensor
    agrees: Tensor


def resampled(
    config: ResamplingConfig,
    network: Generator,
    schedule: SlotSchedule,
    latents: Float[Tensor, "B T C h w"],
    context: Float[Tensor, "B T C h w"],
    actions: Num[Tensor, "B T f *action"],
    generator: torch.Generator,
    team: Team = ALONE,
) -> Resampled:
    """Contexts in which a share of the clips is resampled; the others stay as they are.

    Args:
        config: How.
        network: Makes them.
        schedule: What the memory shows to each chunk.
        latents: The true clips.
        context: What the others learn from: the true clips, or ones with errors of another kind.
        actions: One action per frame.
        generator: Draws.
        team: Who has the other clips.
    """
    num_chunks, chunk = schedule.positions.shape[1:]
    if not config.share or num_chunks == 1:
        return Resampled(context=context, agrees=torch.ones_like(latents[:, :, 0], dtype=torch.bool))
    rows, device = len(latents) * team.size, latents.device
    starts = draw_stretches(num_chunks, config.stretch, generator)
    strengths = draw_strengths((rows, len(starts)), config.lowest, generator)
    hit = torch.rand(rows, generator=generator, device=device) < config.share
    shape = rows, len(starts), chunk, *latents.shape[2:]

    def noise() -> Tensor:
        return team.own(torch.randn(shape, generator=generator, device=device)).flatten(0, 1)

    made = resample(network, config.sampler, schedule, latents, actions, starts, team.own(strengths), noise)
    chosen = team.own(hit)[:, None, None, None]
    far = (made - latents).square().mean(dim=2) > config.tolerance**2
    return Resampled(context=torch.where(chosen[..., None], made, context), agrees=~(far & chosen))


def draw_stretches(num_chunks: int, stretch: int, generator: torch.Generator) -> Int[Tensor, " stretches"]:
    """Chunks at which stretches begin: one every `stretch` chunks, the first after 1 to `stretch` true ones.

    A clip of two chunks or more has at least one stretch.
    """
    device = generator.device
    first = 1 + int(torch.randint(min(stretch, num_chunks - 1), (), generator=generator, device=device))
    return torch.arange(first, num_chunks, stretch, device=device)


def draw_strengths(shape: tuple[int, int], lowest: float, generator: torch.Generator) -> Float[Tensor, "B stretches"]:
    """Noise levels of stretches, uniform between `lowest` and 1."""
    return 1 - (1 - lowest) * torch.rand(shape, generator=generator, device=generator.device)


@torch.no_grad()
def resample(
    network: Generator,
    sampler: SamplerConfig,
    schedule: SlotSchedule,
    latents: Float[Tensor, "B T C h w"],
    actions: Num[Tensor, "B T f *action"],
    starts: Int[Tensor, " stretches"],
    strengths: Float[Tensor, "B stretches"],
    noise: Callable[[], Float[Tensor, "R N C h w"]],
) -> Float[Tensor, "B T C h w"]:
    """Make the latents of every stretch anew, one chunk after the other, over the memory that they leave.

    Args:
        network: Makes them.
        sampler: How.
        schedule: What the memory shows to each chunk.
        latents: The true clips; what comes before a stretch is read from them.
        actions: One action per frame.
        starts: Chunks at which the stretches begin; each goes on to the next one, and the last to the end.
        strengths: The level to which each stretch is noised.
        noise: A fresh draw for every row.
    """
    num_clips, (num_chunks, chunk) = len(latents), schedule.positions.shape[1:]
    device = latents.device
    keys, values = gathered_keys(network, schedule, latents, actions)
    clip = torch.arange(num_clips, device=device).repeat_interleave(len(starts))
    start, level = starts.repeat(num_clips), strengths.flatten()
    end = torch.cat([starts[1:], starts.new_tensor([num_chunks])])
    keys, values, made = keys[:, clip], values[:, clip], latents.clone()
    rows = torch.arange(len(clip), device=device)[:, None]
    for offset in range(int((end - starts).max())):
        at = (start + offset).clamp(max=num_chunks - 1)
        piece = at[:, None] * chunk + torch.arange(chunk, device=device)
        source = schedule.source[clip, at]
        slots, current = schedule.slot_positions[clip, at], schedule.positions[clip, at]
        context = context_of_slots(
            network, keys[:, rows, source], values[:, rows, source], schedule.valid[clip, at], slots, current
        )
        done = actions[clip[:, None], piece]
        x = _denoised_again(network, sampler, context, latents[clip[:, None], piece], done, level, noise)
        output = read(network, x, torch.zeros(x.shape[:2], device=device), network.prompts(done), context)
        keys[:, rows, piece] = torch.stack(output.keys).to(keys.dtype)
        values[:, rows, piece] = torch.stack(output.values).to(values.dtype)
        within = (start + offset < end.repeat(num_clips)).nonzero()[:, 0]
        made[clip[within, None], piece[within]] = x[within]
    torch.clear_autocast_cache()  # its copies of the weights were made without a graph; see `self_rollout.recording`
    return made


def _denoised_again(
    network: Generator,
    sampler: SamplerConfig,
    context: Context,
    latents: Float[Tensor, "R N C h w"],
    actions: Num[Tensor, "R N f *action"],
    level: Float[Tensor, " R"],
    noise: Callable[[], Float[Tensor, "R N C h w"]],
) -> Float[Tensor, "R N C h w"]:
    """The sampler's path from each row's noise level instead of from 1, beginning at the noised truth."""
    grid = sigmas(sampler.num_steps, sampler.shift, latents.device)
    path = grid[:, None, None] * level[:, None].expand(latents.shape[:2])
    prompts = network.prompts(actions)

    def velocity(x: Tensor, sigma: Tensor) -> Tensor:
        return read(network, x, sigma, prompts, context).velocity

    noisy = interpolate(latents, noise(), path[0])
    if sampler.solver is Solver.FEW_STEP:
        return few_step(velocity, noisy, path, lambda _pass: noise())
    return (euler if sampler.solver is Solver.EULER else heun)(velocity, noisy, path)
