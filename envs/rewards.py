"""Rewards and ends of a user's own: what `reward_fn=` and `termination_fn=` may give, and examples of both.

A function gets the `StepOutput` of a step, with the frames decoded, and gives one value per row [B] or one per frame
[B, F]. An end per frame ends the episode inside the chunk: at the first frame that is true.

    goal = GoalImage(frame, psnr=25.0)
    env = gym.make("cfworld/Panorama-v0", reward_fn=goal.reward, termination_fn=goal.reached)
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from cfworld.errors import ConfigError, ShapeError
from cfworld.world import StepOutput, World
from cfworld.world.output import hold_after

__all__ = ["Classifier", "GoalImage", "GoalLatent", "StepFunction", "with_functions"]

StepFunction = Callable[[StepOutput], Any]
"""From the output of a step to values per row, [B], or per frame, [B, F]: a tensor, an array or a sequence."""


def with_functions(
    out: StepOutput, reward_fn: StepFunction | None = None, termination_fn: StepFunction | None = None
) -> StepOutput:
    """Put a user's ends and rewards in the place of the heads'.

    Ends come first: frames are held and rewards are cut off after them, so that `reward_fn` sees what is delivered.

    Args:
        out: what a step gave. With `termination_fn` it comes of a world whose episodes do not end by themselves.
        reward_fn: the reward of each row, which belongs to its last frame, or of each frame. Those after an end do
            not count. None keeps the head's, up to the end.
        termination_fn: whether each row ends with this step, or at which of its frames. None keeps the head's.

    Returns:
        The output with "reward", "reward_frames", "terminated", "end_frame" and "frames" as the functions have it.

    Raises:
        ShapeError: If a function gives neither [B] nor [B, F].
        ConfigError: If `termination_fn` gives numbers with a point, such as probabilities, or `reward_fn` something
            that is no finite number, for a frame that counts.
    """
    if reward_fn is None and termination_fn is None:
        return out
    rows, per_step = out.reward_frames.shape
    device = out.reward_frames.device
    if termination_fn is not None:
        with torch.no_grad():
            given = termination_fn(out)
        ends = _per_frame(given, "termination_fn", rows, per_step, device)
        if ends.is_floating_point():
            raise ConfigError(
                f"got {ends.dtype} from termination_fn; expected bools: compare probabilities with a threshold"
            )
        ends = ends.bool()
        end_frame = torch.cat([ends, torch.ones_like(ends[:, :1])], dim=1).int().argmax(dim=1)
        out = replace(
            _rewarded(out, out.reward_frames, end_frame),
            terminated=end_frame < per_step,
            end_frame=end_frame,
            frames=None if out.frames is None else hold_after(out.frames, end_frame),
        )
    if reward_fn is not None:
        with torch.no_grad():
            given = reward_fn(out)
        rewards = _per_frame(given, "reward_fn", rows, per_step, device, out.end_frame).float()
        out = _rewarded(out, rewards, out.end_frame)
        _refuse_odd_rewards(out)
    return out


class GoalImage:
    """Looking like a picture: the reward of a frame is the negative distance to it, and the end is to come close.

    Args:
        goal: the picture, uint8 [H, W, 3].
        psnr: peak signal-to-noise ratio, in dB, from which on the goal counts as reached. The tokenizer alone leaves
            some 25 to 35 dB, so that a higher one is never reached.

    Raises:
        ConfigError: If the goal is no picture.
    """

    def __init__(self, goal: UInt8[np.ndarray, "H W 3"], psnr: float = 25.0) -> None:
        self.goal = _picture(goal).float() / 255
        self.psnr = psnr

    def distance(self, out: StepOutput) -> Float[Tensor, "B F"]:
        """Root mean square difference of each frame from the goal, 0 to 1."""
        frames = _frames(out)
        if frames.shape[2:] != self.goal.shape:
            raise ConfigError(f"got a goal of {[*self.goal.shape[:2]]} pixels; expected {[*frames.shape[2:4]]}")
        return (frames.float() / 255 - self.goal.to(frames.device)).square().mean(dim=(2, 3, 4)).sqrt()

    def reward(self, out: StepOutput) -> Float[Tensor, "B F"]:
        """Negative distance of each frame, -1 to 0; a step's reward is the sum over its frames."""
        return -self.distance(out)

    def reached(self, out: StepOutput) -> Bool[Tensor, "B F"]:
        """Whether each frame is as close to the goal as `psnr` asks."""
        return self.distance(out) <= 10 ** (-self.psnr / 20)


