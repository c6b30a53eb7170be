"""Reading starts into memories, each once."""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfworld.advice import advise
from cfworld.errors import StartError, StateError
from cfworld.memory import MemoryState
from cfworld.memory.packed import pack, unpack
from cfworld.model import Generator
from cfworld.prefix import prime
from cfworld.tokenizer import Tokenizer
from cfworld.world.config import WorldConfig
from cfworld.world.opening import Opening, check_opening, opened
from cfworld.world.seeds import as_int64
from cfworld.world.start import EncodedStarts, Start
from cfworld.world.start_encoding import check_start, encode_start
from cfworld.world.start_memory import StartMemories, StartMemory
from cfworld.world.state import WorldState

__all__ = ["StartReader", "start_index"]

FOREIGN_PSNR = 15.0
"""Starts that the tokenizer reconstructs worse than this are foreign: a blank picture reaches about as much."""

TOGETHER = 16
"""Prefixes that a CPU reads at once: more are no faster a row."""


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

    def begun(
        self, starts: Sequence[Any], seeds: Sequence[int], config: WorldConfig, fingerprint: str, *, decode: bool
    ) -> tuple[WorldState, Tensor | None]:
        """The state of new episodes.

        Args:
            starts: What `World.initial` takes.
            seeds: Seed of each episode; what begins from nothing depends on it, and is not remembered.
            config: The world's settings, its memory's among them.
            fingerprint: The world's own; what is remembered under another one is not used.
            decode: Their frames are wanted too.

        Returns:
            The state, and the frames of each start's last step, [B, F, H, W, 3] uint8, if they are wanted.

        Raises:
            StartError: If a start does not fit.
            DonatedStateError: If a state has been donated.
        """
        with torch.inference_mode():
            entries = self._read(starts, seeds, config, fingerprint, decode=decode)
            memory = unpack([entry.memory for entry in entries])
        words = as_int64(seeds, self._device)
        state = WorldState(
            world=fingerprint,
            memory=memory,
            seeds=words,
            step=torch.zeros_like(words),
            latents=torch.cat([entry.latents for entry in entries]),
            ended=torch.zeros_like(words, dtype=torch.bool),
            decoder={name: torch.cat([entry.decoder[name] for entry in entries]) for name in entries[0].decoder},
        )
        shown = [entry.frames for entry in entries if entry.frames is not None]
        return state, torch.cat(shown) if decode else None

    def _read(
        self, starts: Sequence[Any], seeds: Sequence[int], config: WorldConfig, fingerprint: str, *, decode: bool
    ) -> list[StartMemory]:
        """What each of them begins with."""
        keys: list[Hashable] = []
        entries: dict[Hashable, StartMemory] = {}
        unknown: dict[Hashable, Start | int] = {}
        for place, start in enumerate(starts):
            if isinstance(start, WorldState):
                self._check_state(start, fingerprint)
                keys.append(place)
                entries[place] = self._entry(start.memory, start.latents, start.decoder)
                continue
            if isinstance(start, Opening):
                keys.append(place)
                memory, latents = opened(start, seeds[place], config, self._generator, self._device)
                entries[place] = self._entry(memory, latents, self._streamed(latents, config))
                continue
            content = start.digest if isinstance(start, Start) else start_index(start)
            keys.append(key := (fingerprint, content))
            if (found := self.memories.get(key)) is not None:
                entries[key] = found
            else:
                unknown[key] = start
        fresh = self._primed(unknown, config)
        entries |= fresh
        if decode:
            fresh |= self._decoded({key: entry for key, entry in entries.items() if entry.frames is None})
            entries |= fresh
        for key, entry in fresh.items():
            if isinstance(key, tuple):
                self.memories.put(key, entry)
        return [entries[key] for key in keys]

    def check(self, start: Any, config: WorldConfig, fingerprint: str) -> None:
        """Refuse what `begun` would refuse, without reading it."""
        if isinstance(start, WorldState):
            self._check_state(start, fingerprint)
        elif isinstance(start, Start):
            check_start(start, config, self._generator)
        elif isinstance(start, Opening):
            check_opening(start, config, self._generator)
        else:
            self._starts.pick(start_index(start))

    def _primed(self, starts: Mapping[Hashable, Start | int], config: WorldConfig) -> dict[Hashable, StartMemory]:
        """Read prefixes into memories, those of one length together as far as `_together` allows."""
        prefixes: dict[int, dict[Hashable, tuple[Tensor, Tensor]]] = {}
        for key, start in starts.items():
            if isinstance(start, Start):
                latents, actions, frames = encode_start(start, config, self._tokenizer, self._generator, self._device)
                self._warn_of_foreign(config.name, frames, latents)
            else:
                latents, actions = self._starts.pick(start)
            prefixes.setdefault(len(latents), {})[key] = latents, actions
        primed: dict[Hashable, StartMemory] = {}
        for group in prefixes.values():
            for keys in self._together(group):
                latents, actions = (torch.stack(part) for part in zip(*(group[key] for key in keys), strict=True))
                memory = prime(self._generator, config.memory, latents, actions)
                last = latents[:, -config.latents_per_chunk :].float()
                decoder = self._streamed(latents.float(), config)
                for row, key in enumerate(keys):
                    memory_of_row = memory.select(torch.tensor([row], device=self._device))
                    decoder_of_row = {name: value[row : row + 1].clone() for name, value in decoder.items()}
                    primed[key] = self._entry(memory_of_row, last[row : row + 1].clone(), decoder_of_row)
        return primed

    def _entry(self, memory: MemoryState, latents: Tensor, decoder: Mapping[str, Tensor]) -> StartMemory:
        return StartMemory(memory=pack(memory), latents=latents, frames=decoder.get("frames"), decoder=decoder)

    def _streamed(self, latents: Tensor, config: WorldConfig) -> dict[str, Tensor]:
        """What a decoder that streams has to know after these latents, and the frames of their last chunk."""
        if not self._tokenizer.streams:
            return {}
        frames, carried = self._tokenizer.decode_next(latents, None)
        return {"frames": frames[:, -config.frames_per_step :].clone(), **carried}

    def _decoded(self, entries: Mapping[Hashable, StartMemory]) -> dict[Hashable, StartMemory]:
        decoded: dict[Hashable, StartMemory] = {}
        for keys in self._together(entries):
            frames = self._tokenizer.decode(torch.cat([entries[key].latents for key in keys]))
            for row, key in enumerate(keys):
                decoded[key] = replace(entries[key], frames=frames[row : row + 1].clone())
        return decoded

    def _together(self, entries: Mapping[Hashable, Any]) -> Iterator[list[Hashable]]:
        """Keys that are computed together: on a CPU, where a row's bits do not depend on its batch, several."""
        keys, size = list(entries), TOGETHER if self._device.type == "cpu" else 1
        for first in range(0, len(keys), size):
            yield keys[first : first + size]

    def _check_state(self, state: WorldState, fingerprint: str) -> None:
        try:
            state.check_fits(fingerprint, self._device)
        except StateError as error:
            raise StartError(f"a state as a start: {error}") from error
        if state.num_rows != 1:
            raise StartError(f"got a state of {state.num_rows} rows as a start; expected one row: select([row]) it.")
        if bool(state.ended):
            raise StartError("got a state whose episode has ended as a start; expected one from before its end.")

    def _warn_of_foreign(self, name: str, frames: Tensor, latents: Tensor) -> None:
        """Say once when a start looks like nothing that the tokenizer has learnt to show."""
        if self._has_warned:
            return
        shown = self._tokenizer.decode(latents[None])[0].float()
        squared = (shown - frames.float()).square().mean().item()
        psnr = 10 * math.log10(255**2 / max(squared, 1e-6))
        if psnr < FOREIGN_PSNR:
            self._has_warned = True
            advise(
                f"a start comes back from the tokenizer at {psnr:.1f} dB (below {FOREIGN_PSNR:.0f}): its frames are "
                f"far from what {name!r} was trained on, and what follows will be too."
            )


def start_index(start: Any) -> int:
    """The index that a start is.

    Raises:
        StartError: If it is none.
    """
    if isinstance(start, bool) or not isinstance(start, int | np.integer):
        raise StartError(
            "a start is an index, a cfworld.Start, a cfworld.WorldState of one row or a cfworld.world.Opening; got "
            f"{type(start).__name__}. Start.from_image, from_clip and from_episode and WorldState.load make one of "
            "what you have."
        )
    return int(start)
