"""What every prompt encoder shares: tokens for each frame, a place for each frame, and the null prompt."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from cfworld.errors import ActionError, ConfigError
from cfworld.prompts.names import unboxed

__all__ = ["FramePrompts", "PromptEncoder", "TextEncoder", "as_tensor", "check_integers", "expand_frames", "on_host"]

TextEncoder = Callable[[list[str]], Any]
"""From n texts to their tokens: numbers [n, P, E], or [n, E] for one token each; a tensor or an array."""

_INIT_STD = 0.5
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


class PromptEncoder(nn.Module, ABC):
    """Turns the actions of a chunk into prompt tokens: `check` what comes from outside, then call with what it gives.

    Inside a world, actions are one tensor with an entry per frame: int64 [B, F] for Discrete, int64 [B, F, K] for
    MultiDiscrete, float32 [B, F, A] for Box, float32 [B, F, P E] for Text (each frame's text, encoded), and float32
    [B, F, S] for Dict (the parts in the order of their names, side by side). That tensor is what the memory, the
    starts and a saved state hold; it depends on no cache and no encoder of texts.

    Attributes:
        frames: frames of a latent.
        action_shape: shape of one frame's action in that tensor: (), [K], [A], [P E] or [S].
        action_dtype: int64 or float32.
        takes_text: whether it is, or has among its parts, an encoder of texts.
        looks_up: whether tokens are looked up by what actions say, on the host: not by tensors alone, so that no
            compiled graph can do it.
    """

    frames: int
    action_shape: tuple[int, ...]
    action_dtype: torch.dtype
    takes_text = False
    looks_up = False

    @abstractmethod
    def check(self, actions: Any, batch: int | None, frames: int, values: bool = True) -> Num[Tensor, "B F *action"]:
        """Validate actions from outside and give every frame its own.

        Args:
            actions: what the encoder's kind of action looks like: an array, a tensor, a nested list, names or texts, a
                mapping. One action per row, [B, ...], or one per row and frame, [B, F, ...]. What `check` has given
                before is taken too.
            batch: number of rows B. None: the actions are those of a single row and have no axis for rows, [...] or
                [F, ...].
            frames: number of frames F in a step.
            values: also look at the values. False checks shape and dtype only, and never waits for a device.

        Returns:
            The actions as one tensor, with an axis for rows. Numbers stay on the device on which they came; texts and
            mappings come out on the encoder's own.

        Raises:
            ActionError: if shape, dtype or a value is wrong.
        """

    @abstractmethod
    def forward(
        self, actions: Num[Tensor, "*action"], dropped: Bool[Tensor, "*batch"] | None = None
    ) -> Float[Tensor, "*batch P D"]:
        """Prompt tokens of checked actions.

        Args:
            actions: what `check` gives for the frames of a latent, with any leading axes: [*, F], or [*, F, A].
            dropped: which rows become the null prompt, bool [*]; none by default.

        Returns:
            Tokens [*, P, D]: at least one for each frame.

        Raises:
            ActionError: if the actions are not for as many frames as the encoder was made for.
        """

    def use_encoder(self, encoder: TextEncoder) -> None:
        """Let texts be encoded by this from now on, in place of what the world brings.

        Raises:
            ConfigError: if no part of the actions is text.
        """
        del encoder
        raise ConfigError("got an encoder of texts for a world whose actions hold none; leave it out")


class FramePrompts(PromptEncoder):
    """Base of the encoders of one kind of action: as many tokens for every frame.

    A token is the action's embedding plus a learned embedding of the frame's place in the latent. For classifier-free
    guidance, the action's embedding of a dropped row is replaced by a learned null embedding; its place stays.
    """

    tokens_per_frame = 1

    def __init__(self, dim: int, frames: int, action_shape: tuple[int, ...], action_dtype: torch.dtype) -> None:
        super().__init__()
        self.frames, self.action_shape, self.action_dtype = frames, action_shape, action_dtype
        self.null = nn.Parameter(_INIT_STD * torch.randn(dim))
        self.positions = nn.Parameter(_INIT_STD * torch.randn(frames, dim))

    @abstractmethod
    def embed(self, actions: Num[Tensor, "*action"]) -> Float[Tensor, "*batch P D"]:
        """Embed each frame's action, without its place: `tokens_per_frame` tokens for each, frame after frame."""

    def forward(
        self, actions: Num[Tensor, "*action"], dropped: Bool[Tensor, "*batch"] | None = None
    ) -> Float[Tensor, "*batch P D"]:
        """Prompt tokens of checked actions; see `PromptEncoder.forward`."""
        tokens = self.embed(actions)
        if tokens.shape[-2] != self.frames * self.tokens_per_frame:
            raise ActionError(
                f"got actions for {tokens.shape[-2] // self.tokens_per_frame} frames; expected {self.frames}, the "
                "frames of a latent"
            )
        if dropped is not None:
            tokens = torch.where(dropped[..., None, None], self.null, tokens)
        return tokens + self.positions[:, None].expand(-1, self.tokens_per_frame, -1).flatten(0, 1)


def as_tensor(actions: Any) -> Tensor:
    """Actions as a tensor; nothing is cast silently.

    Raises:
        ActionError: if they are boolean, ragged, or not numbers.
    """
    if not isinstance(actions, Tensor):
        try:
            array = np.asarray(unboxed(actions))
        except ValueError as error:
            raise ActionError(f"got actions that form no array ({error}); expected equal lengths") from error
        if array.dtype.kind not in "biuf":
            raise ActionError(f"got actions of dtype {array.dtype}; expected numbers")
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int64)
        actions = torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
    if actions.dtype == torch.bool:
        raise ActionError("got boolean actions; expected numbers: convert them, if 0 and 1 are what you mean")
    return actions


def check_integers(actions: Tensor) -> Tensor:
    """Integers as int64.

    Raises:
        ActionError: if they are of another dtype.
    """
    if actions.dtype not in _INTEGERS:
        raise ActionError(f"got actions of dtype {actions.dtype}; expected integers: this world's actions are discrete")
    return actions.long()


def expand_frames(actions: Tensor, batch: int | None, frames: int, action_shape: tuple[int, ...]) -> Tensor:
    """Repeat one action per row over the frames of a step; actions that are given per frame stay.

    Args:
        actions: [B, *action_shape] or [B, F, *action_shape]; without B where `batch` is None.
        batch: rows B, or None.
        frames: frames F.
        action_shape: shape of one action.

    Returns:
        [B, F, *action_shape], where B is 1 for None.

    Raises:
        ActionError: if the shape is neither of the two.
    """
    rows = () if batch is None else (batch,)
    once, each = (*rows, *action_shape), (*rows, frames, *action_shape)
    if actions.shape == once:
        actions = actions.unsqueeze(len(rows)).expand(each).clone()
    elif actions.shape != each:
        got, one, many = (
            ("an action", "one", "one per frame")
            if batch is None
            else ("actions", "one per row", "one per row and frame")
        )
        raise ActionError(
            f"got {got} of shape {tuple(actions.shape)}; expected {once} ({one}, for the whole step) or {each} ({many})"
        )
    return actions[None] if batch is None else actions


def on_host(actions: Any) -> bool:
    """Whether the values of actions can be looked at without waiting for a device."""
    if isinstance(actions, Mapping):
        return all(on_host(part) for part in actions.values())
    return not isinstance(actions, Tensor) or actions.device.type == "cpu"
