"""Self-resampling: the context that a stage learns from holds what its own network makes of it.

Resampling Forcing (arXiv 2512.15702): the past is noised to a level t_s and denoised again by the network in training,
each latent after the resampled ones before it and without a gradient, while the targets stay the true ones. ERFT's
bank holds errors of single predictions from noised truth, which shows where everything is; what only adds up from step
to step, such as a heading that drifts, is in no such error, and is in these. It is off by default; docs/adr/0015 says
what came of it.

Shapes: B clips, T latents, K = T / N chunks of N latents, S slots.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from cfworld.diffusion import integrate, interpolate, sigmas
from cfworld.errors import ConfigError
from cfworld.model import Generator
from cfworld.rollout import Context, SamplerConfig, context_of_slots, read
from cfworld.train.banks.latent_bank import ClipBatch
from cfworld.train.forcing.clip_losses import masked_mean
from cfworld.train.forcing.gathered import SlotSchedule, gathered_keys
from cfworld.train.processes.team import ALONE, Team

__all__ = ["Resampled", "ResamplingConfig", "before_padding", "draw_starts", "draw_strengths", "resample", "resampled"]


@dataclass(kw_only=True, slots=True)
class ResamplingConfig:
    """How much of the context a network makes itself.

    Attributes:
        share: Share of clips whose context is resampled; 0 leaves it out. In a padded clip of more than one chunk the
            stretch begins before the padding.
        stretch: Chunks made one after the other, each from those before it, once in a clip; what comes before them is
            true, and what comes after them is no target.
        lowest: Every stretch is noised to a level t_s of its own, uniform between this and 1; at 1 nothing of the truth
            is left but the actions.
        tolerance: Where a resampled latent is farther than this from the true one, in root mean square over the
            channels of a position, it shows another world that is as good, and the true one is no target there.
    """

    share: float = 0.0
    stretch: int = 8
    lowest: float = 1.0
    tolerance: float = 0.7

    def __post_init__(self) -> None:
        if not (0 <= self.share <= 1 and 0 < self.lowest <= 1 and self.stretch >= 1 and self.tolerance > 0):
            raise ConfigError(
                f"got resampling.share={self.share}, lowest={self.lowest}, stretch={self.stretch} and "
                f"tolerance={self.tolerance}; expected a share in 0 to 1, a noise level above 0 and up to 1, one chunk "
                "or more, and a positive distance."
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Resampled:
    """Contexts of which some are resampled.

    Attributes:
        context: The latents to learn from, [B, T, C, h, w].
        made: Which of them the network made, [B, T].
        true: Which of them are the recording's, with the errors of another kind that they may have, and follow upon
            nothing else, [B, T]: all, but for those made and those after them.
        asked: Where the recording is a target, [B, T, h, w].
    """

    context: Tensor
    made: Tensor
    true: Tensor
    asked: Tensor

    def asked_of_made(self, present: Bool[Tensor, "B T"], team: Team = ALONE) -> Float[Tensor, ""]:
        """Share of the positions of resampled latents, but for padding, at which the recording is a target."""
        return masked_mean(self.asked.float().mean(dim=(-2, -1)), self.made & present, team)


def resampled(
    config: ResamplingConfig,
    sampler: SamplerConfig,
    network: Generator,
    schedule: SlotSchedule,
    clips: ClipBatch,
    context: Float[Tensor, "B T C h w"],
    generator: torch.Generator,
    team: Team = ALONE,
) -> Resampled:
    """Contexts in which a share of the clips is resampled; the others stay as they are.

    Args:
        config: How much.
        sampler: How the world that learns denoises its chunks; guidance is left out.
        network: Makes them.
        schedule: What the memory shows to each chunk.
        clips: The true clips.
        context: What a stretch goes on from, and what the others learn from: the true latents, or ones with errors of
            another kind.
        generator: Draws.
        team: Who has the other clips.

    Returns:
        The contexts, and what is known of them.
    """
    latents, (num_chunks, chunk) = clips.latents, schedule.positions.shape[1:]
    if not config.share or num_chunks == 1:
        asked = torch.ones_like(latents[:, :, 0], dtype=torch.bool)
        true = asked[..., 0, 0]
        return Resampled(context=context, made=~true, true=true, asked=asked)
    rows, device = len(latents) * team.size, latents.device
    first = before_padding(team.own(draw_starts(rows, num_chunks, generator)), clips.present, num_chunks)
    strengths = team.own(draw_strengths(rows, config.lowest, generator))
    hit = team.own(torch.rand(rows, generator=generator, device=device) < config.share)

    def noise() -> Tensor:
        return team.own(torch.randn(rows, chunk, *latents.shape[2:], generator=generator, device=device))

    plain = replace(sampler, guidance=1.0)
    remade = resample(
        network, plain, schedule, latents, context, clips.actions, first, config.stretch, strengths, noise
    )
    offset = torch.arange(num_chunks, device=device).repeat_interleave(chunk) - first[:, None]
    made = hit[:, None] & (offset >= 0) & (offset < config.stretch)
    true = ~hit[:, None] | (offset < 0)
    near = (remade - latents).square().mean(dim=2) <= config.tolerance**2
    asked = true[..., None, None] | (made[..., None, None] & (near | (offset == 0)[..., None, None]))
    return Resampled(context=torch.where(_over(made), remade, context), made=made, true=true, asked=asked)


def draw_starts(rows: int, num_chunks: int, generator: torch.Generator) -> Int[Tensor, " {rows}"]:
    """The chunk at which each clip's stretch begins: any but the first, of two or more."""
    return torch.randint(1, num_chunks, (rows,), generator=generator, device=generator.device)


