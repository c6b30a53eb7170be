"""`cfworld rollout`: generates video from a world."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from tqdm import tqdm

from cfworld.cli import common
from cfworld.cli.live import LiveRows, LiveStep, policies
from cfworld.envs.overlay import Caption, annotate, tile
from cfworld.errors import ConfigError
from cfworld.export.film_strip import write_film_strip
from cfworld.export.video import open_video
from cfworld.metrics import machine
from cfworld.world import World

__all__ = ["Recording", "RolloutConfig", "main", "record", "rollout"]

SUMMARY = (
    "Generate video from a world: an MP4 with the action, reward and hazard of every frame, a film strip, "
    "and the figures as JSON. An episode that ends is followed by the next."
)
EXAMPLE = "world=panorama frames=300 worlds=4 policy=turn"
_STRIP_FRAMES = 16
_STRIP_ROWS = 8
_MARK_SECONDS = 0.5


@dataclass(kw_only=True, slots=True)
class RolloutConfig:
    """What `cfworld rollout` takes.

    Attributes:
        world: A world of the zoo, or a checkpoint folder.
        variant: student or teacher; null for the best there is.
        frames: Frames to generate in every world.
        worlds: Worlds generated side by side, as one batch.
        policy: Who acts: random, sticky, sweep, noop, turn, look_back, scripted:<file>, or an agent of
            Stable-Baselines3 (<file>.zip).
        seed: Seed of the first world; the others count on from it.
        num_steps: Denoising steps; null for the world's own.
        device: Where to generate: cpu, cuda, cuda:1 ...
        scale: Pixels of the video per pixel of a frame.
        out: Folder to write to; null for outputs/rollout/<time>.
    """

    world: str
    variant: str | None = None
    frames: int = 2100
    worlds: int = 1
    policy: str = "sticky"
    seed: int = 0
    num_steps: int | None = None
    device: str = "cpu"
    scale: int = 6
    out: str | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "worlds", "scale"):
            if getattr(self, name) < 1:
                raise ConfigError(f"got {name}={getattr(self, name)}; expected at least 1")
        if self.seed < 0:
            raise ConfigError(f"got seed={self.seed}; expected 0 or more")
        if self.num_steps is not None and self.num_steps < 1:
            raise ConfigError(f"got num_steps={self.num_steps}; expected at least 1, or null for the world's own")


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What was generated, before anything is drawn or encoded."""

    frames: UInt8[np.ndarray, "T B H W 3"]
    """T frames of B worlds."""
    captions: list[list[Caption]]
    """[T][B], what to write on each frame."""
    seconds: list[float]
    """What each step took: generation and decoding, nothing else."""


def rollout(config: RolloutConfig) -> dict[str, Any]:
    """Generate, write `rollout.mp4`, `rollout.png` and `rollout.json`, and return the figures."""
    world = World.from_pretrained(
        config.world, variant=config.variant, device=config.device, num_steps=config.num_steps
    )
    live = LiveRows(world, range(config.seed, config.seed + config.worlds), policies(config.policy, world))
    folder = common.open_output("rollout", config.out, config)
    recording = record(live, config.frames)
    figures = _figures(config, live, recording.seconds)
    _write_strip(recording, world.config.fps, folder / "rollout.png")
    path = common.write_figures(folder, "rollout", figures)
    _write_video(recording, world.config.fps, config.scale, folder / "rollout.mp4")
    print(
        f"{folder / 'rollout.mp4'}: {config.frames} frames of {config.worlds} world(s), generated at "
        f"{figures['fps']:.1f} frames/s; figures in {path}"
    )
    return figures


