"""What every prompt encoder shares: one token per frame, a place for each frame, and the null prompt."""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor, nn

from cfworld.errors import ActionError

__all__ = ["PromptEncoder", "as_tensor", "expand_frames"]

_INIT_STD = 0.5


class PromptEncoder(nn.Module, ABC):
    """Turns the actions of a chunk into prompt tokens, one per frame.

    A token is the action's embedding plus a learned embedding of the frame's place in the chunk. For
    classifier-free guidance, the action's embedding of a dropped row is replaced by a learned null embedding;
    its place stays.
    """

    def __init__(self, dim: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.null = nn.Parameter(_INIT_STD * torch.randn(dim))
        self.positions = nn.Parameter(_INIT_STD * torch.randn(frames, dim))

    @abstractmethod
    def embed(self, actions: Num[Tensor, "*action"]) -> Float[Tensor, "*batch F D"]:
        """Embed each frame's action, without its place."""

    @abstractmethod
    def check(self, actions: Any, batch: int, frames: int, values: bool = True) -> Num[Tensor, "B F *action"]:
        """Validate actions from outside and give every frame its own.

        Args:
            actions: array, tensor or nested list; one action per row, or one per row and frame.
            batch: number of rows expected.
            frames: number of frames in a step.
            values: also look at the values. False checks shape and dtype only, and never waits for a device.

        Returns:
            Actions [B, F] or [B, F, A], on the device on which they came.

        Raises:
            ActionError: if shape, dtype or a value is wrong.
        """

    def forward(
        self, actions: Num[Tensor, "*action"], dropped: Bool[Tensor, "*batch"] | None = None
    ) -> Float[Tensor, "*batch F D"]:
        """Prompt tokens of checked actions.

        Args:
            actions: int64 [*, F], or float [*, F, A] for continuous actions.
            dropped: which rows become the null prompt; none by default.

        Returns:
            Tokens [*, F, D].

        Raises:
            ActionError: if the actions are not for as many frames as the encoder was made for.
        """
        tokens = self.embed(actions)
        if tokens.shape[-2] != self.frames:
            raise ActionError(
                f"got actions for {tokens.shape[-2]} frames; expected {self.frames}, the frames of a chunk"
            )
        if dropped is not None:
            tokens = torch.where(dropped[..., None, None], self.null, tokens)
        return tokens + self.positions


def as_tensor(actions: Any) -> Tensor:
    """Actions as a tensor; nothing is cast silently.

    Raises:
        ActionError: if they are boolean, ragged, or not numbers.
    """
    if not isinstance(actions, Tensor):
        try:
            array = np.asarray(actions)
        except ValueError as error:
            raise ActionError(f"got actions that form no array ({error}); expected equal lengths") from error
        if array.dtype.kind not in "biuf":
            raise ActionError(f"got actions of dtype {array.dtype}; expected numbers")
        if array.dtype.kind == "u" and array.dtype.itemsize > 1:
            array = array.astype(np.int64)
        actions = torch.from_numpy(array.copy())
    if actions.dtype == torch.bool:
        raise ActionError("got boolean actions; expected numbers: convert them, if 0 and 1 are what you mean")
    return actions


def expand_frames(actions: Tensor, batch: int, frames: int, action_shape: tuple[int, ...]) -> Tensor:
    """Repeat one action per row over the frames of a step; actions that are given per frame stay.

    Raises:
        ActionError: if the shape is neither [B, *action_shape] nor [B, F, *action_shape].
    """
    if actions.shape == (batch, *action_shape):
        return actions.unsqueeze(1).repeat(1, frames, *(1 for _ in action_shape))
    if actions.shape == (batch, frames, *action_shape):
        return actions
    raise ActionError(
        f"got actions of shape {tuple(actions.shape)}; expected {(batch, *action_shape)} (one per row) "
        f"or {(batch, frames, *action_shape)} (one per row and frame)"
    )
