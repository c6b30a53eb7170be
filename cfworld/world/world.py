"""The world: a pure step function with weights."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cfworld.diffusion import counter_noise, counter_uniform
from cfworld.errors import StartError, StateError
from cfworld.memory import MemoryConfig, chosen_memory
from cfworld.model import Generator
from cfworld.model.rows import sigmoid_of_rows
from cfworld.rollout import SamplerConfig, clean_pass, context_from_memory, denoise, prime
from cfworld.tokenizer import Tokenizer
from cfworld.world.config import Ends, WorldConfig
from cfworld.world.fingerprint import fingerprint
from cfworld.world.output import StepOutput, hold_after
from cfworld.world.start import EncodedStarts, Start, encode_start
from cfworld.world.state import WorldState, seed_tensor

__all__ = ["World"]

FOREIGN_PSNR = 15.0
"""Starts that the tokenizer reconstructs worse than this are foreign: a blank picture reaches about as much."""


class World:
    """A generated world. `step` is a pure function of (weights, state, actions).

    Build one with `World.from_pretrained`, or from its parts.
    """

    def __init__(
        self,
        config: WorldConfig,
        tokenizer: Tokenizer,
        generator: Generator,
        starts: EncodedStarts,
        *,
        variant: str = "teacher",
        device: str | torch.device = "cpu",
    ) -> None:
        self.config = config
        self.variant = variant
        self._has_warned = False
        self._fingerprint: tuple[WorldConfig, str] | None = None
        self.device = torch.device(device)
        self.tokenizer = tokenizer.to(self.device).eval().requires_grad_(False)
        self.generator = generator.to(self.device).eval().requires_grad_(False)
        self.starts = EncodedStarts(
            latents=starts.latents.to(self.device).float(),
            actions=starts.actions.to(self.device),
            seeds=starts.seeds,
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        variant: str | None = None,
        device: str | torch.device = "cpu",
        num_steps: int | None = None,
        memory: MemoryConfig | str | None = None,
        precision: str | None = None,
    ) -> "World":
        """Load a world.

        Args:
            name_or_path: Name in the zoo, or a folder that `save_pretrained` wrote.
            variant: "student" or "teacher"; None takes the student if there is one.
            device: Where it runs.
            num_steps: Steps of the sampler, if not the checkpoint's own.
            memory: Another memory than the checkpoint's own, or the name of a preset to lay over it: `fast_only`, say.
            precision: "bf16" or "fp32"; None takes bf16 where the device computes with it at full speed. On a CPU, a
                row comes out bit for bit the same alone, in any batch and in every place of it, at an equal number of
                threads (seen with one and two); on a GPU at an equal size of the batch.

        Raises:
            UnknownWorldError: If there is no such world.
            CheckpointError: If it is damaged, or has no such variant.
            ConfigError: If the precision or the preset is unknown.
        """
        from cfworld.world.pretrained import load_world

        world = load_world(name_or_path, variant, device, precision)
        sampler = world.config.sampler if num_steps is None else replace(world.config.sampler, num_steps=num_steps)
        world.config = replace(world.config, sampler=sampler, memory=chosen_memory(world.config.memory, memory))
        return world

    def save_pretrained(self, path: str | Path) -> None:
        """Write this world's variant into a folder; variants of the same world already there stay."""
        from cfworld.world.pretrained import save_world

        save_world(self, Path(path))

    @property
    def fingerprint(self) -> str:
        """Name of this world, its variant and its weights: the states of another world have another."""
        if self._fingerprint is None or self._fingerprint[0] is not self.config:
            self._fingerprint = (self.config, fingerprint(self.config, self.variant, self.generator))
        return self._fingerprint[1]

    @property
    def num_starts(self) -> int:
        """Starts that the world ships."""
        return len(self.starts)

    @property
    def sampler(self) -> SamplerConfig:
        """How a chunk is denoised."""
        return self.config.sampler

    @torch.inference_mode()
    def initial(self, seeds: Any, starts: Any = None) -> tuple[WorldState, UInt8[Tensor, "B F H W 3"]]:
        """Begin one episode per row.

        Args:
            seeds: Seed of each row, a sequence or int tensor [B]: its noise, and its start if none is given.
            starts: A shipped start's index, or a `Start`, for each row.

        Returns:
            The state, and the frames of the start's last step as the tokenizer shows them.

        Raises:
            StartError: If the starts do not fit.
        """
        rows = _checked_seeds(seeds)
        if starts is not None and (isinstance(starts, str | Start) or not isinstance(starts, Sequence)):
            raise StartError(f"starts are a sequence, one index or cfworld.Start per row; got {starts!r}.")
        chosen = [self.start_of(seed) for seed in rows] if starts is None else list(starts)
        if len(chosen) != len(rows):
            raise StartError(f"got {len(chosen)} starts for {len(rows)} seeds; give one per row.")
        prefixes = [self._prefix(start) for start in chosen]
        lengths = [len(latents) for latents, _ in prefixes]
        parts: dict[int, WorldState] = {}
        for length in set(lengths):
            group = [row for row, found in enumerate(lengths) if found == length]
            parts |= dict(
                zip(
                    group,
                    self._begin([prefixes[row] for row in group], [rows[r] for r in group]),
                    strict=True,
                )
            )
        state = WorldState.cat([parts[row] for row in range(len(rows))])
        return state, self.decode(state.latents)

    @torch.inference_mode()
    def step(
        self, state: WorldState, actions: Any, *, decode: bool = True, donate: bool = False
    ) -> tuple[WorldState, StepOutput]:
        """Generate the next chunk of every row.

        Args:
            state: Where the rows are.
            actions: One action per row [B, ...], or one per frame [B, F, ...].
            decode: Also decode the frames.
            donate: The state's buffers may be reused; a donated state raises when used again.

        Returns:
            The next state and what happened.

        Raises:
            ActionError: If an action has the wrong shape, dtype or range. The values of actions that come on another
                device than the CPU are taken on trust, since looking at them would wait for the device.
            DonatedStateError: If the state had been donated.
            StateError: If the state belongs to another world.
        """
        state.check_usable()
        if state.world != self.fingerprint:
            raise StateError(f"got a state of {state.world}; this world is {self.fingerprint}. Begin with `initial`.")
        config = self.config
        on_host = not isinstance(actions, Tensor) or actions.device.type == "cpu"
        checked = self.generator.prompts.check(actions, state.num_rows, config.frames_per_step, values=on_host)
        checked = checked.to(self.device)
        per_latent = checked.unflatten(1, (config.latents_per_chunk, config.frames_per_latent))
        shape = state.latents.shape[1:]

        context = context_from_memory(self.generator, config.memory, state.memory)
        latents = denoise(
            self.generator,
            config.sampler,
            context,
            per_latent,
            lambda index: counter_noise(state.seeds, state.step, index, shape),
        )
        clean = clean_pass(self.generator, config.memory, state.memory, context, latents, per_latent)
        hazard = sigmoid_of_rows(clean.hazard_logit)
        end_frame = self._end_frame(hazard, state)
        before_end = torch.arange(config.frames_per_step, device=self.device) <= end_frame[:, None]
        reward_frames = clean.reward * before_end
        terminated = end_frame < config.frames_per_step
        if donate:
            state.give_away()
        following = WorldState(
            world=state.world,
            memory=clean.memory,
            seeds=state.seeds,
            step=state.step + 1,
            latents=latents,
            ended=state.ended | terminated,
        )
        return following, StepOutput(
            frames=hold_after(self.decode(latents), end_frame) if decode else None,
            latents=latents,
            reward=reward_frames.sum(dim=1),
            reward_frames=reward_frames,
            hazard=hazard,
            terminated=terminated,
            end_frame=end_frame,
        )

    @torch.inference_mode()
    def decode(self, latents: Float[Tensor, "B N C h w"]) -> UInt8[Tensor, "B F H W 3"]:
        """Frames of latents."""
        return self.tokenizer.decode(latents)

    def start(self, index: int) -> Start:
        """A shipped start, as the tokenizer shows it."""
        latents, actions = self.starts.pick(index)
        return Start(frames=self.decode(latents[None])[0].cpu().numpy(), actions=actions.flatten(0, 1).cpu().numpy())

    def start_of(self, seed: int) -> int:
        """The shipped start that a seed draws."""
        if not self.num_starts:
            raise StartError(f"world {self.config.name!r} ships no starts; give `starts`.")
        return int(np.random.default_rng(np.random.SeedSequence(seed % 2**64)).integers(self.num_starts))

    def _prefix(self, start: Any) -> tuple[Tensor, Tensor]:
        if isinstance(start, Start):
            latents, actions = encode_start(start, self.config, self.tokenizer, self.generator, self.device)
            self._warn_of_foreign(start, latents)
            return latents, actions
        if isinstance(start, bool) or not isinstance(start, int | np.integer):
            raise StartError(f"a start is an index or a cfworld.Start; got {type(start).__name__}.")
        return self.starts.pick(int(start))

    def _warn_of_foreign(self, start: Start, latents: Tensor) -> None:
        """Say once when a start looks like nothing that the tokenizer has learnt to show."""
        if self._has_warned:
            return
        shown = self.decode(latents[None])[0].float()
        squared = (shown - torch.from_numpy(start.frames).to(self.device).float()).square().mean().item()
        psnr = 10 * math.log10(255**2 / max(squared, 1e-6))
        if psnr < FOREIGN_PSNR:
            self._has_warned = True
            warnings.warn(
                f"a start comes back from the tokenizer at {psnr:.1f} dB (below {FOREIGN_PSNR:.0f}): its frames are "
                f"far from what {self.config.name!r} was trained on, and what follows will be too.",
                stacklevel=6,
            )

    def _begin(self, prefixes: Sequence[tuple[Tensor, Tensor]], seeds: Sequence[int]) -> list[WorldState]:
        latents = torch.stack([prefix for prefix, _ in prefixes])
        actions = torch.stack([actions for _, actions in prefixes])
        memory = prime(self.generator, self.config.memory, latents, actions)
        rows = seed_tensor(seeds, self.device)
        state = WorldState(
            world=self.fingerprint,
            memory=memory,
            seeds=rows,
            step=torch.zeros_like(rows),
            latents=latents[:, -self.config.latents_per_chunk :].float(),
            ended=torch.zeros_like(rows, dtype=torch.bool),
        )
        return [state.select([row]) for row in range(len(seeds))]

    def _end_frame(self, hazard: Tensor, state: WorldState) -> Tensor:
        if self.config.ends is Ends.NEVER:
            return torch.full_like(state.step, hazard.shape[1])
        if self.config.ends is Ends.GREEDY:
            ends = hazard > 0.5
        else:
            ends = counter_uniform(state.seeds, state.step, 0, hazard.shape[1:]) < hazard
        sentinel = torch.ones_like(ends[:, :1])
        return torch.cat([ends, sentinel], dim=1).int().argmax(dim=1)


def _checked_seeds(seeds: Any) -> list[int]:
    rows = seeds.tolist() if isinstance(seeds, Tensor | np.ndarray) else seeds
    if isinstance(rows, str) or not isinstance(rows, Sequence) or not rows:
        raise StartError(f"seeds are a sequence of integers, one per row; got {seeds!r}.")
    if not all(isinstance(seed, int | np.integer) and not isinstance(seed, bool) for seed in rows):
        raise StartError(f"seeds are integers; got {list(rows)}.")
    return [int(seed) for seed in rows]
