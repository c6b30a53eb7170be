"""The world: a pure step function with weights."""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch
from jaxtyping import Float, Num, UInt8
from torch import Tensor

from cfworld.errors import StartError
from cfworld.memory import MemoryConfig, chosen_memory
from cfworld.memory.presets import check_positions
from cfworld.model import AttentionBackend, Generator, Transformer
from cfworld.model.fp8 import use_fp8
from cfworld.prompts import TextEncoder
from cfworld.prompts.base import on_host
from cfworld.recache import recache_switched
from cfworld.rollout import SamplerConfig, prompt_tokens
from cfworld.tokenizer import Tokenizer
from cfworld.world.ahead import play
from cfworld.world.config import Ends, WorldConfig
from cfworld.world.device import usable_device
from cfworld.world.fingerprint import fingerprint, weight_sums
from cfworld.world.generation import Generated, compiled, generate
from cfworld.world.novelty import Novelty
from cfworld.world.opening import Opening
from cfworld.world.output import StepOutput, after_step, hold_after, ordinary
from cfworld.world.seeds import checked_seeds
from cfworld.world.start import EncodedStarts, Start
from cfworld.world.start_memory import StartMemories
from cfworld.world.start_reader import StartReader, start_index
from cfworld.world.state import WorldState

__all__ = ["World"]


