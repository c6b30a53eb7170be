"""How fast a world is, where its time goes, and whether a step costs more as an episode grows."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor, nn

from cfworld.diffusion import counter_uniform
from cfworld.metrics.machine import peak_device_memory_mb, peak_memory_mb, synchronize
from cfworld.prompts import ActionKind, ActionPart
from cfworld.world import World, WorldState

__all__ = ["PARTS", "LongRun", "Speed", "latencies", "long_run", "measure", "random_actions", "state_megabytes"]

PARTS = ("denoise", "clean_pass", "heads", "decode", "memory")
"""Where a step spends its time: the denoising passes; the pass over the clean chunk; reward and hazard;
pixels; and everything else, which is reading and writing the memory, the noise and the ends."""

_QUANTILES = (50, 95)
_RESETS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """Speed at one batch size, decoding included."""

    batch: int
    """Rows."""
    steps_per_s: float
    """Steps of the batch per second."""
    frames_per_s: float
    """Frames of all rows per second."""
    step_ms_p50: float
    """Median latency of a step in milliseconds."""
    step_ms_p95: float
    """95th percentile of the latency."""
    reset_ms_p50: float
    """Median latency of beginning all rows' episodes anew, from starts that were used before."""
    parts_ms: dict[str, float]
    """Median milliseconds of each of `PARTS`, measured in steps of their own."""
    state_mb: float
    """Memory of the state."""
    peak_device_memory_mb: float | None = None
    """Peak memory of PyTorch on a GPU at this batch size."""

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True, slots=True)
class LongRun:
    """The latency of a step early and late in one long episode, measured in turn."""

    batch: int
    """Rows."""
    steps: int
    """Steps between the two."""
    before_ms_p50: float
    """Median latency at the episode's beginning."""
    after_ms_p50: float
    """Median latency after `steps` steps."""
    peak_memory_before_mb: float
    """Peak memory of the process at the beginning."""
    peak_memory_after_mb: float
    """Peak memory of the process after the last step."""
    state_before_mb: float
    """Memory of the state at the beginning."""
    state_after_mb: float
    """Memory of the state after the last step."""
    peak_device_memory_before_mb: float | None = None
    """Peak memory of PyTorch on a GPU in a step at the beginning."""
    peak_device_memory_after_mb: float | None = None
    """Peak memory of PyTorch on a GPU in a step at the end."""

    def as_dict(self) -> dict[str, Any]:
        """As plain values, with the ratio of the latencies."""
        figures = {name: value for name, value in asdict(self).items() if value is not None}
        return {**figures, "ratio": self.after_ms_p50 / self.before_ms_p50}


def measure(
    world: World,
    batch: int,
    steps: int,
    warmup: int,
    part_steps: int,
    tick: Callable[[], Any] = lambda: None,
) -> Speed:
    """Measure the speed of a world.

    Args:
        world: the world.
        batch: rows stepped together.
        steps: steps to time.
        warmup: steps before that are not timed.
        part_steps: steps in which the parts are timed.
        tick: called after every step.

    Returns:
        The speed.
    """
    if world.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(world.device)
    state, _ = world.initial(range(batch))
    state, _ = latencies(world, state, warmup, tick)
    state, seconds = latencies(world, state, steps, tick)
    parts = [_parts(world, state, tick) for _ in range(part_steps)]
    p50, p95 = np.percentile(seconds * 1000, _QUANTILES)
    return Speed(
        batch=batch,
        steps_per_s=len(seconds) / seconds.sum(),
        frames_per_s=len(seconds) * batch * world.config.frames_per_step / seconds.sum(),
        step_ms_p50=p50,
        step_ms_p95=p95,
        reset_ms_p50=float(np.median([_reset(world, batch) for _ in range(_RESETS)])) * 1000,
        parts_ms={name: float(np.median([part[name] for part in parts])) for name in PARTS},
        state_mb=state_megabytes(state),
        peak_device_memory_mb=peak_device_memory_mb(world.device),
    )


def long_run(
    world: World, batch: int, steps: int, timed: int, warmup: int, tick: Callable[[], Any] = lambda: None
) -> LongRun:
    """Measure the latency at the beginning of an episode and many steps later.

    The long way is taken first; then the young and the old state take a step each in turn, so that other work on the
    machine slows both alike.

    Args:
        world: the world.
        batch: rows stepped together.
        steps: steps between the two, without decoding.
        timed: steps of each measurement.
        warmup: steps from the reset to the first of them.
        tick: called after every step.

    Returns:
        Both.
    """
    state, _ = world.initial(range(batch))
    young, _ = latencies(world, state, warmup, tick)
    memory_before = peak_memory_mb(world.device)["peak_memory_mb"]
    old = young.clone()
    for _ in range(steps):
        old, _ = world.step(old, random_actions(world, old.seeds, old.step), decode=False, donate=True)
        tick()
    before, after = np.zeros((2, timed))
    for index in range(timed):
        young, before[index : index + 1] = latencies(world, young, 1, tick)
        old, after[index : index + 1] = latencies(world, old, 1, tick)
    return LongRun(
        batch=batch,
        steps=steps,
        before_ms_p50=float(np.median(before)) * 1000,
        after_ms_p50=float(np.median(after)) * 1000,
        peak_memory_before_mb=memory_before,
        peak_memory_after_mb=peak_memory_mb(world.device)["peak_memory_mb"],
        state_before_mb=state_megabytes(young),
        state_after_mb=state_megabytes(old),
        peak_device_memory_before_mb=_device_peak_of_step(world, young),
        peak_device_memory_after_mb=_device_peak_of_step(world, old),
    )