def record(live: LiveRows, num_frames: int) -> Recording:
    """Generate frames of every row; drawing and encoding wait, so that they cannot slow it down.

    Args:
        live: the rows.
        num_frames: T; what the last step generates beyond it is left out.

    Returns:
        The recording.
    """
    config = live.world.config
    frames = np.zeros((num_frames, len(live.rows), *config.resolution, 3), np.uint8)
    captions: list[list[Caption]] = []
    seconds: list[float] = []
    with tqdm(total=num_frames * len(live.rows), unit="frame", desc=f"{config.name}: generate") as bar:
        for first in range(0, num_frames, config.frames_per_step):
            step = live.step()
            seconds.append(step.seconds)
            kept = min(config.frames_per_step, num_frames - first)
            frames[first : first + kept] = step.frames[:, :kept].swapaxes(0, 1)
            captions += [_captions(live, step, index) for index in range(kept)]
            live.begin_again(np.flatnonzero(step.out.terminated.cpu().numpy()).tolist())
            bar.update(kept * len(live.rows))
    return Recording(frames=frames, captions=captions, seconds=seconds)


def _write_video(recording: Recording, fps: int, scale: int, path: Path) -> None:
    moments = zip(recording.frames, recording.captions, strict=True)
    with open_video(path, fps) as video:
        for frames, captions in tqdm(moments, total=len(recording.frames), unit="frame", desc=f"{path.name}: encode"):
            pairs = zip(frames, captions, strict=True)
            video.add(tile([annotate(frame, caption, scale) for frame, caption in pairs]))


def _write_strip(recording: Recording, fps: int, path: Path) -> None:
    num_frames, num_rows = recording.frames.shape[:2]
    chosen = np.linspace(0, num_frames - 1, min(_STRIP_FRAMES, num_frames)).round().astype(int)
    names = [f"world {row}" if num_rows > 1 else "" for row in range(min(num_rows, _STRIP_ROWS))]
    rows = {name: recording.frames[chosen, row] for row, name in enumerate(names)}
    write_film_strip(path, rows, [f"{index / fps:.1f} s" for index in chosen])


def _captions(live: LiveRows, step: LiveStep, index: int) -> list[Caption]:
    """What to write on frame `index` of a step, for every row."""
    fps, num_frames = live.world.config.fps, live.world.config.frames_per_step
    captions = []
    for place, row in enumerate(live.rows):
        end_frame = int(step.out.end_frame[place])
        since_start = row.length - min(end_frame + 1, num_frames) + index
        captions.append(
            Caption(
                action=_written(step.actions[place, index]),
                reward=float(step.out.reward_frames[place, index]),
                hazard=float(step.out.hazard[place, index]),
                note=f"episode {row.episode + 1}  {since_start / fps:.1f} s",
                banner="END" if index >= end_frame else "",
                marked=index >= end_frame or (row.episode > 0 and since_start < _MARK_SECONDS * fps),
            )
        )
    return captions


def _written(action: np.ndarray | np.integer) -> str:
    return str(action) if action.ndim == 0 else " ".join(f"{part:+.2f}" for part in action)


def _figures(config: RolloutConfig, live: LiveRows, seconds: list[float]) -> dict[str, Any]:
    world = live.world
    generated = len(seconds) * world.config.frames_per_step
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    return {
        "world": config.world,
        "variant": world.variant,
        "num_steps": world.sampler.num_steps,
        "seed": config.seed,
        "policy": config.policy,
        "worlds": config.worlds,
        "frames": config.frames,
        "game_fps": world.config.fps,
        "fps": generated * config.worlds / sum(seconds),
        "fps_per_world": generated / sum(seconds),
        "step_ms_p50": p50,
        "step_ms_p95": p95,
        "frames_per_step": world.config.frames_per_step,
        "episodes": sum(row.episode + 1 for row in live.rows),
        "lengths": [row.lengths for row in live.rows],
        "returns": [row.returns for row in live.rows],
        **machine.peak_memory_mb(config.device),
        **machine.machine_figures(config.device),
    }


def main() -> None:
    """Run `cfworld rollout`."""
    common.run_command("rollout", RolloutConfig, rollout, SUMMARY, example=EXAMPLE)