class GoalLatent:
    """Looking like a picture to the world's tokenizer: the same in the space of its latents.

    Args:
        world: whose tokenizer compares.
        goal: the picture, uint8 [H, W, 3]; it stands still for a latent's frames.
        distance: root mean square distance of latents, which have unit scale, up to which the goal counts as reached.

    Raises:
        ConfigError: If the goal is no picture of the world's size.
    """

    def __init__(self, world: World, goal: UInt8[np.ndarray, "H W 3"], distance: float = 0.3) -> None:
        picture = _picture(goal)
        if picture.shape[:2] != world.config.resolution:
            raise ConfigError(f"got a goal of {list(picture.shape[:2])} pixels; expected {world.config.resolution}")
        frames = picture.expand(1, world.config.frames_per_latent, *picture.shape).contiguous()
        with torch.inference_mode():
            self.goal = world.tokenizer.encode(frames.to(world.device))[0, 0].float()
        self.limit = distance

    def distance(self, out: StepOutput) -> Float[Tensor, " B"]:
        """Root mean square distance of the step's last latent from the goal's."""
        return (out.latents[:, -1] - self.goal).square().mean(dim=(1, 2, 3)).sqrt()

    def reward(self, out: StepOutput) -> Float[Tensor, " B"]:
        """Negative distance of the step's last latent."""
        return -self.distance(out)

    def reached(self, out: StepOutput) -> Bool[Tensor, " B"]:
        """Whether the step's last latent is as close to the goal as `distance` asks."""
        return self.distance(out) <= self.limit


class Classifier:
    """What a classifier of pictures takes for success: a frame's reward is its probability, and the end is to be sure.

    Args:
        classifier: a `torch.nn.Module`, or any function, from pictures, float32 [n, 3, H, W] in [0, 1] on the world's
            device, to the probability of success of each, [n].
        threshold: probability above which the episode ends in success.
    """

    def __init__(self, classifier: Callable[[Tensor], Tensor], threshold: float = 0.5) -> None:
        self.classifier = classifier
        self.threshold = threshold

    @torch.inference_mode()
    def reward(self, out: StepOutput) -> Float[Tensor, "B F"]:
        """Probability of success at each frame; a step's reward is the sum over its frames."""
        frames = _frames(out)
        pictures = frames.flatten(0, 1).permute(0, 3, 1, 2).float() / 255
        found = torch.as_tensor(self.classifier(pictures))
        if found.numel() != len(pictures):
            raise ShapeError(
                f"got {list(found.shape)} from the classifier for {len(pictures)} pictures; expected one probability "
                f"each, [{len(pictures)}]"
            )
        return found.reshape(frames.shape[:2]).float()

    def reached(self, out: StepOutput) -> Bool[Tensor, "B F"]:
        """Whether success is more probable than the threshold at each frame."""
        return self.reward(out) > self.threshold


def _rewarded(out: StepOutput, rewards: Float[Tensor, "B F"], end_frame: Int64[Tensor, " B"]) -> StepOutput:
    """The output with these rewards, of which those after an end do not count."""
    before_end = torch.arange(rewards.shape[1], device=rewards.device) <= end_frame[:, None]
    rewards = torch.where(before_end, rewards, torch.zeros_like(rewards))
    return replace(out, reward_frames=rewards, reward=rewards.sum(dim=1))


def _refuse_odd_rewards(out: StepOutput) -> None:
    odd = ~torch.cat([out.reward_frames, out.reward[:, None]], dim=1).isfinite()
    if not odd.any():
        return
    row, frame = odd.nonzero()[0].tolist()
    if frame == out.reward_frames.shape[1]:
        raise ConfigError(
            f"got rewards from reward_fn for row {row} whose sum over the step is {out.reward[row].item()}; expected "
            "finite numbers: scale them down"
        )
    raise ConfigError(
        f"got a reward of {out.reward_frames[row, frame].item()} from reward_fn for frame {frame} of row {row}; "
        "expected finite numbers: look for a division by zero, or the logarithm or square root of a negative number"
    )


def _per_frame(
    values: Any, name: str, rows: int, per_step: int, device: torch.device, end_frame: Tensor | None = None
) -> Tensor:
    """A function's values as one per frame, [B, F]; those of a row stand at its last frame, or where it ended."""
    try:
        given = values if isinstance(values, Tensor) else np.array(values, order="C")  # a reversed view is no tensor
        found = torch.as_tensor(given, device=device).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ShapeError(
            f"got {values!r} from {name}; expected an array of one value per row, ({rows},), or one per frame, "
            f"({rows}, {per_step})"
        ) from error
    if found.shape == (rows, per_step):
        return found
    if found.shape != (rows,):
        raise ShapeError(
            f"got an array of shape {tuple(found.shape)} from {name}; expected one value per row, ({rows},), or one "
            f"per frame, ({rows}, {per_step})"
        )
    last = torch.full((rows,), per_step - 1, device=device) if end_frame is None else end_frame.clamp(max=per_step - 1)
    return torch.where(
        torch.arange(per_step, device=device) == last[:, None], found[:, None], torch.zeros_like(found[:, None])
    )


def _frames(out: StepOutput) -> Tensor:
    if out.frames is None:
        raise ConfigError("got a step without frames; expected decoded ones: step the world with decode=True")
    return out.frames


def _picture(goal: Any) -> Tensor:
    picture = np.asarray(goal)
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
        raise ConfigError(f"got a goal of {picture.dtype} {list(picture.shape)}; expected a frame, uint8 [H, W, 3]")
    return torch.from_numpy(picture.copy())
