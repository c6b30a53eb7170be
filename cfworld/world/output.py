"""What one step of a world gives."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from cfworld.world.generation import Generated
from cfworld.world.state import WorldState

__all__ = ["StepOutput", "after_step", "hold_after", "ordinary"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StepOutput:
    """What one step gives.

    Attributes:
        frames: uint8 [B, F, H, W, 3], the last frame before an end repeated; None with decode=False.
        latents: [B, N, C, h, w] float32.
        reward: Sum of the frames' rewards up to the end, [B] float32.
        reward_frames: Reward of every frame, 0 after the end, [B, F] float32.
        hazard: Probability of ending at each frame, given that the episode has not ended before it, [B, F] float32.
        terminated: [B] bool.
        end_frame: Index of the frame at which the episode ends, or F, [B] int64.
        novelty: How odd the step looks to the world itself, [B] float32: 0 like the median of held-out real
            continuations, 1 like the oddest hundredth of them, more beyond. NaN in a world whose score was never
            measured (`cfworld calibrate` does it).
    """

    frames: Tensor | None
    latents: Tensor
    reward: Tensor
    reward_frames: Tensor
    hazard: Tensor
    terminated: Tensor
    end_frame: Tensor
    novelty: Tensor


def ordinary(tensor: Tensor) -> Tensor:
    """A tensor that autograd may keep and that may be changed in place: a copy of one that inference mode has made."""
    return tensor.clone() if tensor.is_inference() else tensor


def hold_after(frames: Tensor, end_frame: Tensor) -> Tensor:
    """Repeat the frame at which a row ended, [B], to the end of its frames, [B, F, H, W, 3]."""
    index = torch.arange(frames.shape[1], device=frames.device).minimum(end_frame[:, None])
    return frames[torch.arange(len(frames), device=frames.device)[:, None], index]


def after_step(
    state: WorldState, made: Generated, frames: Tensor | None, decoder: Mapping[str, Tensor]
) -> tuple[WorldState, StepOutput]:
    """The next state, and what the step gives, in tensors that a user's network may learn from.

    Args:
        state: Where the rows were.
        made: The chunk.
        frames: What `StepOutput.frames` shall be.
        decoder: What a decoder that streams carries on.
    """
    terminated = made.end_frame < made.hazard.shape[1]
    latents, reward_frames = ordinary(made.latents), ordinary(made.reward_frames)
    following = WorldState(
        world=state.world,
        memory=made.memory,
        seeds=state.seeds,
        step=state.step + 1,
        latents=latents,
        ended=state.ended | terminated,
        decoder=decoder,
    )
    return following, StepOutput(
        frames=frames,
        latents=latents,
        reward=reward_frames.sum(dim=1),
        reward_frames=reward_frames,
        hazard=ordinary(made.hazard),
        terminated=terminated,
        end_frame=ordinary(made.end_frame),
        novelty=ordinary(made.novelty),
    )
