"""Committing a chunk: append, promote, evict, as pure functions with static shapes and no host synchronisation."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from cfworld.memory.config import MemoryConfig, PromotionRule
from cfworld.memory.similarity import key_similarity, token_mean
from cfworld.memory.state import MemoryState, NewLatents

__all__ = ["commit", "consolidate", "is_check", "push_index"]


def commit(
    state: MemoryState, config: MemoryConfig, new: NewLatents, flag: Bool[Tensor, " B"] | None = None
) -> MemoryState:
    """Put a chunk into the memory, after deciding whether its first latent is worth remembering.

    Every row follows its own history. A latent goes to the sink until that is full, then to fast memory; the
    oldest fast latent leaves when there is no room, into slow memory if it is flagged; slow memory drops its oldest.

    Args:
        state: The memory before.
        config: Its sizes and its rule.
        new: The chunk.
        flag: The decision, if it was taken elsewhere: networks that share slots follow one of them. The keys of
            such a memory are never compared, and its `promotions` count what it was told.
    """
    if flag is None:
        state, flag = consolidate(state, config, new)
    else:
        state = replace(state, promotions=state.promotions + flag.long())
    first_only = torch.arange(config.latents_per_chunk, device=flag.device) == 0
    valid, flagged = state.valid, state.flagged
    index = torch.arange(config.num_slots, device=flag.device).expand_as(valid)
    for offset in range(config.latents_per_chunk):
        step = push_index(valid, flagged, config)
        index = _gather_slots(index, torch.full_like(index[:, :1], config.num_slots + offset), step)
        valid = _gather_slots(valid, torch.ones_like(valid[:, :1]), step)
        flagged = _gather_slots(flagged, (flag & first_only[offset])[:, None], step)
    source = state.count[:, None] + torch.arange(config.latents_per_chunk, device=flag.device)
    return replace(
        state,
        keys=_gather_layers(state.keys, new.keys, index),
        values=_gather_layers(state.values, new.values, index),
        latents=_gather_slots(state.latents, new.latents, index),
        actions=_gather_slots(state.actions, new.actions, index),
        source=_gather_slots(state.source, source, index),
        valid=valid,
        flagged=flagged & _is_fast(config, flag.device),
        count=state.count + config.latents_per_chunk,
    )


def push_index(valid: Bool[Tensor, "B S"], flagged: Bool[Tensor, "B S"], config: MemoryConfig) -> Int[Tensor, "B S"]:
    """Where each slot's content comes from when one latent is pushed: an old slot, or S for the new latent.

    This bookkeeping is shared by the rollout and by the training pass, which gathers its context with it.
    """
    slots = torch.arange(config.num_slots, device=valid.device)
    first_slow, first_fast = config.num_sink, config.num_sink + config.num_slow
    in_sink, in_slow, in_fast = (
        slots < first_slow,
        (slots >= first_slow) & (slots < first_fast),
        slots >= first_fast,
    )
    num_sink, num_slow, num_fast = ((valid & part).sum(dim=1, keepdim=True) for part in (in_sink, in_slow, in_fast))

    to_sink = num_sink < config.num_sink
    fast_full = num_fast == config.num_stored_fast
    shift_fast = ~to_sink & fast_full
    promote = shift_fast & flagged[:, first_fast : first_fast + 1] & (config.num_slow > 0)
    slow_full = num_slow == config.num_slow

    new = to_sink & (slots == num_sink)
    new = new | (~to_sink & in_fast & (slots == first_fast + torch.where(fast_full, num_fast - 1, num_fast)))
    index = torch.where(shift_fast & in_fast, slots + 1, slots)
    index = torch.where(promote & slow_full & in_slow, slots + 1, index)
    landing = first_slow + torch.where(slow_full, num_slow - 1, num_slow)
    index = torch.where(promote & in_slow & (slots == landing), first_fast, index)
    return torch.where(new, config.num_slots, index)


def is_check(count: Int[Tensor, " B"], config: MemoryConfig) -> Bool[Tensor, " B"]:
    """Whether the chunk that begins at latent `count` is one that the cadence checks."""
    chunk = count // config.latents_per_chunk
    return (chunk + 1) % config.consolidate_every == 0


def consolidate(state: MemoryState, config: MemoryConfig, new: NewLatents) -> tuple[MemoryState, Bool[Tensor, " B"]]:
    """Eq. 7 on the rows whose chunk is checked: flag it when its similarity to the previous check is below tau.

    The first check of a row has nothing to compare with and always promotes.
    """
    check = is_check(state.count, config)
    mean = token_mean(new.keys)
    similarity = key_similarity(mean, state.reference, state.centre if config.centred else None)
    first = state.checks == 0
    similarity = torch.where(first, -torch.ones_like(similarity), similarity)
    flag = check & (config.rule is PromotionRule.UNIFORM or first | (similarity < state.threshold))
    threshold = state.threshold
    if config.target_rate > 0:
        step = config.adaptation * (config.target_rate - flag.float())
        threshold = torch.where(check & ~first, threshold + step, threshold).clamp(-1, 1)
    updated = replace(
        state,
        reference=torch.where(check[None, :, None], mean, state.reference),
        threshold=threshold,
        similarity=torch.where(check, similarity, state.similarity),
        checks=state.checks + check.long(),
        promotions=state.promotions + flag.long(),
    )
    return updated, flag


def _is_fast(config: MemoryConfig, device: torch.device) -> Tensor:
    return torch.arange(config.num_slots, device=device) >= config.num_sink + config.num_slow


def _gather_slots(old: Tensor, new: Tensor, index: Tensor) -> Tensor:
    """Rows of cat(old, new) along the slot axis, [B, S, ...]."""
    rows = torch.arange(index.shape[0], device=index.device)[:, None]
    return torch.cat([old, new], dim=1)[rows, index]


def _gather_layers(old: Tensor, new: Tensor, index: Tensor) -> Tensor:
    """The same for tensors with the layer axis first, [L, B, S, ...]."""
    rows = torch.arange(index.shape[0], device=index.device)[:, None]
    return torch.cat([old, new], dim=2)[:, rows, index]
