"""Everything needed to build a world, and its way to JSON and back."""

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, get_args, get_origin

from cfworld.errors import CheckpointError, ConfigError
from cfworld.memory import MemoryConfig
from cfworld.model import ActionConfig, TransformerConfig
from cfworld.rollout import SamplerConfig
from cfworld.settings import Choice, check_counts
from cfworld.tokenizer import BlockVAEConfig, TinyVAEConfig, WanVAEConfig

__all__ = ["Ends", "WorldConfig", "coder_fields", "config_from_dict", "config_to_dict"]

T = TypeVar("T")


class Ends(Choice):
    """How an episode's end follows from the hazard."""

    SAMPLED = "sampled"
    """By the row's own noise: frame by frame with the hazard's probability."""
    GREEDY = "greedy"
    """When the hazard of a frame exceeds one half."""
    NEVER = "never"


@dataclass(kw_only=True, slots=True)
class WorldConfig:
    """A world.

    Attributes:
        name: Its name.
        source: Environment id of its twin, or where its data came from.
        fps: Frames per second of game time.
        horizon_frames: Frames after which an episode is truncated unless asked otherwise.
        prefix_latents: Latents of a shipped start.
        ends: How an episode's end follows from the hazard.
        actions: Its actions.
        opening: Action under which an episode begins from nothing where no start is given: a text, or the name of an
            action. null: it begins with one of the world's starts.
        tokenizer: Frames to latents, where neither `wan_vae` nor `tiny_vae` has a resolution.
        wan_vae: Wan's causal VAE in its place.
        tiny_vae: A tiny one in its place.
        transformer: Sizes of the generator.
        memory: Sizes and rule of the memory.
        sampler: How a chunk is denoised.
    """

    name: str
    source: str = ""
    fps: int = 35
    horizon_frames: int = 2100
    prefix_latents: int = 4
    ends: Ends = Ends.SAMPLED
    actions: ActionConfig = field(default_factory=lambda: ActionConfig(num_actions=3))
    opening: str | None = None
    tokenizer: BlockVAEConfig = field(default_factory=BlockVAEConfig)
    wan_vae: WanVAEConfig = field(default_factory=WanVAEConfig)
    tiny_vae: TinyVAEConfig = field(default_factory=TinyVAEConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        self.ends = Ends(self.ends)
        check_counts(self, "fps", "horizon_frames")
        if self.wan_vae.resolution and self.tiny_vae.resolution:
            raise ConfigError("got a resolution for wan_vae and for tiny_vae; expected one of them, or neither.")
        latent = list(self.frame_coder.latent_shape)
        if latent != [self.transformer.in_channels, *self.transformer.latent_size]:
            raise ConfigError(
                f"the tokenizer makes latents {latent}, but the transformer expects "
                f"{[self.transformer.in_channels, *self.transformer.latent_size]}; make them agree."
            )
        if self.transformer.frames_per_latent != self.frames_per_latent:
            raise ConfigError(
                f"the tokenizer puts {self.frames_per_latent} frames into a latent, but the transformer's "
                f"heads expect {self.transformer.frames_per_latent}; make them agree."
            )
        if self.prefix_latents < 1 or self.prefix_latents % self.latents_per_chunk:
            raise ConfigError(
                f"prefix_latents must be a positive multiple of latents_per_chunk {self.latents_per_chunk}; "
                f"got {self.prefix_latents}."
            )

    @property
    def frame_coder(self) -> BlockVAEConfig | WanVAEConfig | TinyVAEConfig:
        """The settings of the tokenizer that the world has; `coder_fields` undoes it."""
        if self.wan_vae.resolution:
            return self.wan_vae
        return self.tiny_vae if self.tiny_vae.resolution else self.tokenizer

    @property
    def frames_per_latent(self) -> int:
        """Frames in one latent."""
        return self.frame_coder.frames_per_latent

    @property
    def latents_per_chunk(self) -> int:
        """Latents in one chunk."""
        return self.memory.latents_per_chunk

    @property
    def frames_per_step(self) -> int:
        """Frames that one step generates."""
        return self.frames_per_latent * self.latents_per_chunk

    @property
    def resolution(self) -> tuple[int, int]:
        """Height and width of a frame."""
        height, width = self.frame_coder.resolution
        return height, width


def coder_fields(coder: BlockVAEConfig | WanVAEConfig | TinyVAEConfig) -> dict[str, Any]:
    """A tokenizer's settings under the name of the field of `WorldConfig` that they belong in."""
    names = {BlockVAEConfig: "tokenizer", WanVAEConfig: "wan_vae", TinyVAEConfig: "tiny_vae"}
    return {names[type(coder)]: coder}


def config_to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON values."""
    return asdict(config, dict_factory=lambda items: {k: v.value if isinstance(v, Enum) else v for k, v in items})


def config_from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """Build a configuration from plain values.

    Raises:
        CheckpointError: If a key is unknown or a value does not fit.
    """
    if not isinstance(values, dict):
        raise CheckpointError(f"{cls.__name__} needs a mapping of its settings; got {type(values).__name__}.")
    known = {f.name: f.type for f in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(values) - set(known)):
        raise CheckpointError(
            f"{cls.__name__} has no setting {unknown}; it knows {sorted(known)}. Was the checkpoint written by a "
            "newer cfworld?"
        )
    try:
        return cls(
            **{name: _from_plain(f"{cls.__name__}.{name}", known[name], value) for name, value in values.items()}
        )
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"the settings of {cls.__name__} do not fit: {error}") from error


def _from_plain(name: str, kind: Any, value: Any) -> Any:
    if is_dataclass(kind):
        return config_from_dict(kind, value)  # type: ignore[arg-type]
    if isinstance(kind, type) and issubclass(kind, Enum):
        if value not in (choices := [member.value for member in kind]):
            raise CheckpointError(f"got {name}={value!r}; expected one of {choices}.")
        return kind(value)
    if get_origin(kind) is dict and isinstance(value, dict) and is_dataclass(item := get_args(kind)[1]):
        return {key: config_from_dict(item, entry) for key, entry in value.items()}  # type: ignore[arg-type]
    if not _is_plain(kind, value):
        raise CheckpointError(f"got {name}={value!r}; expected {kind if get_args(kind) else kind.__name__}.")
    return value


def _is_plain(kind: Any, value: Any) -> bool:
    """Whether a value out of JSON is of a setting's type; a whole number will do for a float."""
    if arguments := get_args(kind):
        if get_origin(kind) is list:
            return isinstance(value, list | tuple) and all(_is_plain(arguments[0], item) for item in value)
        return any(_is_plain(argument, value) for argument in arguments)
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)
