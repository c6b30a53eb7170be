"""Prompts of several actions at once, by name: keyboard and mouse, or controls and a text."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Float32
from torch import Tensor, nn

from cfworld.errors import ActionError
from cfworld.prompts.base import PromptEncoder, TextEncoder, as_tensor, expand_frames

__all__ = ["DictPrompts"]


class DictPrompts(PromptEncoder):
    """The tokens of every part, one part after the other in the order of their names.

    Every part has an encoder of its own, with its own places and its own null prompt. Inside the world the parts are
    columns of one float32 tensor, which holds whole numbers up to 2^24 exactly.

    Args:
        parts: encoder of each part, by name; all for the same number of frames.
    """

    def __init__(self, parts: Mapping[str, PromptEncoder]) -> None:
        super().__init__()
        self.names = sorted(parts)
        self.encoders = nn.ModuleList(parts[name] for name in self.names)
        self.frames = parts[self.names[0]].frames
        self.widths = [math.prod(parts[name].action_shape) for name in self.names]
        self.action_shape, self.action_dtype = (sum(self.widths),), torch.float32
        self.takes_text = any(part.takes_text for part in parts.values())

    @property
    def parts(self) -> dict[str, PromptEncoder]:
        """The encoders by name, in order."""
        return dict(zip(self.names, self.encoders, strict=True))  # type: ignore[arg-type]

    def use_encoder(self, encoder: TextEncoder) -> None:
        """Let the texts among the parts be encoded by this."""
        if not self.takes_text:
            super().use_encoder(encoder)
        for part in self.parts.values():
            if part.takes_text:
                part.use_encoder(encoder)

    def forward(
        self, actions: Float[Tensor, "*batch F S"], dropped: Bool[Tensor, "*batch"] | None = None
    ) -> Float[Tensor, "*batch P D"]:
        """Prompt tokens of checked actions; see `PromptEncoder.forward`."""
        pieces = zip(self.parts.values(), self.split(actions), strict=True)
        return torch.cat([part(piece, dropped) for part, piece in pieces], dim=-2)

    def split(self, actions: Float[Tensor, "*batch F S"]) -> list[Tensor]:
        """The actions of every part, each as its own encoder checks them."""
        columns = actions.split(self.widths, dim=-1)
        return [
            piece.reshape(*piece.shape[:-1], *part.action_shape).to(part.action_dtype)
            for part, piece in zip(self.parts.values(), columns, strict=True)
        ]

    def check(self, actions: Any, batch: int | None, frames: int, values: bool = True) -> Float32[Tensor, "B F S"]:
        """Validate a mapping from every part's name to its actions; see `PromptEncoder.check`.

        Each part is given for the whole step or per frame, as it likes. Lists of such mappings, one per row, per frame
        or per row and frame, are taken too.
        """
        actions = _gathered(actions)
        if not isinstance(actions, Mapping):
            return self._check_columns(actions, batch, frames, values)
        if set(actions) != set(self.names):
            raise ActionError(f"got an action with {sorted(map(str, actions))}; expected a mapping with {self.names}")
        pieces = []
        for name, part in self.parts.items():
            try:
                checked = part.check(actions[name], batch, frames, values)
            except ActionError as error:
                raise ActionError(f"{name}: {error}") from error
            pieces.append(checked.flatten(2) if checked.ndim > 2 else checked[..., None])
        device = next(self.parameters()).device
        return torch.cat([piece.to(device, torch.float32) for piece in pieces], dim=-1)

    def _check_columns(self, actions: Any, batch: int | None, frames: int, values: bool) -> Tensor:
        """Validate what `check` has given before."""
        try:
            tensor = expand_frames(as_tensor(actions).float(), batch, frames, self.action_shape)
        except ActionError as error:
            raise ActionError(f"{error}; or a mapping with {self.names}") from error
        if values:
            again = self.check(dict(zip(self.names, self.split(tensor), strict=True)), len(tensor), frames)
            changed = again.to(tensor.device) != tensor
            if bool(changed.any()):
                raise ActionError(f"got {tensor[changed][0]:g} for a discrete action; expected a whole number")
        return tensor


def _gathered(actions: Any) -> Any:
    """A list of mappings as one mapping of lists, at any depth; anything else as it is.

    Raises:
        ActionError: if the mappings have different names.
    """
    if not isinstance(actions, list | tuple):
        return actions
    entries = [_gathered(entry) for entry in actions]
    if not entries or not all(isinstance(entry, Mapping) for entry in entries):
        return actions
    if any(set(entry) != set(entries[0]) for entry in entries):
        raise ActionError(f"got mappings with different names, {[sorted(map(str, entry)) for entry in entries]}")
    return {name: [entry[name] for entry in entries] for name in entries[0]}
