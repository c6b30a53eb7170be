"""The sizes of a transformer, from nano (a few million parameters) to Wan2.1-1.3B."""

from dataclasses import dataclass, field

from cfworld.errors import ConfigError
from cfworld.settings import check_counts

__all__ = ["TransformerConfig"]


@dataclass(kw_only=True, slots=True)
class TransformerConfig:
    """Sizes of the causal video transformer.

    Attributes:
        in_channels: Channels C of a latent.
        latent_size: Height and width (h, w) of a latent.
        patch_size: Height and width of a patch; each latent becomes (h / ph) * (w / pw) tokens.
        dim: Width of the residual stream.
        depth: Number of blocks.
        num_heads: Attention heads; `dim` must divide into heads of even width.
        ffn_dim: Hidden width of the feed-forward layers.
        freq_dim: Width of the sinusoidal timestep embedding.
        prompt_dim: Width of the prompt tokens before their projection.
        prompt_layers: Linear maps that project them: 1, or 2 with a GELU between them, as Wan has it.
        frames_per_latent: Frames whose reward and hazard the heads predict per latent.
        input_skip: Whether the noisy latents also go straight to the velocity, each number of a patch scaled by a
            function of the noise level (EDM's skip, learned), so that `dim` need not carry them along. Wan has none.
        heads: Whether there are heads for reward and hazard; without them both are 0.
        rope_theta: Base of the rotary frequencies on every axis.
        eps: Epsilon of every normalisation.
    """

    in_channels: int = 16
    latent_size: list[int] = field(default_factory=lambda: [8, 8])
    patch_size: list[int] = field(default_factory=lambda: [2, 2])
    dim: int = 192
    depth: int = 6
    num_heads: int = 6
    ffn_dim: int = 768
    freq_dim: int = 256
    prompt_dim: int = 128
    prompt_layers: int = 1
    frames_per_latent: int = 4
    input_skip: bool = False
    heads: bool = True
    rope_theta: float = 10_000.0
    eps: float = 1e-6

    def __post_init__(self) -> None:
        check_counts(self, "in_channels", "dim", "num_heads", "ffn_dim", "prompt_dim", "frames_per_latent")
        check_counts(self, "depth", least=0)
        if min(*self.latent_size, *self.patch_size) < 1 or self.freq_dim % 2:
            raise ConfigError(
                f"got latent_size {self.latent_size}, patch_size {self.patch_size} and freq_dim {self.freq_dim}; "
                "expected positive sizes, and an even width of the timestep embedding."
            )
        if len(self.latent_size) != 2 or len(self.patch_size) != 2:
            raise ConfigError(
                f"latent_size and patch_size are [height, width]; got {self.latent_size} and {self.patch_size}."
            )
        if any(size % patch for size, patch in zip(self.latent_size, self.patch_size, strict=True)):
            raise ConfigError(f"latent_size {self.latent_size} must be a multiple of patch_size {self.patch_size}.")
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 2:
            raise ConfigError(f"dim {self.dim} must divide into {self.num_heads} heads of even width.")
        if self.prompt_layers not in (1, 2):
            raise ConfigError(f"prompt_layers is 1 or 2; got {self.prompt_layers}.")
        if self.head_dim // 2 < 3:
            raise ConfigError(f"heads of width {self.head_dim} are too narrow to rotate on three axes; use 6 or more.")

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.dim // self.num_heads

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens in one latent."""
        return self.latent_size[0] // self.patch_size[0], self.latent_size[1] // self.patch_size[1]

    @property
    def tokens_per_latent(self) -> int:
        """Tokens n that one latent becomes."""
        return self.grid[0] * self.grid[1]
