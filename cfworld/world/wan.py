"""Worlds out of Wan: its transformer, its VAE and its encoder of texts become a `World`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from cfworld.errors import ConfigError
from cfworld.memory import MemoryConfig, chosen_memory
from cfworld.model import ActionConfig, Generator, Transformer, TransformerConfig
from cfworld.model.wan_weights import load_wan_transformer
from cfworld.prompts import TextConfig, TextEncoder
from cfworld.prompts.encoded_text import TextTablePrompts
from cfworld.prompts.umt5 import UMT5, UMT5Texts
from cfworld.rollout import SamplerConfig, Solver
from cfworld.tokenizer import TinyVAEConfig, WanVAEConfig
from cfworld.world.config import WorldConfig, coder_fields
from cfworld.world.device import usable_device
from cfworld.world.pretrained import set_dtype, weights_dtype
from cfworld.world.start import EncodedStarts
from cfworld.world.wan_vae_files import frame_coder_of, load_frame_coder
from cfworld.world.world import World

__all__ = ["WanSettings", "check_parts", "import_wan", "paper_memory", "paper_sampler", "settings_of"]

FPS = 16
MINUTE = 60 * FPS


def paper_memory() -> MemoryConfig:
    """Context Forcing's memory at its own size: 21 latents, 3 a chunk; a prompt switch rebuilds it."""
    return MemoryConfig(
        num_sink=3,
        num_slow=12,
        num_fast=6,
        latents_per_chunk=3,
        consolidate_every=2,
        threshold=0.95,
        recache=True,
    )


def paper_sampler() -> SamplerConfig:
    """The distilled generator's four steps: noise levels 1, 0.9375, 0.8333 and 0.625."""
    return SamplerConfig(solver=Solver.FEW_STEP, num_steps=4, shift=5.0)


@dataclass(kw_only=True, slots=True)
class WanSettings:
    """What a world out of Wan is, besides its weights.

    Attributes:
        name: The world's name.
        resolution: Height and width of a frame.
        part: Which network of a training checkpoint to take: generator, generator_ema, critic or model. null takes the
            averaged generator if there is one, then the generator, then the model.
        num_heads: Attention heads, where the checkpoint has no config.json and its heads are not 128 wide.
        actions: Named actions, each with the text that it says; then the world's actions are these. Without any, they
            are texts.
        opening: Text, or name of an action, under which an episode begins where no start is given; null for the first
            named action, or the empty text.
        num_tokens: Tokens of a text.
        max_length: Characters of the longest text.
        memory: Sizes and rule of the memory.
        sampler: How a chunk is denoised; with another solver than few_step, the world is a teacher.
    """

    name: str = "wan"
    resolution: list[int] = field(default_factory=lambda: [480, 832])
    part: str | None = None
    num_heads: int | None = None
    actions: dict[str, str] = field(default_factory=dict)
    opening: str | None = None
    num_tokens: int = 512
    max_length: int = 2048
    memory: MemoryConfig = field(default_factory=paper_memory)
    sampler: SamplerConfig = field(default_factory=paper_sampler)

    def __post_init__(self) -> None:
        """Refuse a world without a name, and an opening that is no action."""
        if not self.name.strip():
            raise ConfigError(f"got name={self.name!r}; expected a name.")
        if len(self.resolution) != 2:
            raise ConfigError(f"got resolution {self.resolution}; expected height and width.")
        if self.actions and self.opening is not None and self.opening not in self.actions:
            raise ConfigError(f"got opening={self.opening!r}; expected one of the actions {list(self.actions)}.")
        if not self.actions and len(self.opening or "") > self.max_length:
            raise ConfigError(
                f"got an opening of {len(self.opening or '')} characters; expected at most "
                f"max_length={self.max_length}."
            )


def import_wan(
    transformer: str | Path | Transformer,
    vae: str | Path,
    text_encoder: str | Path | TextEncoder | None,
    settings: WanSettings,
    device: str | torch.device,
    precision: str | None,
) -> World:
    """Make a world; see `World.from_wan`."""
    check_parts(transformer, vae, text_encoder)
    device = usable_device(device)
    height, width = settings.resolution
    coder, tensors = frame_coder_of(vae, (height, width))
    _, *latent_size = coder.latent_shape
    if not isinstance(transformer, Transformer):
        transformer = load_wan_transformer(
            transformer, (latent_size[0], latent_size[1]), part=settings.part, num_heads=settings.num_heads
        )
    config = _config(settings, transformer.config, coder)
    with torch.device("meta"):
        generator = Generator(config.actions, config.transformer)
    generator.to_empty(device="cpu")
    generator.transformer = transformer
    generator.key_centre.zero_()
    tokenizer = load_frame_coder(coder, tensors, str(vae))
    dtype = weights_dtype(precision, device)
    if isinstance(text_encoder, str | Path):
        text_encoder = UMT5Texts.from_folder(text_encoder, settings.num_tokens, device, dtype)
    _give_encoder(generator, text_encoder)
    set_dtype(dtype, tokenizer, generator)
    return World(
        config,
        tokenizer,
        generator,
        _no_starts(config, generator),
        variant="student" if settings.sampler.solver is Solver.FEW_STEP else "teacher",
        device=device,
    )


