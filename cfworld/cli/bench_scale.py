"""`cfworld bench scale=...`: a world of a size beside the roofline of the device in hand."""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from cfworld import files
from cfworld.cli import common
from cfworld.metrics.machine import available_bytes, library_versions, machine_figures, peak_memory_mb
from cfworld.metrics.markdown_table import RIGHT, markdown_table
from cfworld.metrics.speed.rates import measured_rates
from cfworld.metrics.speed.roofline import Rates
from cfworld.metrics.speed.scale_speed import BAR, ScaleSpeed, check_fits, measure_scale, needed_by
from cfworld.metrics.speed.scales import Decoder, Scale, random_world, sizes_of, use_memory
from cfworld.metrics.speed.step_parts import STEP_PARTS
from cfworld.metrics.speed.world_speed import LongRun, long_run
from cfworld.precision import fast_precision
from cfworld.world import World

if TYPE_CHECKING:
    from cfworld.cli.bench import BenchConfig

__all__ = ["YOUNG", "bench_scale", "meets_bar", "verdict"]

_DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
_NUM_STEPS = 4
YOUNG = 30
"""Chunks after which every slot of a memory holds something."""


def bench_scale(config: "BenchConfig") -> dict[str, Any]:
    """Measure, write `bench.json` and `bench.md`, and return the figures.

    Raises:
        ConfigError: If the smallest of what is asked for does not fit the device's memory.
    """
    scale, device = Scale(config.scale), torch.device(config.device)
    precision = config.precision or fast_precision(device)
    dtype = _DTYPES[precision]
    assert config.kv_latents is not None
    assert config.batch_sizes is not None
    check_fits(scale, min(config.kv_latents), min(config.batch_sizes), dtype, device)
    folder = common.open_output("bench", config.out, config)
    available = available_bytes(device)
    wanted = [(kv, batch) for kv in sorted(config.kv_latents, reverse=True) for batch in sorted(config.batch_sizes)]
    fitting = [(kv, batch) for kv, batch in wanted if needed_by(scale, kv, batch, dtype) <= available]
    left_out = [
        {"kv_latents": kv, "batch": batch, "needed_gib": needed_by(scale, kv, batch, dtype) / 2**30}
        for kv, batch in wanted
        if (kv, batch) not in fitting
    ]
    rates = measured_rates(device, dtype)
    decoder = Decoder(config.decoder) if config.decoder else next(iter(sizes_of(scale).decoders))
    world = random_world(scale, fitting[0][0], config.num_steps or _NUM_STEPS, device, dtype, decoder)
    options = _prepared(world, config)
    speeds = []
    with tqdm(total=len(fitting) * config.steps, unit="step", desc=world.config.name) as bar:
        for kv, batch in fitting:
            speeds.append(measure_scale(world, kv, batch, config.steps, config.warmup, rates, options, bar.update))
    two_states = [kv for kv in config.kv_latents if needed_by(scale, kv, 2, dtype) <= available]
    long = _long_run(world, config, max(two_states)) if config.long_steps and two_states else None
    why_no_long = ""
    if config.long_steps and not two_states:
        needed = needed_by(scale, min(config.kv_latents), 2, dtype)
        why_no_long = f"it needs two states at once, about {needed / 2**30:.1f} GiB"
    figures = {
        "scale": scale.value,
        "date": datetime.now(UTC).date().isoformat(),
        "precision": precision,
        "attention": world.generator.transformer.attention.value,
        "decoder": decoder.value,
        "compile": config.compile,
        "fp8": config.fp8,
        "num_steps": world.sampler.num_steps,
        "frames_per_step": world.config.frames_per_step,
        **machine_figures(config.device),
        "libraries": library_versions(),
        **peak_memory_mb(config.device),
        "rates": asdict(rates),
        "bar": BAR,
        "meets_bar": meets_bar(speeds[0], precision, config.fp8),
        "speeds": [speed.as_dict() for speed in speeds],
        "left_out": left_out,
        "long_run": long.as_dict() if long else None,
        "why_no_long_run": why_no_long,
    }
    common.write_figures(folder, "bench", figures)
    table = markdown(figures, rates, speeds, long)
    files.write_text(folder / "bench.md", table)
    print(f"{table}\nIn {folder}: bench.json, bench.md")
    return figures


def _prepared(world: World, config: "BenchConfig") -> dict[str, Any] | None:
    """Set the world up as it is asked for; the options of its compilation, None for none."""
    world.use_kernels(config.attention, fp8=config.fp8)
    if config.compile == "off":
        return None
    options = {"mode": config.compile}
    world.compile(**options)
    return options


