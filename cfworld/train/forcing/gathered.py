"""Gathered teacher forcing: one pass over a clip in which training equals inference.

Every chunk of a clip appears clean once and noisy M times, at M noise levels. All its copies attend to the raw keys
and values of the slots that the memory would show at that moment, gathered from the clean copies and rotated to those
slots' bounded positions; and each copy attends to itself. So one pass trains every chunk of the clip as a target, with
just the context that a rollout would give it. Gathering costs more than a copy does, so copies are cheap.

Shapes: B clips, M noisy copies, T latents, K = T / N chunks of N latents, S slots, n tokens a latent, G = B K groups.
"""

from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from cfworld.memory import MemoryConfig, memory_positions, push_index
from cfworld.model import Generator, TransformerOutput, apply_rope

__all__ = [
    "GatheredOutput",
    "SlotSchedule",
    "gathered_forward",
    "gathered_keys",
    "gathered_velocity",
    "slot_schedule",
]

Known = tuple[Float[Tensor, "layers B T n H d"], Float[Tensor, "layers B T n H d"]]
"""Keys, before RoPE, and values of every latent of a batch of clips."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SlotSchedule:
    """Which latents the memory shows to each chunk.

    Attributes:
        source: Index within the clip of each slot's latent, [B, K, S]; 0 where empty.
        valid: Which slots hold something, [B, K, S].
        slot_positions: Temporal position of each slot, [B, K, S].
        positions: Temporal positions of each chunk's latents, [B, K, N].
    """

    source: Int[Tensor, "B K S"]
    valid: Bool[Tensor, "B K S"]
    slot_positions: Int[Tensor, "B K S"]
    positions: Int[Tensor, "B K N"]


@dataclass(frozen=True, kw_only=True, slots=True)
class GatheredOutput:
    """What one pass over a batch of clips gives.

    Attributes:
        velocity: Predicted velocity of every noisy latent, [B, M, T, C, h, w].
        reward: Reward of every frame, from the clean copies, [B, T, f].
        hazard_logit: Logit of ending at every frame, [B, T, f].
        has_heads: Whether rewards and ends are predicted; otherwise they are 0, and there is nothing to learn.
    """

    velocity: Tensor
    reward: Tensor
    hazard_logit: Tensor
    has_heads: bool


def slot_schedule(config: MemoryConfig, flags: Bool[Tensor, "B K"]) -> SlotSchedule:
    """Replay the memory's bookkeeping over a clip, given which chunks are flagged for slow memory.

    It is the rollout's own `push_index`, so that training and inference cannot disagree.
    """
    rows, num_chunks = flags.shape
    chunk, device = config.latents_per_chunk, flags.device
    valid = torch.zeros(rows, config.num_slots, dtype=torch.bool, device=device)
    flagged, source = valid, valid.long()
    seen = []
    for index in range(num_chunks):
        count = torch.full((rows,), index * chunk, device=device)
        seen.append((source, valid, *memory_positions(config, valid, source, count)))
        for offset in range(chunk):
            step = push_index(valid, flagged, config)
            is_flagged = flags[:, index : index + 1] & (offset == 0)
            new_source = torch.full_like(source[:, :1], index * chunk + offset)
            source = torch.cat([source, new_source], dim=1).gather(1, step)
            flagged = torch.cat([flagged, is_flagged], dim=1).gather(1, step)
            valid = torch.cat([valid, torch.ones_like(is_flagged)], dim=1).gather(1, step)
    sources, valids, slots, positions = (torch.stack(parts, dim=1) for parts in zip(*seen, strict=True))
    return SlotSchedule(source=sources, valid=valids, slot_positions=slots, positions=positions)


def gathered_forward(
    generator: Generator,
    schedule: SlotSchedule,
    clean: Float[Tensor, "B T C h w"],
    noisy: Float[Tensor, "B M T C h w"],
    sigma: Float[Tensor, "B M T"],
    actions: Num[Tensor, "B T f *action"],
    dropped: Bool[Tensor, "B M T"] | None = None,
) -> GatheredOutput:
    """Predict the velocity of every noisy latent of a batch of clips.

    Args:
        generator: Prompt encoder, transformer and heads.
        schedule: What the memory shows to each chunk.
        clean: Context copies; errors may have been added to them (ERFT).
        noisy: M copies of the targets at their noise levels; no copy sees another.
        sigma: Noise level of each target, one per chunk.
        actions: One action per frame.
        dropped: Targets whose prompt becomes the null prompt; the context keeps its own.
    """
    prompts = generator.prompts(actions)
    output = _one_pass(
        generator,
        schedule,
        torch.cat([clean[:, None], noisy], dim=1),
        torch.cat([torch.zeros_like(sigma[:, :1]), sigma], dim=1),
        torch.cat([prompts[:, None], _target_prompts(generator, prompts, actions, noisy.shape[1], dropped)], dim=1),
    )
    chunk = schedule.positions.shape[2]
    reward, hazard_logit = generator.heads(output.features[:, :chunk])

    def ungrouped(part: Tensor) -> Tensor:
        return rearrange(part, "(B K) N ... -> B (K N) ...", B=len(clean))

    return GatheredOutput(
        velocity=_by_copy(output.velocity[:, chunk:], noisy),
        reward=ungrouped(reward),
        hazard_logit=ungrouped(hazard_logit),
        has_heads=generator.transformer.config.heads,
    )


def gathered_keys(
    generator: Generator,
    schedule: SlotSchedule,
    clean: Float[Tensor, "B T C h w"],
    actions: Num[Tensor, "B T f *action"],
) -> Known:
    """Keys, before RoPE, and values of every latent of a batch of clips, as a memory would come to hold them.

    Args:
        generator: Prompt encoder and transformer.
        schedule: What the memory shows to each chunk.
        clean: The latents.
        actions: One action per frame.
    """
    sigma = torch.zeros(len(clean), 1, clean.shape[1], device=clean.device)
    output = _one_pass(generator, schedule, clean[:, None], sigma, generator.prompts(actions)[:, None])
    keys, values = (
        rearrange(torch.stack(parts), "L (B K) N n H d -> L B (K N) n H d", B=len(clean))
        for parts in (output.keys, output.values)
    )
    return keys, values


def gathered_velocity(
    generator: Generator,
    schedule: SlotSchedule,
    known: Known,
    noisy: Float[Tensor, "B M T C h w"],
    sigma: Float[Tensor, "B M T"],
    actions: Num[Tensor, "B T f *action"],
    dropped: Bool[Tensor, "B M T"] | None = None,
) -> Float[Tensor, "B M T C h w"]:
    """The velocity that `gathered_forward` predicts, for a context that has been read: for several looks at one.

    Args:
        generator: Prompt encoder and transformer.
        schedule: What the memory shows to each chunk.
        known: What `gathered_keys` gave for the context.
        noisy: As in `gathered_forward`, like what follows.
        sigma: Noise level of each target.
        actions: One action per frame.
        dropped: Targets whose prompt becomes the null prompt.
    """
    prompts = _target_prompts(generator, generator.prompts(actions), actions, noisy.shape[1], dropped)
    return _by_copy(_one_pass(generator, schedule, noisy, sigma, prompts, known).velocity, noisy)


def _target_prompts(
    generator: Generator,
    prompts: Float[Tensor, "B T P E"],
    actions: Num[Tensor, "B T f *action"],
    num_copies: int,
    dropped: Bool[Tensor, "B M T"] | None,
) -> Float[Tensor, "B M T P E"]:
    """Every copy's prompts, some of them dropped."""
    if dropped is None:
        return prompts[:, None].expand(-1, num_copies, *prompts.shape[1:])
    return generator.prompts(actions[:, None].expand(-1, num_copies, *actions.shape[1:]), dropped)