class World:
    """A generated world. `step` is a pure function of (weights, state, actions).

    Build one with `World.from_pretrained`, or from its parts. It takes the fastest attention that runs on its device;
    `use_kernels` chooses another. `start_memories` remembers what it made of the starts that were used last; its
    weights are taken to stay as they are from the first episode on. Copies, such as Gymnasium makes of an environment's
    arguments, therefore share them, and with them what `use_kernels` chooses: to change one world alone, load it once
    more.
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
        novelty: Novelty | None = None,
    ) -> None:
        self.config = config
        self.variant = variant
        self._generate = generate
        self._fingerprint: tuple[WorldConfig, str | None, str] | None = None
        self.device = usable_device(device)
        self.tokenizer = tokenizer.to(self.device).eval().requires_grad_(False)
        self.generator = generator.to(self.device).eval().requires_grad_(False)
        self.use_kernels()
        self.starts = EncodedStarts(
            latents=starts.latents.to(self.device).float(),
            actions=starts.actions.to(self.device),
            seeds=starts.seeds,
        )
        self._reader = StartReader(self.tokenizer, self.generator, self.starts)
        self.novelty = None if novelty is None else novelty.to(self.device)
        """How odd a step is; None where it was never measured, and `StepOutput.novelty` is NaN."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "World":
        """A world of the same tokenizer, network and starts, which remembers nothing of starts yet."""
        other = copy.copy(self)
        other._reader = copy.copy(self._reader)
        other._reader.memories = copy.copy(self.start_memories)
        return other

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
        text_encoder: TextEncoder | None = None,
        attention: AttentionBackend | str = "auto",
        fp8: bool = False,
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
            text_encoder: From n texts to their tokens, [n, P, E] or [n, E], for a world whose actions are texts; None
                for the encoder that ships with cfworld, if the world was trained with that one.
            attention: Who computes self-attention; see `use_kernels`.
            fp8: Compute linear layers in 8 bits; see `use_kernels`.

        Raises:
            UnknownWorldError: If there is no such world.
            CheckpointError: If it is damaged, or has no such variant.
            ConfigError: If the device cannot compute, the precision, the preset or the attention is unknown, the world
                takes no texts, or the attention or 8 bits cannot run on the device.
            MissingDependencyError: If fp8 needs torchao, and it is not installed.

        Warns:
            UserWarning: If the memory has other positions than the network was trained with.
        """
        from cfworld.world.pretrained import load_world

        world = load_world(name_or_path, variant, device, precision)
        world.use_kernels(attention, fp8=fp8)
        if text_encoder is not None:
            world.generator.prompts.use_encoder(text_encoder)
        sampler = world.config.sampler if num_steps is None else replace(world.config.sampler, num_steps=num_steps)
        chosen = chosen_memory(world.config.memory, memory)
        check_positions(world.config.memory, chosen)
        world.config = replace(world.config, sampler=sampler, memory=chosen)
        return world

    @classmethod
    def from_wan(
        cls,
        transformer: str | Path | Transformer,
        vae: str | Path,
        text_encoder: str | Path | TextEncoder | None = None,
        *,
        memory: MemoryConfig | str | None = None,
        device: str | torch.device = "cpu",
        precision: str | None = None,
        attention: AttentionBackend | str = "auto",
        fp8: bool = False,
        **settings: Any,
    ) -> "World":
        """Make a world of texts out of Wan, or of what was trained from it. `docs/wan.md` says what reads how.

        It has no heads for reward and ends: both are 0. It ships no starts: an episode begins from nothing, under
        `opening`, or with frames of your own.

        Args:
            transformer: A file or folder of the original Wan, a folder of `WanTransformer3DModel`, a checkpoint of
                Self-Forcing, LongLive, Causal Forcing or Context Forcing; or a `Transformer`.
            vae: A folder of `AutoencoderKLWan`, Wan2.1_VAE.pth, or a tiny VAE in TAEHV's layout.
            text_encoder: A folder of UMT5 with its tokenizer, or a pipeline that has both; or any encoder of texts.
                None leaves the world without one, until `world.generator.prompts.use_encoder` gives it one.
            memory: The memory, or a preset's name to lay over Context Forcing's own, 21 latents of which a chunk has 3;
                None takes that.
            device: Where it runs.
            precision: As for `from_pretrained`.
            attention: As for `from_pretrained`.
            fp8: As for `from_pretrained`.
            settings: Other fields of `cfworld.world.wan.WanSettings`: `name`, `resolution`, `part`, `actions`, ...

        Raises:
            CheckpointError: If a checkpoint cannot be read, or tensors are missing, extra or of another shape.
            ConfigError: If parts or settings do not fit together, the device cannot compute, or the attention or 8 bits
                cannot run on it.
            MissingDependencyError: If diffusers, transformers or torchao is needed and not installed.
        """
        from cfworld.world.wan import import_wan, settings_of

        world = import_wan(
            transformer, vae, text_encoder, settings_of({**settings, "memory": memory}), device, precision
        )
        world.use_kernels(attention, fp8=fp8)
        return world

    def save_pretrained(self, path: str | Path) -> None:
        """Write this world's variant into a folder; variants of the same world already there stay."""
        from cfworld.world.pretrained import save_world

        save_world(self, Path(path))

    @property
    def fingerprint(self) -> str:
        """Name of this world, its variant and its weights: the states of another world have another."""
        exact = self.generator.transformer.exact_weights
        if self._fingerprint is None or self._fingerprint[0] is not self.config or self._fingerprint[1] != exact:
            weights = weight_sums(self.generator) if exact is None else f"{exact} fp8"
            self._fingerprint = (self.config, exact, fingerprint(self.config, self.variant, weights))
        return self._fingerprint[2]

    @property
    def fp8(self) -> bool:
        """Whether linear layers compute in 8 bits."""
        return self.generator.transformer.exact_weights is not None

    @property
    def start_memories(self) -> StartMemories:
        """What is remembered of the starts that were used last."""
        return self._reader.memories

    @property
    def num_starts(self) -> int:
        """Starts that the world ships."""
        return len(self.starts)

    @property
    def sampler(self) -> SamplerConfig:
        """How a chunk is denoised."""
        return self.config.sampler

    @overload
    def initial(
        self, seeds: Any, starts: Any = None, *, decode: Literal[True] = True
    ) -> tuple[WorldState, UInt8[Tensor, "B F H W 3"]]: ...

    @overload
    def initial(self, seeds: Any, starts: Any = None, *, decode: Literal[False]) -> tuple[WorldState, None]: ...

    @overload
    def initial(
        self, seeds: Any, starts: Any = None, *, decode: bool
    ) -> tuple[WorldState, UInt8[Tensor, "B F H W 3"] | None]: ...

    def initial(
        self, seeds: Any, starts: Any = None, *, decode: bool = True
    ) -> tuple[WorldState, UInt8[Tensor, "B F H W 3"] | None]:
        """Begin one episode per row.

        A start may be

        - the index of a shipped start;
        - a `Start`: frames and actions of your own;
        - an `Opening`: the first chunk is generated from nothing under its action, with the row's own noise. A world
          that ships no starts draws its own (`config.opening`);
        - a `WorldState` of one row, of this world: the new episode remembers what that row remembers and goes on from
          where it stands, but under the new seed, with its steps counted from 0 and not ended. It is another future of
          that moment; to go on with the row's own future, step the state itself.

        A start is read into the memory once and then remembered (`start_memories`), so that beginning again costs
        about a copy.

        Args:
            seeds: Seed of each row, a sequence or int tensor [B] of 64-bit integers: its noise, and its start if none
                is given.
            starts: The start of each row.
            decode: Also decode the frames.

        Returns:
            The state, and the frames of the start's last step as the tokenizer shows them; None with decode=False.

        Raises:
            StartError: If the seeds or starts do not fit.
            DonatedStateError: If a state given as a start has been donated.
        """
        rows = checked_seeds(seeds)
        if starts is not None and (isinstance(starts, str) or not isinstance(starts, Sequence | np.ndarray)):
            raise StartError(
                f"starts are a sequence, one index, cfworld.Start or WorldState per row; got {type(starts).__name__}."
            )
        chosen = [self.start_of(seed) for seed in rows] if starts is None else list(starts)
        if len(chosen) != len(rows):
            raise StartError(f"got {len(chosen)} starts for {len(rows)} seeds; give one per row.")
        return self._reader.begun(chosen, rows, self.config, self.fingerprint, decode=decode)

    def step(
        self, state: WorldState, actions: Any, *, decode: bool = True, donate: bool = False
    ) -> tuple[WorldState, StepOutput]:
        """Generate the next chunk of every row.

        Args:
            state: Where the rows are.
            actions: One action per row [B, ...], or one per frame [B, F, ...]: numbers; names of discrete actions or
                texts, as strings; for a Dict space a mapping from the name of each part to its actions.
            decode: Also give the frames. A decoder that streams decodes all the same: later frames depend on these.
            donate: The state's buffers may be reused; a donated state raises when used again.

        Returns:
            The next state and what happened.

        Raises:
            ActionError: If an action has the wrong shape, dtype or range. The values of actions that come on another
                device than the CPU are taken on trust, since looking at them would wait for the device.
            DonatedStateError: If the state had been donated.
            StateError: If the state belongs to another world, or lies on another device.
        """
        made = self._made(state, actions)
        frames, decoder = self._decoded(made, state, wanted=decode)
        if donate:
            state.give_away()
        return after_step(state, made, frames, decoder)

    def play(self, state: WorldState, actions: Iterable[Any]) -> Iterator[tuple[WorldState, StepOutput]]:
        """Take steps whose actions are known before their frames are seen, each as `step` takes it.

        On a GPU each chunk is decoded on a stream of its own, beside the generation of the next one. What is given is
        ready for the current stream.

        Args:
            state: Where the rows are.
            actions: Of each step, what `step` takes; one more is fetched before a step is given.

        Yields:
            What `step` gives.

        Raises:
            ActionError: If an action does not fit; the steps before it are given first. This and what follows is
                raised by the iterator, not by the call.
            DonatedStateError: If the state had been donated.
            StateError: If the state belongs to another world, or lies on another device.
        """
        return play(self._made, partial(self._decoded, wanted=True), state, actions, self.device)

    def use_kernels(self, attention: AttentionBackend | str = "auto", *, fp8: bool = False) -> None:
        """Choose what computes the transformer, before the first episode: what is generated differs in the last bits.

        Args:
            attention: Who computes self-attention: "auto", "torch", "flash", ... (`AttentionBackend`). "auto" takes the
                fastest that runs where the weights lie and in their format; on a CPU that is "torch".
            fp8: Also compute linear layers in 8 bits, by torchao, from now on: such a world, and every copy that shares
                its weights, cannot be saved, and another name keeps its states apart.

        Raises:
            ConfigError: If there is no such attention, or it or 8 bits cannot run on the device.
            MissingDependencyError: If torchao is not installed.
        """
        transformer = self.generator.transformer
        transformer.use_attention(attention)
        if fp8 and not self.fp8:
            exact = weight_sums(self.generator)
            use_fp8(transformer)
            transformer.exact_weights = exact

    def compile(self, **options: Any) -> None:
        """Compile the step in place, as one graph: all but the checks of actions, texts and the decoding.

        A graph is made at the first step of every number of rows (PyTorch keeps eight of them) and serves a memory
        that is filling as well as a full one; states that were cloned or loaded have another. What is generated may
        differ in the last bits.

        Args:
            options: Those of `torch.compile`, such as `mode`. "reduce-overhead" replays CUDA graphs; the states and
                outputs are then copied out of their buffers, so that they stay good.
        """
        self._generate = compiled(generate, **options)

    def with_ends(self, ends: Ends) -> "World":
        """The same world, weights and all, whose episodes end by another rule."""
        other = copy.copy(self)
        other.config = replace(self.config, ends=Ends(ends))
        return other

    def decode(self, latents: Float[Tensor, "B N C h w"]) -> UInt8[Tensor, "B F H W 3"]:
        """Frames of latents; a decoder that streams takes them for the beginning of a video."""
        with torch.inference_mode():
            frames = self.tokenizer.decode(latents)
        return ordinary(frames)

    def frames(self, state: WorldState) -> UInt8[Tensor, "B F H W 3"]:
        """Frames of the last chunk of a state. A decoder that streams has them ready: it could not make them anew."""
        state.check_usable()
        return ordinary(state.decoder["frames"]) if self.tokenizer.streams else self.decode(state.latents)

    def start(self, index: int) -> Start:
        """A shipped start, as the tokenizer shows it.

        Raises:
            StartError: If there is no such start.
        """
        latents, actions = self.starts.pick(start_index(index))
        return Start(frames=self.decode(latents[None])[0].cpu().numpy(), actions=actions.flatten(0, 1).cpu().numpy())

    def actions_per_latent(self, actions: Any, num_rows: int) -> Num[Tensor, "B N f *action"]:
        """The actions of a step, checked, as the network takes them: those of each frame of each latent.

        Args:
            actions: What `step` takes.
            num_rows: Rows B.

        Raises:
            ActionError: If they do not fit.
        """
        config = self.config
        checked = self.generator.prompts.check(actions, num_rows, config.frames_per_step, on_host(actions))
        return checked.to(self.device).unflatten(1, (config.latents_per_chunk, config.frames_per_latent))

    def check_start(self, start: Any) -> None:
        """Refuse at once what `initial` would refuse as a start.

        Raises:
            StartError: If it does not fit.
            DonatedStateError: If it is a state that has been donated.
        """
        self._reader.check(start, self.config, self.fingerprint)

    def start_of(self, seed: int) -> int | Opening:
        """The shipped start that a seed draws; the world's opening where it ships none."""
        if not self.num_starts and self.config.opening is not None:
            return Opening(action=self.config.opening)
        if not self.num_starts:
            raise StartError(f"world {self.config.name!r} ships no starts; give `starts`.")
        return int(np.random.default_rng(np.random.SeedSequence(seed % 2**64)).integers(self.num_starts))

    @torch.inference_mode()
    def _made(self, state: WorldState, actions: Any) -> Generated:
        """The next chunk, before it is decoded."""
        state.check_fits(self.fingerprint, self.device)
        config, prompts = self.config, self.generator.prompts
        per_latent = self.actions_per_latent(actions, state.num_rows)
        memory = state.memory
        if config.memory.recache:
            memory = recache_switched(self.generator, config.memory, memory, per_latent[:, 0])
        tokens = prompt_tokens(self.generator, config.sampler, per_latent) if prompts.looks_up else None
        return self._generate(self.generator, config, self.novelty, memory, state.seeds, state.step, per_latent, tokens)

    def _decoded(self, made: Generated, state: WorldState, *, wanted: bool) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Frames of a chunk, None if nobody wants them, and what the state carries on of the decoder."""
        frames, decoder = None, {}
        with torch.inference_mode():
            if self.tokenizer.streams:
                frames, carried = self.tokenizer.decode_next(made.latents, state.stream)
                decoder = {"frames": frames, **carried}
            elif wanted:
                frames = self.tokenizer.decode(made.latents)
        return hold_after(frames, made.end_frame) if wanted and frames is not None else None, decoder
