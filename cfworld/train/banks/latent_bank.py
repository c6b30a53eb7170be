"""The episodes of a dataset as latents, encoded once and kept in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from cfworld.data import Clip, to_blocks
from cfworld.errors import DatasetError
from cfworld.files import write_aside
from cfworld.precision import fast_precision
from cfworld.tokenizer import Tokenizer
from cfworld.train.banks.frame_bank import EpisodeSource
from cfworld.train.banks.recorded_actions import TextTable

__all__ = ["ClipBatch", "LatentBank", "encode_store"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipBatch:
    """Clips of one length; shorter ones are padded at their end.

    Attributes:
        latents: [B, T, C, h, w] float32.
        actions: As the world takes them, [B, T, f, ...].
        rewards: [B, T, f] float32.
        ends: 1 at the frame that ends an episode, [B, T, f] float32.
        valid: Frames up to the end, [B, T, f] bool.
        mortal: Frames at which the episode could have ended (not in god mode), [B, T, f] bool.
        present: Latents that are not padding, [B, T] bool.
    """

    latents: Tensor
    actions: Tensor
    rewards: Tensor
    ends: Tensor
    valid: Tensor
    mortal: Tensor
    present: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentBank:
    """All latents of all episodes, one after the other.

    Attributes:
        latents: [M, C, h, w] float16.
        actions: As `cfworld.data.action_space` lays them out, [M, f, ...]; `actions_at` gives them as the world takes
            them.
        rewards: [M, f] float32.
        ends: [M, f] float32.
        valid: [M, f] bool.
        mortal: [M, f] bool.
        first: Index of each episode's first latent, and M at the end, [E + 1] int64.
        seeds: [E] int64.
        texts: What stands for the numbered texts among the actions; None where there are none.
    """

    latents: Tensor
    actions: Tensor
    rewards: Tensor
    ends: Tensor
    valid: Tensor
    mortal: Tensor
    first: Tensor
    seeds: Tensor
    texts: TextTable | None = None

    @property
    def num_latents(self) -> list[int]:
        """Latents of each episode."""
        return self.first.diff().tolist()

    def clips(self, clips: Sequence[Clip], length: int, device: torch.device) -> ClipBatch:
        """Cut clips, padding short ones by repeating their last latent."""
        offsets = torch.arange(length)
        lengths = torch.tensor([clip.length for clip in clips])[:, None]
        starts = torch.tensor([int(self.first[clip.episode]) + clip.start for clip in clips])[:, None]
        index = starts + offsets.minimum(lengths - 1)
        present = offsets < lengths
        frames = present[..., None]
        return ClipBatch(
            latents=self.latents[index].to(device).float(),
            actions=self.actions_at(index).to(device),
            rewards=self.rewards[index].to(device),
            ends=self.ends[index].to(device),
            valid=(self.valid[index] & frames).to(device),
            mortal=(self.mortal[index] & frames).to(device),
            present=present.to(device),
        )

    def actions_at(self, index: Tensor) -> Tensor:
        """Actions of latents as the world takes them, [*, f, ...]."""
        actions = self.actions[index]
        return actions if self.texts is None else self.texts(actions)

    def mortal_episodes(self, min_latents: int) -> list[int]:
        """Episodes recorded without god mode that hold at least so many latents."""
        return [
            episode
            for episode, length in enumerate(self.num_latents)
            if length >= min_latents and bool(self.mortal[self.first[episode], 0])
        ]


def encode_store(
    store: EpisodeSource, tokenizer: Tokenizer, cache: Path | None, device: torch.device, batch_size: int = 64
) -> LatentBank:
    """Encode every episode of a store.

    Args:
        store: The episodes.
        tokenizer: Encodes them.
        cache: A file that keeps the result; its name should name the tokenizer's and the data's contents.
        device: Where to encode.
        batch_size: Latents encoded at once.

    Raises:
        DatasetError: If no episode is long enough for a latent.
    """
    if cache is not None and cache.is_file():
        read: dict[str, Any] = load_file(cache)
        return LatentBank(**read)
    room = sum(-(-int(length) // tokenizer.frames_per_latent) for length in store.lengths)
    joined: dict[str, Any] = {}
    """Made once, for as many latents as there may be: parts kept one by one would leave no hole large enough for the
    next episode's frames, and memory would grow by them."""
    first, seeds = [0], []
    tokenizer = tokenizer.to(device).eval()
    for index in tqdm(range(len(store.lengths)), desc="encoding episodes", dynamic_ncols=True, mininterval=1.0):
        episode = store.episode(index)
        blocks = to_blocks(episode, tokenizer.frames_per_latent)
        if not len(blocks):
            continue
        immortal = bool(episode.options.get("god", False))
        part = {
            "latents": _encode(tokenizer, blocks.frames, batch_size, device),
            "actions": torch.from_numpy(np.ascontiguousarray(blocks.actions)),
            "rewards": torch.from_numpy(blocks.rewards),
            "ends": torch.from_numpy(blocks.ends),
            "valid": torch.from_numpy(blocks.valid),
            "mortal": torch.from_numpy(blocks.valid & (not immortal)),
        }
        joined = joined or {name: value.new_empty(room, *value.shape[1:]) for name, value in part.items()}
        for name, value in part.items():
            joined[name][first[-1] : first[-1] + len(blocks)] = value
        first.append(first[-1] + len(blocks))
        seeds.append(episode.seed)
    if not joined:
        raise DatasetError(
            f"no episode is as long as one latent ({tokenizer.frames_per_latent} ticks); collect longer ones."
        )
    joined = {name: value[: first[-1]] for name, value in joined.items()}
    bank = LatentBank(
        **joined,
        first=torch.tensor(first),
        seeds=torch.tensor(seeds),
    )
    if cache is not None:
        with write_aside(cache) as aside:
            tensors = [name for name in LatentBank.__slots__ if name != "texts"]
            save_file({name: getattr(bank, name).contiguous() for name in tensors}, aside)
    return bank


@torch.inference_mode()
def _encode(tokenizer: Tokenizer, frames: np.ndarray, batch_size: int, device: torch.device) -> Tensor:
    """Latents [N, C, h, w] of an episode's blocks [N, f, H, W, 3]: one video where a latent depends on earlier ones."""
    blocks = torch.from_numpy(frames)
    with torch.autocast(device.type, torch.bfloat16, enabled=fast_precision(device) == "bf16"):
        if tokenizer.streams:
            return tokenizer.encode(blocks.flatten(0, 1)[None].to(device))[0].half().cpu()
        latents = [tokenizer.encode(piece.to(device))[:, 0] for piece in blocks.split(batch_size)]
    return torch.cat(latents).half().cpu()