def before_padding(starts: Int[Tensor, " B"], present: Bool[Tensor, "B T"], num_chunks: int) -> Int[Tensor, " B"]:
    """The same starts in clips without padding; in others, as far along what is there of them.

    Args:
        starts: Chunks, 1 to `num_chunks` - 1.
        present: Which latents are no padding, which comes last.
        num_chunks: Chunks of a clip.
    """
    chunk = present.shape[1] // num_chunks
    there = -(-present.sum(dim=1) // chunk)
    return 1 + (starts - 1) * (there - 1).clamp(min=1) // (num_chunks - 1)


def draw_strengths(rows: int, lowest: float, generator: torch.Generator) -> Float[Tensor, " {rows}"]:
    """Noise levels of stretches, uniform between `lowest` and 1."""
    return 1 - (1 - lowest) * torch.rand(rows, generator=generator, device=generator.device)


@torch.no_grad()
def resample(
    network: Generator,
    sampler: SamplerConfig,
    schedule: SlotSchedule,
    latents: Float[Tensor, "B T C h w"],
    past: Float[Tensor, "B T C h w"],
    actions: Num[Tensor, "B T f *action"],
    starts: Int[Tensor, " B"],
    stretch: int,
    strengths: Float[Tensor, " B"],
    noise: Callable[[], Float[Tensor, "B N C h w"]],
) -> Float[Tensor, "B T C h w"]:
    """Make the latents of a stretch of every clip anew, one chunk after the other, over the memory that they leave.

    Args:
        network: Makes them.
        sampler: How, without guidance.
        schedule: What the memory shows to each chunk.
        latents: The true clips, from which a stretch is noised.
        past: The clips as a stage learns from them, errors included: what comes before a stretch is read from these,
            and what lies outside it stays as it is there.
        actions: One action per frame.
        starts: The chunks at which the stretches begin.
        stretch: Their length in chunks; one that would reach over the end of its clip ends there.
        strengths: The level to which each stretch is noised.
        noise: A fresh draw for every clip.
    """
    num_chunks, chunk = schedule.positions.shape[1:]
    clip = torch.arange(len(latents), device=latents.device)
    rows = clip[:, None]
    keys, values = gathered_keys(network, schedule, past, actions)
    made = past.clone()
    for offset in range(min(stretch, num_chunks - 1)):
        at = (starts + offset).clamp(max=num_chunks - 1)
        piece = at[:, None] * chunk + torch.arange(chunk, device=latents.device)
        source, valid = schedule.source[clip, at], schedule.valid[clip, at]
        slots, current = schedule.slot_positions[clip, at], schedule.positions[clip, at]
        context = context_of_slots(network, keys[:, rows, source], values[:, rows, source], valid, slots, current)
        done = actions[rows, piece]
        x = _denoised_again(network, sampler, context, latents[rows, piece], done, strengths, noise)
        x = torch.where(_over((starts + offset < num_chunks)[:, None]), x, made[rows, piece])
        output = read(network, x, torch.zeros(x.shape[:2], device=x.device), network.prompts(done), context)
        keys[:, rows, piece] = torch.stack(output.keys).to(keys.dtype)
        values[:, rows, piece] = torch.stack(output.values).to(values.dtype)
        made[rows, piece] = x
    torch.clear_autocast_cache()  # its copies of the weights were made without a graph; see `self_rollout.recording`
    return made


def _denoised_again(
    network: Generator,
    sampler: SamplerConfig,
    context: Context,
    latents: Float[Tensor, "B N C h w"],
    actions: Num[Tensor, "B N f *action"],
    level: Float[Tensor, " B"],
    noise: Callable[[], Float[Tensor, "B N C h w"]],
) -> Float[Tensor, "B N C h w"]:
    """The sampler's path from each row's noise level instead of from 1, beginning at the noised truth."""
    grid = sigmas(sampler.num_steps, sampler.shift, latents.device)
    path = grid[:, None, None] * level[:, None].expand(latents.shape[:2])
    prompts = network.prompts(actions)

    def velocity(x: Tensor, sigma: Tensor) -> Tensor:
        return read(network, x, sigma, prompts, context).velocity

    noisy = interpolate(latents, noise(), path[0])
    return integrate(sampler.solver, velocity, noisy, path, lambda _pass: noise())


def _over(latents_BT: Tensor) -> Tensor:
    """What is known of whole latents, laid over their elements."""
    return latents_BT[..., None, None, None]
