"""Texts whose tokens the transformer takes as the encoder gives them: Wan's prompts, one text for each latent.

Wan attends to all 512 tokens without a mask; beyond a text they are zero. A text's tokens are large (8 MB at Wan's
size), and a memory has many slots. So what stands for a text inside the world is the text itself, by the numbers of
its characters: whoever holds a state can read it, and its tokens are looked up when they are needed.

Of actions given one per frame, that of a latent's first frame holds for all of it: a change takes effect with the
next.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from cfworld.errors import ActionError, ConfigError
from cfworld.prompts.base import PromptEncoder, TextEncoder, as_tensor, expand_frames
from cfworld.prompts.discrete import check_discrete
from cfworld.prompts.names import has_text
from cfworld.prompts.text import TextMemo, TextPromptConfig, text_array

__all__ = ["EncodedTextPrompts", "TextTablePrompts"]


class EncodedTextPrompts(PromptEncoder):
    """Prompts of any text. The null prompt is the empty one.

    Inside the world a text is int64 [S] per frame, the numbers of its characters and zeros behind them, S the longest
    that is allowed. Every text is encoded once and kept.
    """

    takes_text = True
    looks_up = True

    def __init__(self, config: TextPromptConfig) -> None:
        super().__init__()
        _check_width(config)
        self.config, self.frames = config, config.frames
        self.action_shape, self.action_dtype = (config.max_length,), torch.int64
        self._memo = TextMemo(config, None)

    @property
    def encoder(self) -> TextEncoder | None:
        """What encodes texts."""
        return self._memo.encoder

    def use_encoder(self, encoder: TextEncoder) -> None:
        """Let texts be encoded by this from now on."""
        self._memo = TextMemo(self.config, encoder)

    def forward(
        self, actions: Int64[Tensor, "*batch F S"], dropped: Bool[Tensor, "*batch"] | None = None
    ) -> Float[Tensor, "*batch P E"]:
        """The tokens of each latent's text."""
        first = _first_frame(actions, self.frames, 1)
        if dropped is not None:
            first = first * ~dropped[..., None]
        texts = [_text(characters) for characters in first.flatten(0, -2).tolist()]
        tokens = self._memo(texts, actions.device).unflatten(1, (self.config.tokens, self.config.width))
        return tokens.unflatten(0, first.shape[:-1])

    def check(self, actions: Any, batch: int | None, frames: int, values: bool = True) -> Int64[Tensor, "B F S"]:
        """Validate texts [B] or [B, F], or what stands for them, [B, S] or [B, F, S]; see `PromptEncoder.check`."""
        try:
            given = self._numbered(actions) if has_text(actions) else as_tensor(actions)
        except ActionError as error:
            if has_text(actions):
                raise
            raise ActionError(
                f"got {actions!r:.80}; expected texts of at most {self.config.max_length} characters, one for the "
                "step or one per frame"
            ) from error
        if given.dtype != torch.int64 or given.shape[-1:] != self.action_shape:
            raise ActionError(
                f"got actions {list(given.shape)} of {given.dtype}; expected texts of at most {self.config.max_length} "
                "characters, one for the step or one per frame"
            )
        tensor = expand_frames(given, batch, frames, self.action_shape)
        if values and bool(((tensor < 0) | (tensor > 0x10FFFF) | (tensor >= 0xD800) & (tensor <= 0xDFFF)).any()):
            raise ActionError("got numbers that stand for no characters; expected texts, or what `check` gave before")
        return _held(tensor, self.frames)

    def _numbered(self, actions: Any) -> Tensor:
        array = text_array(actions)
        longest = self.config.max_length
        numbers = np.zeros((array.size, longest), np.int64)
        for row, text in enumerate(array.ravel().tolist()):
            if len(text) > longest:
                raise ActionError(f"got a text of {len(text)} characters, {text[:40]!r}...; expected at most {longest}")
            numbers[row, : len(text)] = [ord(character) for character in text]
        return torch.from_numpy(numbers.reshape(*array.shape, longest))


class TextTablePrompts(PromptEncoder):
    """Prompts of discrete actions, each of which says a text; the texts' tokens are kept with the weights.

    Args:
        config: Sizes.
        texts: What each action says.
        names: Name of each action, or none.
    """

    table: Tensor

    def __init__(self, config: TextPromptConfig, texts: Sequence[str], names: Sequence[str]) -> None:
        super().__init__()
        _check_width(config)
        self.config, self.frames, self.texts, self.names = config, config.frames, list(texts), list(names)
        self.action_shape, self.action_dtype = (), torch.int64
        self.register_buffer("table", torch.zeros(len(texts) + 1, config.tokens, config.width))

    def encode_texts(self, encoder: TextEncoder) -> None:
        """Fill the table: the texts' tokens, and behind them those of the null prompt, the empty text."""
        encoded = TextMemo(self.config, encoder)([*self.texts, ""], self.table.device)
        self.table.copy_(encoded.unflatten(1, (self.config.tokens, self.config.width)))

    def forward(
        self, actions: Int64[Tensor, "*batch F"], dropped: Bool[Tensor, "*batch"] | None = None
    ) -> Float[Tensor, "*batch P E"]:
        """The tokens of what each latent's action says."""
        first = _first_frame(actions, self.frames, 0)
        if dropped is not None:
            first = torch.where(dropped, len(self.texts), first)
        return self.table[first]

    def check(self, actions: Any, batch: int | None, frames: int, values: bool = True) -> Int64[Tensor, "B F"]:
        """Validate integers in [0, number of texts), or names, [B] or [B, F]; see `PromptEncoder.check`."""
        return _held(check_discrete(actions, len(self.texts), self.names, batch, frames, values), self.frames)


def _check_width(config: TextPromptConfig) -> None:
    if config.width != config.dim:
        raise ConfigError(
            f"got tokens of width {config.width} for a transformer that takes {config.dim}; expected them equal: these "
            "tokens are taken as they are"
        )


def _held(actions: Tensor, frames: int) -> Tensor:
    """Actions as they take effect: that of a latent's first frame holds for all of it."""
    frame = torch.arange(actions.shape[1], device=actions.device)
    return actions[:, frame - frame % frames]


def _first_frame(actions: Tensor, frames: int, axes: int) -> Tensor:
    """The action of each latent: that of its first frame. `axes`: how many an action has."""
    axis = actions.ndim - 1 - axes
    if actions.shape[axis] != frames:
        raise ActionError(f"got actions for {actions.shape[axis]} frames; expected {frames}, the frames of a latent")
    return actions.select(axis, 0)


def _text(characters: list[int]) -> str:
    return "".join(map(chr, characters)).rstrip("\0")
