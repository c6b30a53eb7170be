"""What one step of a world gives."""

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["StepOutput", "hold_after"]


@dataclass(frozen=True, kw_only=True, slots=True)
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


def hold_after(frames: Tensor, end_frame: Tensor) -> Tensor:
    """Repeat the frame at which a row ended, [B], to the end of its frames, [B, F, H, W, 3]."""
    index = torch.arange(frames.shape[1], device=frames.device).minimum(end_frame[:, None])
    return frames[torch.arange(len(frames), device=frames.device)[:, None], index]
