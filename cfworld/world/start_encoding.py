"""From a start to latents and actions that a world understands."""

from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from cfworld.errors import ActionError, StartError
from cfworld.model import Generator
from cfworld.prompts import ActionConfig, ActionKind, ActionPart
from cfworld.tokenizer import Tokenizer
from cfworld.world.config import WorldConfig
from cfworld.world.start import Start

__all__ = ["box_averaged", "check_start", "encode_start", "neutral_action"]


def check_start(start: Start, config: WorldConfig, generator: Generator) -> tuple[UInt8[Tensor, "T H W 3"], Tensor]:
    """Frames at the world's resolution, and one checked action per frame, [T, ...]; see `PromptEncoder`.

    Raises:
        StartError: If frames or actions are not what the world expects.
    """
    step, length = config.frames_per_step, len(start.frames)
    if length % step:
        raise StartError(
            f"a start must hold whole steps of {step} frames; got {length} frames. Cut it to a multiple, as "
            "Start.from_clip does."
        )
    given = neutral_action(config.actions) if start.actions is None else start.actions
    try:
        actions = generator.prompts.check(given, None, length)
    except ActionError as error:
        raise StartError(f"the start's actions do not fit this world: {error}") from error
    return torch.from_numpy(box_averaged(start.frames, config.resolution)), actions[0]


def encode_start(
    start: Start, config: WorldConfig, tokenizer: Tokenizer, generator: Generator, device: torch.device
) -> tuple[Tensor, Tensor, UInt8[Tensor, "T H W 3"]]:
    """Latents [L, C, h, w], actions [L, f, ...] and the frames that were encoded.

    Raises:
        StartError: If frames or actions are not what the world expects.
    """
    frames, actions = check_start(start, config, generator)
    frames = frames.to(device)
    return tokenizer.encode(frames[None])[0], actions.to(device).unflatten(0, (-1, config.frames_per_latent)), frames


def neutral_action(actions: ActionPart) -> Any:
    """Zeros, int64 [] or [K]; the point of a box nearest to zero, float32 [A]; the empty text; a mapping of these."""
    if actions.kind is ActionKind.DICT:
        assert isinstance(actions, ActionConfig)
        return {name: neutral_action(part) for name, part in actions.parts.items()}
    if actions.kind is ActionKind.TEXT:
        return ""
    if actions.kind is ActionKind.BOX:
        low, high = np.array(actions.low, np.float32), np.array(actions.high, np.float32)
        return np.clip(np.zeros_like(low), low, high)
    return np.zeros(len(actions.multi) if actions.multi else (), np.int64)


def box_averaged(frames: Any, resolution: tuple[int, int]) -> UInt8[np.ndarray, "T h w 3"]:
    """Frames at a resolution of which their own is an integer multiple, boxes averaged and rounded half up.

    Args:
        frames: uint8 [T, H, W, 3].
        resolution: Height and width that are wanted.

    Raises:
        StartError: If height or width is no multiple.
    """
    height, width = resolution
    boxes = frames.shape[1] // height, frames.shape[2] // width
    if (boxes[0] * height, boxes[1] * width) != frames.shape[1:3]:
        raise StartError(
            f"start frames must be {height}x{width}, or integer multiples of it; got "
            f"{frames.shape[1]}x{frames.shape[2]}. Resize them."
        )
    if boxes == (1, 1):
        return np.array(frames, order="C")
    sums = frames.reshape(len(frames), height, boxes[0], width, boxes[1], 3).sum(axis=(2, 4), dtype=np.int64)
    area = boxes[0] * boxes[1]
    return ((sums + area // 2) // area).astype(np.uint8)