def _by_copy(velocity: Float[Tensor, "G MN C h w"], noisy: Float[Tensor, "B M T C h w"]) -> Tensor:
    """Velocities in the order of the noisy latents."""
    return rearrange(velocity, "(B K) (M N) ... -> B M (K N) ...", B=len(noisy), M=noisy.shape[1])


def _one_pass(
    generator: Generator,
    schedule: SlotSchedule,
    copies: Float[Tensor, "B m T C h w"],
    sigma: Float[Tensor, "B m T"],
    prompts: Float[Tensor, "B m T P E"],
    known: Known | None = None,
) -> TransformerOutput:
    """Read copies of clips, [G, m N, ...]; all attend to what is known, or else to the first, which is clean."""
    rows, num_copies, length = copies.shape[:3]
    num_chunks, num_slots = schedule.source.shape[1:]
    chunk = length // num_chunks
    tokens = generator.transformer.config.tokens_per_latent

    def grouped(part: Tensor) -> Tensor:
        return rearrange(part, "B m (K N) ... -> (B K) (m N) ...", K=num_chunks)

    first = torch.arange(rows, device=copies.device)[:, None, None] * length
    gather_index = (schedule.source + first).flatten()
    cos, sin = (
        rearrange(table, "B K S n H d -> (B K) (S n) H d")
        for table in generator.transformer.rotation(schedule.slot_positions)
    )

    def gather(latents: Tensor) -> Tensor:
        slots = latents.index_select(0, gather_index)
        return rearrange(slots, "(G S) n H d -> G (S n) H d", S=num_slots)

    def context(layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        if known is None:
            seen = (rearrange(new[:, :chunk], "G N n H d -> (G N) n H d") for new in (keys, values))
        else:
            seen = (part[layer].flatten(0, 1) for part in known)
        keys, values = map(gather, seen)
        return apply_rope(keys, cos, sin), values

    return generator.transformer(
        grouped(copies),
        grouped(sigma),
        grouped(prompts),
        rearrange(schedule.positions, "B K N -> (B K) N").repeat(1, num_copies),
        context,
        _mask(schedule.valid, num_copies, chunk * tokens, tokens),
    )


def _mask(
    valid: Bool[Tensor, "B K S"], num_copies: int, tokens_per_copy: int, tokens_per_latent: int
) -> Bool[Tensor, "G 1 q k"]:
    """Every query sees the valid slots and its own copy of the chunk, clean or noisy."""
    own = torch.eye(num_copies, dtype=torch.bool, device=valid.device)
    own = own.repeat_interleave(tokens_per_copy, dim=0).repeat_interleave(tokens_per_copy, dim=1)
    slots = valid.flatten(0, 1).repeat_interleave(tokens_per_latent, dim=1)
    queries = own.shape[0]
    return torch.cat([slots[:, None].expand(-1, queries, -1), own.expand(slots.shape[0], -1, -1)], dim=2).unsqueeze(1)
