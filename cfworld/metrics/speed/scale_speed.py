"""How fast a world of a size is, part by part, beside the least that the device in hand could take."""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
import torch

from cfworld.errors import ConfigError
from cfworld.metrics.machine import available_bytes, peak_device_memory_mb, synchronize
from cfworld.metrics.speed.roofline import Rates, needed_bytes
from cfworld.metrics.speed.scales import RandomTable, Scale, memory_of, sizes_of, use_memory
from cfworld.metrics.speed.step_parts import STEP_PARTS, part_seconds, part_works
from cfworld.metrics.speed.world_speed import latencies, random_actions, state_megabytes
from cfworld.world import World, WorldState
from cfworld.world.generation import compiled

__all__ = ["BAR", "PartSpeed", "ScaleSpeed", "check_fits", "measure_scale", "needed_by", "run_through"]

BAR = 0.7
"""Share of its roofline that a step ought to reach in bf16."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PartSpeed:
    """One part of a step.

    Attributes:
        ms: Median milliseconds.
        roofline_ms: Least milliseconds by its shapes and the device's rates.
        tflops: Its arithmetic, in 10^12 operations.
        gbytes: Its traffic, in 10^9 bytes.
    """

    ms: float
    roofline_ms: float
    tflops: float
    gbytes: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ScaleSpeed:
    """Speed with one memory and one number of rows.

    Attributes:
        kv_latents: Latents that a chunk sees, itself among them.
        batch: Rows.
        step_ms_p50: Median latency of a whole step, decoding included.
        step_ms_p95: 95th percentile of it.
        frames_per_s: Frames of all rows per second, by the median latency.
        ahead_ms: Mean milliseconds of a step where each chunk is decoded beside the generation of the next.
        denoiser_frames_per_s: The same of the denoising passes and the clean pass alone.
        parts: By `STEP_PARTS`, each measured in rounds of its own.
        state_mb: Memory of the state.
        peak_device_memory_mb: Peak memory of PyTorch on a GPU in these steps; None on a CPU.
    """

    kv_latents: int
    batch: int
    step_ms_p50: float
    step_ms_p95: float
    frames_per_s: float
    ahead_ms: float
    denoiser_frames_per_s: float
    parts: dict[str, PartSpeed]
    state_mb: float
    peak_device_memory_mb: float | None

    @property
    def roofline_ms(self) -> float:
        """Least milliseconds of a whole step, part after part."""
        return sum(part.roofline_ms for part in self.parts.values())

    @property
    def share(self) -> float:
        """Share of its roofline that the whole step reaches."""
        return self.roofline_ms / self.step_ms_p50

    @property
    def denoiser_share(self) -> float:
        """Share of their roofline that the denoising passes and the clean pass reach."""
        both = [self.parts["denoise"], self.parts["clean_pass"]]
        return sum(part.roofline_ms for part in both) / sum(part.ms for part in both)

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        shares = {"share": self.share, "denoiser_share": self.denoiser_share}
        return {**asdict(self), "roofline_ms": self.roofline_ms, **shares}


def needed_by(scale: Scale, kv_latents: int, batch: int, dtype: torch.dtype) -> int:
    """Bytes that steps of a scale need at their peak, decoding aside."""
    sizes = sizes_of(scale)
    return needed_bytes(sizes.transformer, memory_of(kv_latents, sizes.latents_per_chunk), batch, dtype.itemsize)


def check_fits(scale: Scale, kv_latents: int, batch: int, dtype: torch.dtype, device: torch.device) -> None:
    """Refuse what a device has no memory for.

    Raises:
        ConfigError: If it does not fit, with the estimate.
    """
    needed, available = needed_by(scale, kv_latents, batch, dtype), available_bytes(device)
    if needed > available:
        raise ConfigError(
            f"scale={scale.value} with {kv_latents} latents of keys and values, {batch} rows and {dtype} needs about "
            f"{needed / 2**30:.1f} GiB; {device} has {available / 2**30:.1f} GiB free. Take fewer rows or latents "
            "(batch_sizes, kv_latents), or a larger device."
        )


def measure_scale(
    world: World,
    kv_latents: int,
    batch: int,
    steps: int,
    warmup: int,
    rates: Rates,
    compile_options: dict[str, Any] | None = None,
    tick: Callable[[], Any] = lambda: None,
) -> ScaleSpeed:
    """Measure a world of random weights whose memory is full.

    Args:
        world: from `random_world`; its memory is exchanged for one of these latents.
        kv_latents: latents that a chunk sees, itself among them.
        batch: rows.
        steps: steps to time, and rounds for the parts.
        warmup: steps before that are not timed.
        rates: what the device was seen to do.
        compile_options: with which the world was compiled, so that its parts are too; None if it was not.
        tick: called after every timed step.

    Returns:
        The speed.
    """
    if world.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(world.device)
    use_memory(world, kv_latents)
    state, _ = latencies(world, _filled(world, batch), warmup, lambda: None)
    state, seconds = latencies(world, state, steps, tick)
    peak = peak_device_memory_mb(world.device)
    prompts = world.generator.prompts
    assert isinstance(prompts, RandomTable)
    works = part_works(world, state, prompts.tokens_per_latent)
    measured = part_seconds(world, state, steps, _wrap(compile_options))
    megabytes = state_megabytes(state)
    actions = [random_actions(world, state.seeds, state.step + index) for index in range(steps)]
    run_through(world.play(state, actions[:1]), world.device)
    played = world.play(state, actions)
    del state  # while it is played, no more states are held than in steps one by one
    ahead = run_through(played, world.device) / steps
    p50, p95 = np.percentile(seconds * 1000, (50, 95))
    frames = batch * world.config.frames_per_step
    return ScaleSpeed(
        kv_latents=kv_latents,
        batch=batch,
        step_ms_p50=float(p50),
        step_ms_p95=float(p95),
        frames_per_s=frames / float(p50) * 1000,
        ahead_ms=ahead * 1000,
        denoiser_frames_per_s=frames / (measured["denoise"] + measured["clean_pass"]),
        parts={
            name: PartSpeed(
                ms=measured[name] * 1000,
                roofline_ms=rates.seconds(works[name]) * 1000,
                tflops=works[name].flops / 1e12,
                gbytes=works[name].bytes / 1e9,
            )
            for name in STEP_PARTS
        },
        state_mb=megabytes,
        peak_device_memory_mb=peak,
    )


def _wrap(options: dict[str, Any] | None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if options is None:
        return lambda part: part
    return partial(compiled, **options)


def _filled(world: World, batch: int) -> WorldState:
    """A state whose every slot holds something."""
    state, _ = world.initial(range(batch), decode=False)
    while not state.memory.valid.all():
        state, _ = world.step(state, random_actions(world, state.seeds, state.step), decode=False, donate=True)
    return state


def run_through(steps: Iterable[Any], device: torch.device) -> float:
    """Seconds until all steps are taken and the device is done with them; none is kept."""
    synchronize(device)
    begin = perf_counter()
    deque(steps, maxlen=0)
    synchronize(device)
    return perf_counter() - begin
