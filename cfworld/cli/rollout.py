"""`cfworld rollout`: generates video from a world."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cfworld.cli import common
from cfworld.cli.live import LiveRows, policies
from cfworld.cli.recording import Recording, record
from cfworld.cli.scale import check_scale
from cfworld.cli.scenario import play_scenario
from cfworld.data.policies import who_acts
from cfworld.envs.overlay import annotate, tile
from cfworld.errors import ConfigError
from cfworld.export.film_strip import write_film_strip
from cfworld.export.video import open_video
from cfworld.memory.presets import MEMORY_HELP
from cfworld.metrics import machine
from cfworld.world import World

__all__ = ["RolloutConfig", "main", "rollout"]

SUMMARY = (
    "Generate video from a world: an MP4 with the action, reward and hazard of every frame, a film strip, "
    "and the figures as JSON. An episode that ends, or reaches the world's horizon, is followed by the next. With "
    "scenario= it plays what a file says, and leaves with status 1 if an assertion fails: see docs/scenarios.md."
)
EXAMPLE = "world=panorama frames=300 worlds=4 policy=turn"
_STRIP_FRAMES = 16
_STRIP_ROWS = 8


@dataclass(kw_only=True, slots=True)
class RolloutConfig:
    """What `cfworld rollout` takes.

    Attributes:
        world: A world of the zoo, or a checkpoint folder.
        scenario: A file of YAML to play, or the name of a scenario that ships, such as dodge. It names world, variant,
            memory and seed, unless they are given too; frames, worlds and policy are its own affair.
        variant: student or teacher; null for the best there is.
        frames: Frames to generate in every world.
        worlds: Worlds generated side by side, as one batch.
        policy: Who acts: see `who_acts`.
        seed: Seed of the first world; the others count on from it.
        num_steps: Denoising steps; null for the world's own.
        memory: In place of the world's own: see `MEMORY_HELP`.
        device: Where to generate: cpu, cuda, cuda:1 ...
        scale: Pixels of the video per pixel of a frame.
        out: Folder to write to; null for outputs/rollout/<time>.
    """

    world: str | None = None
    scenario: str | None = None
    variant: str | None = None
    frames: int | None = None
    worlds: int | None = None
    policy: str | None = field(default=None, metadata={"help": f"Who acts: {who_acts()}."})
    seed: int | None = None
    num_steps: int | None = None
    memory: str | None = field(default=None, metadata={"help": MEMORY_HELP})
    device: str = "cpu"
    scale: int = 6
    out: str | None = None

    def __post_init__(self) -> None:
        for name in ("frames", "worlds", "scale"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ConfigError(f"got {name}={value}; expected at least 1")
        if self.seed is not None and not 0 <= self.seed <= 2**64 - (self.worlds or 1):
            raise ConfigError(f"got seed={self.seed}; expected 0 or more, and below 2^64 for the last world too")
        if self.num_steps is not None and self.num_steps < 1:
            raise ConfigError(f"got num_steps={self.num_steps}; expected at least 1, or null for the world's own")
        for name in ("frames", "worlds", "policy"):
            if self.scenario is not None and getattr(self, name) is not None:
                raise ConfigError(
                    f"got {name}={getattr(self, name)} beside scenario={self.scenario}, whose file says how long, how "
                    f"many and who acts; leave {name} out"
                )

    def resolved(self) -> "RolloutConfig":
        """The same with a value for everything that a rollout without a scenario needs."""
        defaults = {"world": "doom_take_cover", "frames": 2100, "worlds": 1, "policy": "sticky", "seed": 0}
        left_out = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        return replace(self, **left_out)


def rollout(config: RolloutConfig) -> dict[str, Any]:
    """Generate, write `rollout.mp4`, `rollout.png` and `rollout.json`, and return the figures.

    Raises:
        ConfigError: if nobody can act so, or the video cannot have this scale. Nothing has been generated then.
    """
    config = config.resolved()
    assert config.world is not None
    assert config.frames is not None
    assert config.worlds is not None
    assert config.policy is not None
    assert config.seed is not None
    world = World.from_pretrained(
        config.world,
        variant=config.variant,
        device=config.device,
        num_steps=config.num_steps,
        memory=config.memory,
    )
    check_scale(config.scale, world.config.resolution, config.worlds)
    live = LiveRows(world, range(config.seed, config.seed + config.worlds), policies(config.policy, world))
    folder = common.open_output("rollout", config.out, config)
    recording = record(live, config.frames, folder)
    figures = _figures(config, live, recording.seconds)
    _write_strip(recording, world.config.fps, folder / "rollout.png")
    path = common.write_figures(folder, "rollout", figures)
    _write_video(recording, world.config.fps, config.scale, folder / "rollout.mp4")
    print(
        f"{folder / 'rollout.mp4'}: {config.frames} frames of {config.worlds} world(s), generated at "
        f"{figures['fps']:.1f} frames/s; figures in {path}"
    )
    return figures


def _write_video(recording: Recording, fps: int, scale: int, path: Path) -> None:
    with open_video(path, fps) as video:
        for index in tqdm(range(len(recording.frames)), unit="frame", desc=f"{path.name}: encode"):
            pairs = zip(recording.frames[index], recording.captions(index, fps), strict=True)
            video.add(tile([annotate(frame, caption, scale) for frame, caption in pairs]))


def _write_strip(recording: Recording, fps: int, path: Path) -> None:
    num_frames, num_rows = recording.frames.shape[:2]
    chosen = np.linspace(0, num_frames - 1, min(_STRIP_FRAMES, num_frames)).round().astype(int)
    names = [f"world {row}" if num_rows > 1 else "" for row in range(min(num_rows, _STRIP_ROWS))]
    rows = {name: recording.frames[chosen, row] for row, name in enumerate(names)}
    write_film_strip(path, rows, [f"{index / fps:.1f} s" for index in chosen])


def _figures(config: RolloutConfig, live: LiveRows, seconds: list[float]) -> dict[str, Any]:
    world = live.world
    generated = len(seconds) * world.config.frames_per_step
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    return {
        "world": config.world,
        "variant": world.variant,
        "num_steps": world.sampler.num_steps,
        "memory": world.config.memory.summary,
        "seed": config.seed,
        "policy": config.policy,
        "worlds": config.worlds,
        "frames": config.frames,
        "game_fps": world.config.fps,
        "fps": generated * len(live.rows) / sum(seconds),
        "fps_per_world": generated / sum(seconds),
        "step_ms_p50": p50,
        "step_ms_p95": p95,
        "frames_per_step": world.config.frames_per_step,
        "episodes": sum(len(row.lengths) + (row.length > 0) for row in live.rows),
        "truncations": sum(sum(row.truncated) for row in live.rows),
        "lengths": [row.lengths for row in live.rows],
        "truncated": [row.truncated for row in live.rows],
        "returns": [row.returns for row in live.rows],
        **machine.peak_memory_mb(config.device),
        **machine.machine_figures(config.device),
    }


def main() -> None:
    """Run `cfworld rollout`."""
    common.run_command("rollout", RolloutConfig, _run, SUMMARY, example=EXAMPLE, shown=RolloutConfig.resolved)


def _run(config: RolloutConfig) -> None:
    if config.scenario is None:
        rollout(config)
    elif not play_scenario(config):
        raise SystemExit(1)
