"""Text prompts: any encoder with a `(list[str]) -> tokens` call, and one that runs offline."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor, nn

from cfworld.errors import ActionError, ConfigError
from cfworld.prompts.base import FramePrompts, TextEncoder, as_tensor, expand_frames
from cfworld.prompts.hashed_words import HashedWords
from cfworld.prompts.names import has_text, unboxed
from cfworld.rows import Linear
from cfworld.settings import check_counts

__all__ = ["HASHED_WORDS", "HashedWords", "TextEncoder", "TextMemo", "TextPromptConfig", "TextPrompts", "text_array"]

HASHED_WORDS = "hashed_words"
"""Name of the encoder that ships with the package."""

_REMEMBERED = 4096
"""Texts whose tokens are kept, if they take no more than this room."""
_REMEMBERED_BYTES = 2**29
_INIT_STD = 0.5


@dataclass(kw_only=True, slots=True)
class TextPromptConfig:
    """Prompts of texts.

    Attributes:
        max_length: Characters of the longest text.
        tokens: Tokens P of a text; an encoder that gives fewer is padded with zeros.
        width: Components E of a token, as the encoder gives it.
        dim: Width D of a prompt token.
        frames: Frames of a latent.
        encoder: Name of the encoder. Another one than "hashed_words" has to be given to `use_encoder`.
    """

    max_length: int
    tokens: int
    width: int
    dim: int
    frames: int
    encoder: str = HASHED_WORDS

    def __post_init__(self) -> None:
        """Refuse sizes below 1."""
        check_counts(self, "max_length", "tokens", "width", "dim", "frames", prefix="TextPromptConfig.")


class TextPrompts(FramePrompts):
    """A text's tokens, projected, each with a learned embedding of its place in the text.

    Inside the world a text is what the encoder made of it, float32 [P E] per frame: a state can be saved, forked and
    given away without the text or its encoder. Every text is encoded once and kept.

    Args:
        config: Sizes.
        encoder: Any `(list[str]) -> tokens`; None takes the one that `config` names.
    """

    takes_text = True

    def __init__(self, config: TextPromptConfig, encoder: TextEncoder | None = None) -> None:
        super().__init__(config.dim, config.frames, (config.tokens * config.width,), torch.float32)
        self.config = config
        self.tokens_per_frame = config.tokens
        self.project = Linear(config.width, config.dim)
        self.words = nn.Parameter(_INIT_STD * torch.randn(config.tokens, config.dim))
        if encoder is None and config.encoder == HASHED_WORDS:
            encoder = HashedWords(config.tokens, config.width)
        self._memo = TextMemo(config, encoder)

    def use_encoder(self, encoder: TextEncoder) -> None:
        """Let texts be encoded by this from now on: the one that the world was trained with."""
        self._memo = TextMemo(self.config, encoder)

    def embed(self, actions: Float[Tensor, "*batch F S"]) -> Float[Tensor, "*batch P D"]:
        """Project the tokens of every frame's text, and add their places in it."""
        tokens = actions.to(self.null.dtype).unflatten(-1, (self.config.tokens, self.config.width))
        return (self.project(tokens) + self.words).flatten(-3, -2)

    def encode(self, texts: list[str]) -> Float32[Tensor, "n S"]:
        """What stands for texts inside the world, on the device of the weights.

        Raises:
            ActionError: If one is too long.
            ConfigError: If there is no encoder, or it gives something else than the world expects.
        """
        return self._memo(texts, self.null.device)

    def check(self, actions: Any, batch: int | None, frames: int, values: bool = True) -> Float32[Tensor, "B F S"]:
        """Validate texts [B] or [B, F], or encoded ones [B, S] or [B, F, S]; see `PromptEncoder.check`."""
        if has_text(actions):
            return self._encoded(actions, batch, frames)
        try:
            tensor = expand_frames(as_tensor(actions).float(), batch, frames, self.action_shape)
        except ActionError as error:
            raise ActionError(
                f"{error}. This world's actions are texts of at most {self.config.max_length} characters: pass one, or "
                "one per frame"
            ) from error
        if values and not bool(tensor.isfinite().all()):
            raise ActionError("got an encoded text that is NaN or infinite; expected finite numbers")
        return tensor

    def _encoded(self, actions: Any, batch: int | None, frames: int) -> Tensor:
        array = text_array(actions)
        texts, index = np.unique(array, return_inverse=True)
        index = expand_frames(torch.from_numpy(index.reshape(array.shape)), batch, frames, ())
        return self.encode(texts.tolist())[index.to(self.null.device)]


