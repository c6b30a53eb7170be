"""`cfworld bench`: measures the speed of a world."""

from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from cfworld import files
from cfworld.cli import common
from cfworld.cli.bench_scale import YOUNG, bench_scale
from cfworld.errors import ConfigError
from cfworld.metrics.machine import library_versions, machine_figures, peak_memory_mb
from cfworld.metrics.markdown_table import RIGHT, markdown_table
from cfworld.metrics.speed.env_speed import EnvSpeed, measure_environments
from cfworld.metrics.speed.scales import check_scale
from cfworld.metrics.speed.world_speed import PARTS, LongRun, Speed, long_run, measure
from cfworld.model import AttentionBackend
from cfworld.settings import check_counts
from cfworld.world import World

__all__ = ["BenchConfig", "bench", "main"]

SUMMARY = (
    "Measure the speed of a world at several batch sizes: throughput, latency, memory, the time of "
    "every part of a step and of a reset, and the latency after a long episode. With environment=true also what a "
    "step of the environments costs, each in turn with the bare step. With scale=wan_1_3b, nano or toy a world "
    "of random weights instead, part by part, beside the least time that the device could take."
)
EXAMPLE = "world=doom_take_cover batch_sizes=[1,8] long_steps=0"
_PART_STEPS = 10
_WORLD = "doom_take_cover"
_OF_A_WORLD = {"world": None, "variant": None, "environment": False}
_OF_A_SCALE = {
    "kv_latents": None,
    "decoder": None,
    "precision": None,
    "attention": "auto",
    "compile": "off",
    "fp8": False,
}
"""Settings of the one kind that the other does not take, and what they are where nothing is said."""
_KNOWN = {
    "precision": ("null", "bf16", "fp32"),
    "attention": tuple(one.value for one in AttentionBackend),
    "compile": ("off", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
}


@dataclass(kw_only=True, slots=True)
class BenchConfig:
    """What `cfworld bench` takes.

    Attributes:
        world: A world of the zoo, or a checkpoint folder; null for doom_take_cover, or with `scale` for none.
        variant: student or teacher; null for the best there is.
        batch_sizes: Numbers of rows to step together; null for 1, 4, 16 and 64, or with `scale` 1, 2 and 4.
        steps: Steps to time at each batch size.
        warmup: Steps before them that are not timed.
        long_steps: Steps after which the latency is measured again, at batch size 1; 0 to leave it out. null for
            10,000, or with `scale` 1,000 instead, in turns with steps after 30; then it is more than 30.
        environment: Also step the environments, WorldEnv and WorldVectorEnv, in turn with the bare World.step.
        num_steps: Denoising steps; null for the world's own.
        device: Where to generate: cpu, cuda, cuda:1 ...
        scale: In the place of `world`, random weights of a size, toy, nano or wan_1_3b, beside the least time that the
            device could take. All that follows is for it.
        kv_latents: Latents that a chunk sees, itself among them; null for 6, 12 and 21.
        decoder: Who makes pixels, wan, tiny or block; null for wan with wan_1_3b, else block.
        precision: bf16 or fp32; null for bf16 where the device computes with it at full speed.
        attention: Who computes self-attention; auto for the fastest that runs.
        compile: off, or a mode of torch.compile: default, reduce-overhead, max-autotune, max-autotune-no-cudagraphs.
        fp8: Compute the transformer's linear layers in 8 bits, by torchao.
        out: Folder to write to; null for outputs/bench/<time>.
    """

    world: str | None = None
    variant: str | None = None
    batch_sizes: list[int] | None = None
    steps: int = 30
    warmup: int = 3
    long_steps: int | None = None
    environment: bool = False
    num_steps: int | None = None
    device: str = "cpu"
    scale: str | None = None
    kv_latents: list[int] | None = None
    decoder: str | None = None
    precision: str | None = None
    attention: str = "auto"
    compile: str = "off"
    fp8: bool = False
    out: str | None = None

    def __post_init__(self) -> None:
        if self.batch_sizes is None:
            self.batch_sizes = [1, 2, 4] if self.scale else [1, 4, 16, 64]
        if self.long_steps is None:
            self.long_steps = 1000 if self.scale else 10_000
        if not self.batch_sizes or min(self.batch_sizes) < 1:
            raise ConfigError(f"got batch_sizes={self.batch_sizes}; expected numbers from 1")
        check_counts(self, "steps")
        check_counts(self, "warmup", "long_steps", least=0)
        if self.num_steps is not None and self.num_steps < 1:
            raise ConfigError(f"got num_steps={self.num_steps}; expected at least 1, or null for the world's own")
        self._check_company()
        if self.scale is None:
            self.world = _WORLD if self.world is None else self.world
            return
        self.kv_latents = [6, 12, 21] if self.kv_latents is None else self.kv_latents
        check_scale(self.scale, self.kv_latents, self.decoder)
        for name, known in _KNOWN.items():
            if (getattr(self, name) or "null") not in known:
                raise ConfigError(f"got {name}={getattr(self, name)}; expected one of {', '.join(known)}")
        if 0 < self.long_steps <= YOUNG:
            raise ConfigError(
                f"got long_steps={self.long_steps}; expected more than {YOUNG}, the chunk that it is measured beside, "
                "or 0 to leave it out"
            )

    def _check_company(self) -> None:
        """Refuse what would be ignored: what is for a world beside a scale, and what is for a scale without one."""
        ignored = _OF_A_SCALE if self.scale is None else _OF_A_WORLD
        given = [f"{name}={getattr(self, name)}" for name, usual in ignored.items() if getattr(self, name) != usual]
        if not given:
            return
        if self.scale is not None:
            raise ConfigError(
                f"got {', '.join(given)} beside scale={self.scale}, random weights; leave one of them out"
            )
        raise ConfigError(f"got {', '.join(given)} without scale; expected scale=wan_1_3b, say")


def bench(config: BenchConfig) -> dict[str, Any]:
    """Measure, write `bench.json` and `bench.md`, and return the figures."""
    if config.scale:
        return bench_scale(config)
    assert config.world is not None
    assert config.batch_sizes is not None
    world = World.from_pretrained(
        config.world, variant=config.variant, device=config.device, num_steps=config.num_steps
    )
    folder = common.open_output("bench", config.out, config)
    long = None  # first, before the large batches raise the peak of the process's memory
    if config.long_steps:
        total = config.long_steps + 2 * config.steps + config.warmup
        with tqdm(total=total, unit="step", desc=f"{world.config.name}: long episode") as bar:
            long = long_run(world, 1, config.long_steps, config.steps, config.warmup, bar.update)
    speeds = []
    for batch in config.batch_sizes:
        total = config.warmup + config.steps + _PART_STEPS
        with tqdm(total=total, unit="step", desc=f"{world.config.name}: batch {batch}") as bar:
            speeds.append(measure(world, batch, config.steps, config.warmup, _PART_STEPS, bar.update))
    environments: list[EnvSpeed] = []
    for batch in config.batch_sizes if config.environment else []:
        with tqdm(
            total=config.warmup + config.steps, unit="round", desc=f"{world.config.name}: environments, batch {batch}"
        ) as bar:
            environments += measure_environments(world, batch, config.steps, config.warmup, bar.update)
    figures = {
        "world": config.world,
        "variant": world.variant,
        "num_steps": world.sampler.num_steps,
        "frames_per_step": world.config.frames_per_step,
        "game_fps": world.config.fps,
        **machine_figures(config.device),
        "libraries": library_versions(),
        **peak_memory_mb(config.device),
        "batches": [speed.as_dict() for speed in speeds],
        "environments": [speed.as_dict() for speed in environments],
        "long_run": long.as_dict() if long else None,
    }
    common.write_figures(folder, "bench", figures)
    table = markdown(figures, speeds, environments, long)
    files.write_text(folder / "bench.md", table)
    print(f"{table}\nIn {folder}: bench.json, bench.md")
    return figures


def markdown(figures: dict[str, Any], speeds: list[Speed], environments: list[EnvSpeed], long: LongRun | None) -> str:
    """The figures as tables for people."""
    has_peak = speeds[0].peak_device_memory_mb is not None
    heads = [
        "batch",
        "steps/s",
        "frames/s",
        "p50 ms",
        "p95 ms",
        "reset ms",
        "peak MB" if has_peak else "state MB",
        *(f"{part} ms" for part in PARTS),
    ]
    rows = [
        [
            str(speed.batch),
            f"{speed.steps_per_s:.1f}",
            f"{speed.frames_per_s:.1f}",
            f"{speed.step_ms_p50:.1f}",
            f"{speed.step_ms_p95:.1f}",
            f"{speed.reset_ms_p50:.1f}",
            f"{speed.peak_device_memory_mb:.0f}" if has_peak else f"{speed.state_mb:.2f}",
            *(f"{speed.parts_ms[part]:.1f}" for part in PARTS),
        ]
        for speed in speeds
    ]
    lines = [
        f"# Speed of {figures['world']} ({figures['variant']}, {figures['num_steps']} denoising steps)",
        "",
        f"{figures['device_name']}, {figures['threads']} threads, PyTorch {figures['torch']}; a step makes "
        f"{figures['frames_per_step']} frames, the game runs at {figures['game_fps']} frames/s.",
        "",
        *markdown_table(heads, rows, [RIGHT] * len(heads)),
    ]
    if environments:
        lines += ["", *_environments(environments)]
    if long:
        lines += [
            "",
            f"After {long.steps} more steps of one episode, batch {long.batch}: {long.after_ms_p50:.1f} ms a "
            f"step instead of {long.before_ms_p50:.1f} ms; peak memory {long.peak_memory_after_mb:.0f} MB "
            f"instead of {long.peak_memory_before_mb:.0f} MB.",
        ]
    return "\n".join([*lines, ""])


def _environments(speeds: list[EnvSpeed]) -> list[str]:
    heads = ["batch", "by", "steps/s", "frames/s", "p50 ms", "ratio", "95 %"]
    rows = [
        [
            str(speed.batch),
            speed.way,
            f"{speed.steps_per_s:.1f}",
            f"{speed.frames_per_s:.1f}",
            f"{speed.step_ms_p50:.2f}",
            f"{speed.ratio:.3f}",
            f"{speed.ratio_low:.3f} to {speed.ratio_high:.3f}",
        ]
        for speed in speeds
    ]
    return [
        *markdown_table(heads, rows, [RIGHT] * len(heads)),
        "",
        "Each way takes a step in turn, all from one moment and under the same actions. Ratio: median over the rounds "
        "of its time to that of World.step.",
    ]


def main() -> None:
    """Run `cfworld bench`."""
    common.run_command("bench", BenchConfig, bench, SUMMARY, example=EXAMPLE)
