"""Reading starts into memories, each once."""

import math
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from cfworld.errors import StartError
from cfworld.memory.packed import pack
from cfworld.model import Generator
from cfworld.rollout import prime
from cfworld.tokenizer import Tokenizer
from cfworld.world.config import WorldConfig
from cfworld.world.start import EncodedStarts, Start
from cfworld.world.start_encoding import check_start, encode_start
from cfworld.world.start_memory import StartMemories, StartMemory
from cfworld.world.state import WorldState

__all__ = ["StartReader"]

FOREIGN_PSNR = 15.0
"""Starts that the tokenizer reconstructs worse than this are foreign: a blank picture reaches about as much."""


class StartReader:
    """Makes start memories, and remembers them.

    Args:
        tokenizer: Frames to latents and back.
        generator: Whose keys and values the memories hold.
        starts: The starts that indices name.
    """

    def __init__(self, tokenizer: Tokenizer, generator: Generator, starts: EncodedStarts) -> None:
        self.memories = StartMemories()
        self._tokenizer = tokenizer
        self._generator = generator
        self._starts = starts
        self._device = starts.latents.device
        self._has_warned = False

    def read(self, start: Any, config: WorldConfig, fingerprint: str, *, decode: bool) -> StartMemory:
        """What an episode from a start begins with.

        Args:
            start: What `World.initial` takes.
            config: The world's settings, its memory's among them.
            fingerprint: The world's own; what is remembered under another one is not used.
            decode: Its frames are wanted too.

        Raises:
            StartError: If the start does not fit the world.
            DonatedStateError: If it is a state that has been donated.
        """
        if isinstance(start, WorldState):
            self._check_state(start, fingerprint)
            return self._decoded(StartMemory(memory=pack(start.memory), latents=start.latents), decode)
        start = start if isinstance(start, Start) else _index(start)
        key = (fingerprint, start.digest if isinstance(start, Start) else start)
        found = self.memories.get(key)
        entry = self._decoded(found or self._primed(start, config), decode)
        if entry is not found:
            self.memories.put(key, entry)
        return entry

    def check(self, start: Any, config: WorldConfig, fingerprint: str) -> None:
        """Refuse what `read` would refuse, without reading it."""
        if isinstance(start, WorldState):
            self._check_state(start, fingerprint)
        elif isinstance(start, Start):
            check_start(start, config, self._generator)
        else:
            self._starts.pick(_index(start))

    def _primed(self, start: Start | int, config: WorldConfig) -> StartMemory:
        """Read a prefix into a memory of one row."""
        if isinstance(start, Start):
            latents, actions, frames = encode_start(start, config, self._tokenizer, self._generator, self._device)
            self._warn_of_foreign(config.name, frames, latents)
        else:
            latents, actions = self._starts.pick(start)
        memory = prime(self._generator, config.memory, latents[None], actions[None])
        last = latents[None, -config.latents_per_chunk :].float().clone()
        return StartMemory(memory=pack(memory), latents=last)

    def _check_state(self, state: WorldState, fingerprint: str) -> None:
        state.check_usable()
        if state.world != fingerprint:
            raise StartError(
                f"got a state of {state.world} as a start; expected one of this world, {fingerprint}: its memory "
                "means nothing to other weights or another memory. Give the frames instead."
            )
        if state.num_rows != 1:
            raise StartError(f"got a state of {state.num_rows} rows as a start; expected one row: select([row]) it.")
        if state.seeds.device.type != self._device.type:
            raise StartError(
                f"got a state on {state.seeds.device} as a start; expected one on {self._device}: save it, and load "
                "it with WorldState.load(path, device=...)."
            )
        if bool(state.ended):
            raise StartError("got a state whose episode has ended as a start; expected one from before its end.")

    def _decoded(self, entry: StartMemory, decode: bool) -> StartMemory:
        if not decode or entry.frames is not None:
            return entry
        return replace(entry, frames=self._tokenizer.decode(entry.latents))

    def _warn_of_foreign(self, name: str, frames: Tensor, latents: Tensor) -> None:
        """Say once when a start looks like nothing that the tokenizer has learnt to show."""
        if self._has_warned:
            return
        shown = self._tokenizer.decode(latents[None])[0].float()
        squared = (shown - frames.float()).square().mean().item()
        psnr = 10 * math.log10(255**2 / max(squared, 1e-6))
        if psnr < FOREIGN_PSNR:
            self._has_warned = True
            warnings.warn(
                f"a start comes back from the tokenizer at {psnr:.1f} dB (below {FOREIGN_PSNR:.0f}): its frames are "
                f"far from what {name!r} was trained on, and what follows will be too.",
                stacklevel=6,
            )


def _index(start: Any) -> int:
    if isinstance(start, bool) or not isinstance(start, int | np.integer):
        raise StartError(
            f"a start is an index, a cfworld.Start or a cfworld.WorldState of one row; got {type(start).__name__}. "
            "Start.from_image, from_clip and from_episode and WorldState.load make one of what you have."
        )
    return int(start)