class TextMemo:
    """An encoder that keeps what it gave; copies of a network share it."""

    def __init__(self, config: TextPromptConfig, encoder: TextEncoder | None) -> None:
        self._config, self.encoder = config, encoder
        self._known: dict[str, Tensor] = {}
        self._room = min(_REMEMBERED, max(1, _REMEMBERED_BYTES // (4 * config.tokens * config.width)))

    def __deepcopy__(self, memo: dict[int, Any]) -> "TextMemo":
        return self

    def __call__(self, texts: list[str], device: torch.device) -> Tensor:
        """Tokens [n, P E] of n texts, on a device."""
        unknown = list(dict.fromkeys(text for text in texts if text not in self._known))
        if unknown:
            self._known |= dict(zip(unknown, self._encode(unknown), strict=True))
        for text in texts:
            self._known[text] = self._known[text].to(device)
        encoded = torch.stack([self._known[text] for text in texts])
        for _ in range(len(self._known) - self._room):
            del self._known[next(iter(self._known))]
        return encoded

    def _encode(self, texts: list[str]) -> Tensor:
        config = self._config
        for text in texts:
            _check_characters(text)
            if len(text) > config.max_length:
                raise ActionError(
                    f"got a text of {len(text)} characters, {text[:40]!r}...; expected at most {config.max_length}"
                )
        if self.encoder is None:
            raise ConfigError(
                f"got a text for a world whose encoder {config.encoder!r} does not ship with cfworld; give it the one "
                "that it was trained with: world.generator.prompts.use_encoder(encoder)"
            )
        with torch.inference_mode(False), torch.no_grad():
            given = self.encoder(texts)
            try:
                tokens = torch.as_tensor(given).to("cpu", torch.float32).clone()
            except (TypeError, ValueError, RuntimeError) as error:
                raise ConfigError(
                    f"got a {type(given).__name__} from the encoder of texts, which makes no tensor ({error}); "
                    f"expected numbers [{len(texts)}, P, {config.width}], or [{len(texts)}, {config.width}]"
                ) from error
        tokens = tokens[:, None] if tokens.ndim == 2 else tokens
        fits = tokens.ndim == 3 and len(tokens) == len(texts) and tokens.shape[2] == config.width
        if not fits or tokens.shape[1] > config.tokens or not bool(tokens.isfinite().all()):
            raise ConfigError(
                f"got tokens {list(tokens.shape)} from the encoder of texts; expected finite numbers "
                f"[{len(texts)}, P, {config.width}] with P up to {config.tokens}, or [{len(texts)}, {config.width}]"
            )
        return nn.functional.pad(tokens, (0, 0, 0, config.tokens - tokens.shape[1])).flatten(1)


def text_array(actions: Any) -> np.ndarray:
    """Texts as an array of strings.

    Raises:
        ActionError: If they are ragged, or there is something else among them, half a character for one.
    """
    try:
        array = np.asarray(unboxed(actions))
    except ValueError as error:
        raise ActionError(f"got texts that form no array ({error}); expected equal lengths") from error
    if array.dtype.kind != "U" or not _all_text(actions):
        raise ActionError("got texts among other things; expected texts alone")
    for text in array.ravel().tolist():
        _check_characters(text)
    return array


def _check_characters(text: str) -> None:
    """Refuse halves of surrogate pairs, which no encoder takes.

    Raises:
        ActionError: If there is one.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ActionError(
            f"got the text {text[:40]!r}, whose character {error.start} is half of a pair; expected whole characters"
        ) from error


def _all_text(actions: Any) -> bool:
    actions = unboxed(actions)
    if isinstance(actions, list | tuple):
        return all(_all_text(entry) for entry in actions)
    return isinstance(actions, str) or has_text(actions)