def check_parts(transformer: Any, vae: Any, text_encoder: Any) -> None:
    """Refuse parts of another kind."""
    for name, part, fits, expected in (
        ("transformer", transformer, isinstance(transformer, str | Path | Transformer), "a path or a Transformer"),
        ("vae", vae, isinstance(vae, str | Path), "a path"),
        (
            "text_encoder",
            text_encoder,
            text_encoder is None or isinstance(text_encoder, str | Path) or callable(text_encoder),
            "a path, a function from texts to tokens, or None",
        ),
    ):
        if not fits:
            raise ConfigError(f"got {name}={part!r}; expected {expected}.")


def _config(settings: WanSettings, transformer: TransformerConfig, coder: WanVAEConfig | TinyVAEConfig) -> WorldConfig:
    usual = next(iter(settings.actions), "")
    return WorldConfig(
        name=settings.name,
        source="Wan",
        fps=FPS,
        horizon_frames=MINUTE,
        prefix_latents=settings.memory.latents_per_chunk,
        opening=usual if settings.opening is None else settings.opening,
        actions=_actions(settings, transformer.prompt_dim),
        transformer=replace(transformer, heads=False),
        memory=settings.memory,
        sampler=settings.sampler,
        **coder_fields(coder),
    )


def _actions(settings: WanSettings, width: int) -> ActionConfig:
    """Texts, or a table of them, whose tokens the transformer takes as they are."""
    names, texts = list(settings.actions), list(settings.actions.values())
    text = TextConfig(
        max_length=0 if names else settings.max_length,
        tokens=settings.num_tokens,
        width=width,
        encoder=UMT5,
        learned=False,
    )
    return ActionConfig(num_actions=len(names), names=names, texts=texts, text=text)


def _give_encoder(generator: Generator, text_encoder: TextEncoder | None) -> None:
    """Let the prompts encode texts, those of a table at once: a table needs its encoder no more."""
    prompts = generator.prompts
    if isinstance(prompts, TextTablePrompts):
        if text_encoder is None:
            raise ConfigError("got named actions without an encoder of their texts; give text_encoder.")
        prompts.encode_texts(text_encoder)
    elif text_encoder is not None:
        prompts.use_encoder(text_encoder)
        if not isinstance(text_encoder, UMT5Texts):  # whose file is read with the first text
            prompts(torch.zeros(1, prompts.frames, *prompts.action_shape, dtype=prompts.action_dtype))


def _no_starts(config: WorldConfig, generator: Generator) -> EncodedStarts:
    prompts = generator.prompts
    shape = (0, config.prefix_latents)
    return EncodedStarts(
        latents=torch.zeros(*shape, *config.frame_coder.latent_shape),
        actions=torch.zeros(*shape, config.frames_per_latent, *prompts.action_shape, dtype=prompts.action_dtype),
        seeds=torch.zeros(0, dtype=torch.int64),
    )


def settings_of(given: Mapping[str, Any]) -> WanSettings:
    """Settings from the keyword arguments of `World.from_wan`; None stands for what is usual.

    Raises:
        ConfigError: If one is of another kind, or they do not fit together.
    """
    settings = {name: value for name, value in given.items() if value is not None}
    if isinstance(settings.get("memory"), str):
        settings["memory"] = chosen_memory(paper_memory(), settings["memory"])
    for name, fits, expected in _KINDS:
        if name in settings and not fits(settings[name]):
            raise ConfigError(f"got {name}={settings[name]!r}; expected {expected}.")
    return WanSettings(**settings)


def _all(kind: type, values: Any) -> bool:
    return all(isinstance(value, kind) for value in values)


_KINDS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    ("name", lambda value: isinstance(value, str), "a name"),
    ("resolution", lambda value: isinstance(value, list | tuple) and _all(int, value), "height and width"),
    ("num_heads", lambda value: isinstance(value, int), "a whole number"),
    ("num_tokens", lambda value: isinstance(value, int) and value > 0, "a whole number from 1"),
    ("max_length", lambda value: isinstance(value, int) and value > 0, "a whole number from 1"),
    (
        "actions",
        lambda value: isinstance(value, Mapping) and _all(str, [*value, *value.values()]),
        "names, each with the text that it says",
    ),
    ("part", lambda value: isinstance(value, str), "the name of a network"),
    ("memory", lambda value: isinstance(value, MemoryConfig), "a MemoryConfig, or the name of a preset"),
    ("sampler", lambda value: isinstance(value, SamplerConfig), "a SamplerConfig"),
    ("opening", lambda value: isinstance(value, str), "a text, or the name of an action"),
)
"""What the settings that a user gives have to be."""
