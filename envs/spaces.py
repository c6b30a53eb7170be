"""Observation and action spaces, the same for a world and its twin, and the checks that guard them."""

import copy
import string
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space
from jaxtyping import Int64, UInt8
from torch import Tensor

from cfworld.errors import ActionError, ConfigError
from cfworld.prompts import ActionConfig, ActionKind, ActionPart
from cfworld.prompts.base import as_tensor
from cfworld.prompts.discrete import check_discrete
from cfworld.prompts.names import numbered
from cfworld.world import WorldConfig

__all__ = [
    "LATENT_BOUND",
    "TextChunk",
    "check_discrete_sequence",
    "check_discrete_step",
    "frame_space",
    "frames_space",
    "stack_channels",
    "unstack_channels",
    "world_action_space",
    "world_observation_space",
]

TEXT_CHARACTERS = string.ascii_letters + string.digits + string.punctuation + " "
"""Of what a space of texts is made when texts are drawn from it. A world takes any other character too."""

LATENT_BOUND = 100.0
"""Greatest size of a latent observation. Latents have unit scale: those of frames come nowhere near it."""


class TextChunk(spaces.Tuple):
    """F texts, one for each frame of a step. In a batch of them rows come first, as in a batch of any other chunk."""


@batch_space.register(TextChunk)
def _batch_of_chunks(space: TextChunk, n: int = 1) -> spaces.Tuple:  # pyright: ignore[reportUnusedFunction]
    return spaces.Tuple([copy.deepcopy(space) for _ in range(n)])


def frame_space(resolution: tuple[int, int]) -> spaces.Box:
    """Space of one frame.

    Args:
        resolution: height and width in pixels.

    Returns:
        A uint8 box [H, W, 3] in [0, 255].
    """
    return spaces.Box(0, 255, (*resolution, 3), np.uint8)


def frames_space(resolution: tuple[int, int], num_frames: int) -> spaces.Box:
    """Space of all frames of a step, stacked on the channel axis.

    Args:
        resolution: height and width in pixels.
        num_frames: frames per step F.

    Returns:
        A uint8 box [H, W, 3F] in [0, 255].
    """
    return spaces.Box(0, 255, (*resolution, 3 * num_frames), np.uint8)


def world_observation_space(obs: str, config: WorldConfig) -> spaces.Box:
    """Observation space of a world.

    Args:
        obs: "frame", "frames" or "latent".
        config: the world's configuration.

    Returns:
        The space of one frame, of all frames of a step, or of the flattened latents, float32.

    Raises:
        ConfigError: if `obs` is none of the three.
    """
    if obs == "frame":
        return frame_space(config.resolution)
    if obs == "frames":
        return frames_space(config.resolution, config.frames_per_step)
    if obs == "latent":
        height, width = config.transformer.latent_size
        size = config.latents_per_chunk * config.transformer.in_channels * height * width
        return spaces.Box(-LATENT_BOUND, LATENT_BOUND, (size,), np.float32)
    raise ConfigError(f'got obs={obs!r}; expected "frame", "frames" or "latent"')


def world_action_space(actions: ActionConfig, num_frames: int | None = None) -> spaces.Space[Any]:
    """Action space of a world.

    Args:
        actions: the world's actions.
        num_frames: None for one action, which holds for the whole step; F for action chunks, one action for each of a
            step's F frames.

    Returns:
        Discrete, MultiDiscrete, a float32 Box, Text, or a Dict of these. As chunks, a MultiDiscrete [F] or [F, K], a
        Box [F, A], a `TextChunk`, or a Dict of these.
    """
    if actions.parts:
        return spaces.Dict({name: _part_space(part, num_frames) for name, part in actions.items()})
    return _part_space(actions, num_frames)


def _part_space(actions: ActionPart, num_frames: int | None) -> spaces.Space[Any]:
    match actions.kind:
        case ActionKind.DISCRETE:
            if num_frames is None:
                return spaces.Discrete(actions.num_actions)
            return spaces.MultiDiscrete([actions.num_actions] * num_frames)
        case ActionKind.MULTI_DISCRETE:
            sizes = np.array(actions.multi)
            return spaces.MultiDiscrete(sizes if num_frames is None else np.tile(sizes, (num_frames, 1)))
        case ActionKind.TEXT:
            text = spaces.Text(actions.text.max_length, min_length=0, charset=TEXT_CHARACTERS)
            return text if num_frames is None else TextChunk([copy.deepcopy(text) for _ in range(num_frames)])
        case _:
            bounds = [np.array(bound, np.float32) for bound in (actions.low, actions.high)]
            low, high = bounds if num_frames is None else [np.tile(bound, (num_frames, 1)) for bound in bounds]
            return spaces.Box(low, high, dtype=np.float32)


def stack_channels(frames: UInt8[np.ndarray, "F H W 3"]) -> UInt8[np.ndarray, "H W C"]:
    """Stack the frames of a step on the channel axis, oldest first.

    Args:
        frames: uint8 [F, H, W, 3].

    Returns:
        uint8 [H, W, 3F].
    """
    num_frames, height, width, channels = frames.shape
    return np.moveaxis(frames, 0, 2).reshape(height, width, num_frames * channels)


def unstack_channels(stacked: UInt8[np.ndarray, "B H W C"]) -> UInt8[np.ndarray, "B F H W 3"]:
    """Undo `stack_channels` in every row.

    Args:
        stacked: uint8 [B, H, W, 3F].

    Returns:
        uint8 [B, F, H, W, 3].
    """
    rows, height, width, channels = stacked.shape
    return np.moveaxis(stacked.reshape(rows, height, width, channels // 3, 3), 3, 1)


def check_discrete_step(
    action: Any, num_actions: int, names: Sequence[str], num_frames: int
) -> Int64[np.ndarray, " F"]:
    """Validate the action of a step of a twin, as `WorldEnv` does.

    Args:
        action: an integer in [0, num_actions), or a name; or F of them, one per frame.
        num_actions: size of the action space.
        names: name of each action, or none.
        num_frames: frames per step F.

    Returns:
        int64 [F].

    Raises:
        ActionError: if the action has another shape, another dtype, or lies outside the range.
    """
    action = action.cpu() if isinstance(action, Tensor) else action
    return check_discrete(action, num_actions, names, None, num_frames)[0].numpy()


def check_discrete_sequence(
    actions: Any, num_actions: int, names: Sequence[str], max_length: int
) -> Int64[np.ndarray, " n"]:
    """Validate a sequence of discrete actions, one per tick.

    Args:
        actions: 1 to max_length integers in [0, num_actions), or names.
        num_actions: size of the action space.
        names: name of each action, or none.
        max_length: the greatest number of actions allowed.

    Returns:
        int64 [n].

    Raises:
        ActionError: if the actions have another shape, another dtype, or one lies outside the range.
    """
    given = as_tensor(numbered(actions, names, num_actions)).cpu()
    if given.ndim != 1 or not 1 <= len(given) <= max_length:
        raise ActionError(
            f"got actions of shape {tuple(given.shape)}; expected [n] with 1 <= n <= {max_length}: pass one per tick"
        )
    return check_discrete(given, num_actions, names, None, len(given))[0].numpy()