def state_megabytes(state: WorldState) -> float:
    """Memory of a state in MB."""
    return sum(tensor.nbytes for tensor in state.tensors().values()) / 2**20


def _device_peak_of_step(world: World, state: WorldState) -> float | None:
    """Peak memory of PyTorch on a GPU in one more step; None elsewhere."""
    if world.device.type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats(world.device)
    world.step(state, random_actions(world, state.seeds, state.step))
    return peak_device_memory_mb(world.device)


def latencies(
    world: World, state: WorldState, steps: int, tick: Callable[[], Any]
) -> tuple[WorldState, Float64[np.ndarray, " steps"]]:
    """Step on under random actions, and time every step in seconds.

    Args:
        world: the world.
        state: where to begin; it is donated.
        steps: steps to take.
        tick: called after every step.

    Returns:
        The last state, and the seconds of each step, decoding included.
    """
    seconds = np.zeros(steps)
    for index in range(steps):
        actions = random_actions(world, state.seeds, state.step)
        synchronize(world.device)
        begin = perf_counter()
        state, _ = world.step(state, actions, donate=True)
        synchronize(world.device)
        seconds[index] = perf_counter() - begin
        tick()
    return state, seconds


def _reset(world: World, batch: int) -> float:
    """Seconds that it takes to begin every row's episode."""
    synchronize(world.device)
    begin = perf_counter()
    world.initial(range(batch))
    synchronize(world.device)
    return perf_counter() - begin


def _parts(world: World, state: WorldState, tick: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds of each part of one step from a state. A decoder that streams has its part in the step itself."""
    actions = random_actions(world, state.seeds, state.step)
    network, device = world.generator, world.device
    with _timed_calls(network.transformer, device) as passes, _timed_calls(network.heads, device) as heads:
        begin = perf_counter()
        following, _ = world.step(state, actions, decode=False)
        synchronize(world.device)
        total = perf_counter() - begin
    begin = perf_counter()
    world.decode(following.latents)
    synchronize(world.device)
    decode = perf_counter() - begin
    tick()
    *denoise, clean_pass = passes
    seconds = {
        "denoise": sum(denoise),
        "clean_pass": clean_pass,
        "heads": sum(heads),
        "decode": decode,
        "memory": total - sum(passes) - sum(heads) - (decode if world.tokenizer.streams else 0.0),
    }
    return {name: value * 1000 for name, value in seconds.items()}


@contextmanager
def _timed_calls(module: nn.Module, device: torch.device) -> Iterator[list[float]]:
    """Collect the seconds of every call of a module on a device."""
    seconds: list[float] = []

    def start(*_: Any) -> None:
        synchronize(device)
        seconds.append(-perf_counter())

    def stop(*_: Any) -> None:
        synchronize(device)
        seconds[-1] += perf_counter()

    hooks = [module.register_forward_pre_hook(start), module.register_forward_hook(stop)]
    try:
        yield seconds
    finally:
        for hook in hooks:
            hook.remove()


def random_actions(world: World, seeds: Int64[Tensor, " B"], step: Int64[Tensor, " B"]) -> np.ndarray:
    """Uniformly random actions, one per row, on the host as an agent's would be; texts are empty.

    Args:
        world: which takes them.
        seeds: seed of each row.
        step: counts the draws of each row.
    """
    parts = world.config.actions.items()
    counts = [part.num_columns for _, part in parts]
    draws = counter_uniform(seeds, step, 1, (sum(counts),)).cpu().numpy()
    pieces = np.split(draws, np.cumsum(counts)[:-1], axis=1)
    columns = [_drawn(part, piece) for (_, part), piece in zip(parts, pieces, strict=True)]
    if world.config.actions.parts:
        return np.concatenate(columns, axis=1, dtype=np.float32)
    return columns[0][:, 0] if world.config.actions.num_actions else columns[0]


def _drawn(part: ActionPart, draws: np.ndarray) -> np.ndarray:
    """Actions of one kind from numbers of [0, 1), [B, A]."""
    if part.kind is ActionKind.TEXT and part.text.learned:
        return np.zeros((len(draws), part.text.tokens * part.text.width), np.float32)
    if part.kind is ActionKind.TEXT:
        return np.zeros((len(draws), part.text.max_length), np.int64)
    if part.kind is not ActionKind.BOX:
        return (draws * (part.multi or part.num_actions)).astype(np.int64)
    low, high = np.array(part.low, np.float32), np.array(part.high, np.float32)
    return (low + (high - low) * draws).astype(np.float32)
