"""What every tokenizer promises: frames in, latents of unit scale out, and back."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from jaxtyping import Float32, UInt8
from torch import Tensor, nn

from cfworld.errors import ShapeError

__all__ = ["Tokenizer"]


class Tokenizer(nn.Module, ABC):
    """Turns `frames_per_latent` consecutive frames into one latent, and a latent back into frames.

    Attributes:
        streams: Whether the frames of a latent depend on the latents before it. Then `decode_next` carries what it has
            to know of them; otherwise a latent is decoded by itself, whenever somebody wants to see it.
    """

    streams = False

    @property
    @abstractmethod
    def frames_per_latent(self) -> int:
        """Frames that one latent holds."""

    @property
    @abstractmethod
    def resolution(self) -> tuple[int, int]:
        """Height and width of a frame in pixels."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, int, int]:
        """Shape of one latent: channels, height, width."""

    @abstractmethod
    def encode(self, frames: UInt8[Tensor, "B F H W 3"]) -> Float32[Tensor, "B N C h w"]:
        """Encode frames into latents of unit scale, deterministically.

        Args:
            frames: RGB frames, 0 to 255; F must be a multiple of `frames_per_latent`.

        Returns:
            N = F / `frames_per_latent` latents a row, about zero mean and unit variance in every channel.

        Raises:
            ShapeError: If F or the resolution does not fit.
        """

    @abstractmethod
    def decode(self, latents: Float32[Tensor, "B N C h w"]) -> UInt8[Tensor, "B F H W 3"]:
        """Decode latents of unit scale into frames.

        Args:
            latents: N latents a row, as `encode` returns them.

        Returns:
            F = N * `frames_per_latent` RGB frames a row, 0 to 255.

        Raises:
            ShapeError: If a latent has another shape than `latent_shape`.
        """

    def decode_next(
        self, latents: Float32[Tensor, "B N C h w"], stream: Mapping[str, Tensor] | None
    ) -> tuple[UInt8[Tensor, "B F H W 3"], dict[str, Tensor]]:
        """Decode latents that follow others.

        Args:
            latents: N latents a row.
            stream: What the call for the latents before them returned; None where these are the first.

        Returns:
            Their frames, and what the call for the next ones needs: tensors with an axis for rows, the same ones after
            every call. The given stream stays as it is. A tokenizer that does not stream needs nothing.
        """
        del stream
        return self.decode(latents), {}

    def encoding_state(self) -> dict[str, Tensor]:
        """The weights and statistics on which latents depend: what has them equal encodes equally."""
        return self.state_dict()

    def check_frames(self, frames: Tensor) -> None:
        """Raise ShapeError unless `frames` is [B, F, H, W, 3] with F and (H, W) as the tokenizer expects."""
        height, width = self.resolution
        fits = frames.ndim == 5 and tuple(frames.shape[2:]) == (height, width, 3)
        if not fits or frames.shape[1] == 0 or frames.shape[1] % self.frames_per_latent:
            raise ShapeError(
                f"got frames of shape {tuple(frames.shape)}; expected [B, F, {height}, {width}, 3] with F a "
                f"positive multiple of {self.frames_per_latent}. Resize the frames, or cut the clip to whole "
                "latents."
            )

    def check_latents(self, latents: Tensor) -> None:
        """Raise ShapeError unless `latents` is [B, N, *latent_shape]."""
        if latents.ndim != 5 or tuple(latents.shape[2:]) != self.latent_shape:
            channels, height, width = self.latent_shape
            raise ShapeError(
                f"got latents of shape {tuple(latents.shape)}; expected [B, N, {channels}, {height}, "
                f"{width}]. Use latents of this tokenizer, with a row and a time axis."
            )