def _long_run(world: World, config: "BenchConfig", kv_latents: int) -> LongRun:
    """Steps after 30 chunks and after `long_steps`, in turns."""
    assert config.long_steps is not None
    use_memory(world, kv_latents)
    steps = config.long_steps - YOUNG
    with tqdm(total=YOUNG + steps + 2 * config.steps, unit="step", desc=f"{world.config.name}: long episode") as bar:
        return long_run(world, 1, steps, config.steps, YOUNG, bar.update)


def markdown(figures: dict[str, Any], rates: Rates, speeds: list[ScaleSpeed], long: LongRun | None) -> str:
    """The figures as tables for people."""
    heads = [
        "KV latents",
        "batch",
        "frames/s",
        "p50 ms",
        "p95 ms",
        "decoded beside ms",
        "roofline ms",
        "share",
        "denoiser frames/s",
        "its share",
    ]
    heads += [f"{part} ms (roofline)" for part in STEP_PARTS]
    has_peak = speeds[0].peak_device_memory_mb is not None
    heads += ["peak MB" if has_peak else "state MB"]
    rows = [
        [
            str(speed.kv_latents),
            str(speed.batch),
            f"{speed.frames_per_s:.2f}",
            f"{speed.step_ms_p50:.1f}",
            f"{speed.step_ms_p95:.1f}",
            f"{speed.ahead_ms:.1f}",
            f"{speed.roofline_ms:.1f}",
            f"{speed.share:.0%}",
            f"{speed.denoiser_frames_per_s:.2f}",
            f"{speed.denoiser_share:.0%}",
            *(f"{part.ms:.1f} ({part.roofline_ms:.1f})" for part in speed.parts.values()),
            f"{speed.peak_device_memory_mb:.0f}" if has_peak else f"{speed.state_mb:.2f}",
        ]
        for speed in speeds
    ]
    libraries = "".join(f", {name} {version}" for name, version in figures["libraries"].items() if version)
    lines = [
        f"# Speed of {figures['scale']} ({figures['num_steps']} denoising steps and the clean pass; random weights)",
        "",
        f"{figures['device_name']}, {figures['threads']} threads, PyTorch {figures['torch']}{libraries}, "
        f"{figures['precision']}, attention {figures['attention']}, decoder {figures['decoder']}, "
        f"compile {figures['compile']}, fp8 {figures['fp8']}, {figures['date']}. The device was seen to multiply at "
        f"{rates.flops_per_s / 1e12:.2f} TFLOP/s and to copy at {rates.bytes_per_s / 1e9:.1f} GB/s; "
        f"a step makes {figures['frames_per_step']} frames.",
        "",
        *markdown_table(heads, rows, [RIGHT] * len(heads)),
        "",
        verdict(speeds[0], figures),
        *(
            f"{one['kv_latents']} latents and {one['batch']} rows were left out: they need about "
            f"{one['needed_gib']:.1f} GiB."
            for one in figures["left_out"]
        ),
    ]
    if long:
        lines += ["", _aged(long)]
    elif figures["why_no_long_run"]:
        lines += ["", f"The long run was left out: {figures['why_no_long_run']}."]
    return "\n".join([*lines, ""])


def meets_bar(speed: ScaleSpeed, precision: str, fp8: bool) -> bool | None:
    """Whether a step reaches the share that is asked of bf16; None in other formats, of which none is asked."""
    return speed.share >= BAR if precision == "bf16" and not fp8 else None


def verdict(speed: ScaleSpeed, figures: dict[str, Any]) -> str:
    """Whether the largest memory, with the fewest rows, meets the bar, which is one of bf16."""
    meets = figures["meets_bar"]
    reached = (
        f"The whole step with {speed.kv_latents} latents and {speed.batch} row(s) reaches {speed.share:.0%} of "
        f"the roofline in {figures['precision']}, decoding included, the denoiser alone {speed.denoiser_share:.0%}"
    )
    if meets is None:
        formats = "8-bit layers beside it" if figures["fp8"] else figures["precision"]
        return f"{reached}. No verdict: the bar of {BAR:.0%} is one of bf16, and this was measured with {formats}."
    return f"{reached}; it {'meets' if meets else 'misses'} the bar of {BAR:.0%}."


def _aged(long: LongRun) -> str:
    device = (
        ""
        if long.peak_device_memory_after_mb is None
        else f"; peak memory of a step {long.peak_device_memory_after_mb:.0f} MB instead of "
        f"{long.peak_device_memory_before_mb:.0f} MB"
    )
    return (
        f"At chunk {YOUNG + long.steps}, in turns with chunk {YOUNG}: {long.after_ms_p50:.1f} ms a step instead of "
        f"{long.before_ms_p50:.1f} ms; a state of {long.state_after_mb:.2f} MB instead of {long.state_before_mb:.2f} MB"
        f"{device}."
    )
