"""The causal probe: how far back does what is remembered still change what is generated?

One memory slot at a time gets the keys and values of another episode's slot, and the next chunk is generated again
with the same noise and the same actions. What changes was caused by that slot.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from cfworld.envs.twins import Twin
from cfworld.errors import ConfigError
from cfworld.metrics.bootstrap import Interval, mean_interval
from cfworld.metrics.judgement import Judgement, Picture, Table
from cfworld.metrics.plots import charts
from cfworld.metrics.progress import Bar, Progress, silent, silent_bar, watched
from cfworld.metrics.recordings import Recording, held_out
from cfworld.metrics.rollouts import WorldLike, begin
from cfworld.world import World, WorldState

__all__ = ["Effects", "ProbeConfig", "memory_span", "probe", "run_probe", "slot_effects", "slot_kinds"]

THRESHOLD = 0.1
"""A slot still counts when its effect is at least this share of the newest fast slot's."""


@dataclass(kw_only=True, slots=True)
class ProbeConfig:
    """How the causal probe is made.

    Attributes:
        seconds: Seconds of game time generated before the probe, to fill the memory.
        starts: Episodes, probed as one batch; each lends its memory to the next.
    """

    seconds: float = 30.0
    starts: int = 8

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        if not 0 <= self.seconds < math.inf or self.starts < 2:
            raise ConfigError(
                f"probe has seconds={self.seconds}, starts={self.starts}; expected a finite time of 0 or more, and at "
                "least 2 starts, between which slots are swapped"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Effects:
    """What swapping each of S slots did to B rows."""

    sizes: Float64[np.ndarray, "S B"]
    """Root mean square change of the next chunk's latents; NaN where the slot was empty."""
    ages: Float64[np.ndarray, "S B"]
    """Age of the slot's latent, in seconds of game time; NaN where the slot was empty."""
    kinds: Sequence[str]
    """`sink`, `slow` or `fast`, S of them, in the order of the slots."""


def slot_kinds(memory: Any) -> list[str]:
    """Which part of the memory each slot belongs to, of a `MemoryConfig`."""
    return ["sink"] * memory.num_sink + ["slow"] * memory.num_slow + ["fast"] * memory.num_stored_fast


def slot_effects(world: World, state: WorldState, actions: Any, progress: Progress = silent) -> Effects:
    """Put the row before's into each slot, one at a time, and generate the next chunk again.

    Args:
        world: the world.
        state: where the rows are.
        actions: what they do next.
        progress: told how many row-steps were done.
    """
    settings, memory = world.config, state.memory
    _, output = world.step(state, actions, decode=False)
    progress(state.num_rows)
    sizes, ages = [], []
    for slot in range(memory.valid.shape[1]):
        _, changed = world.step(_swapped(state, slot), actions, decode=False)
        progress(state.num_rows)
        size = (changed.latents - output.latents).square().mean(dim=(1, 2, 3, 4)).sqrt()
        filled = memory.valid[:, slot] & memory.valid[:, slot].roll(1)
        latents_ago = (memory.count - memory.source[:, slot]).double()
        age = latents_ago * settings.frames_per_latent / settings.fps
        sizes.append(size.double().where(filled, torch.nan).cpu().numpy())
        ages.append(age.where(filled, torch.nan).cpu().numpy())
    return Effects(sizes=np.stack(sizes), ages=np.stack(ages), kinds=slot_kinds(settings.memory))


def memory_span(effects: Effects) -> Float64[np.ndarray, " B"]:
    """Oldest age in slow and fast memory whose effect is at least `THRESHOLD` of the newest fast slot's.

    The sink, which is always the oldest, is left out. NaN for rows without a fast slot.
    """
    rolling = np.array([kind != "sink" for kind in effects.kinds])
    fast = np.array([kind == "fast" for kind in effects.kinds])
    ages = np.where(np.isnan(effects.ages), np.inf, effects.ages)
    fast_ages = np.where(fast[:, None], ages, np.inf)
    newest = effects.sizes[fast_ages.argmin(axis=0), np.arange(effects.sizes.shape[1])]
    reference = np.where(np.isfinite(fast_ages.min(axis=0)), newest, np.nan)
    counted = rolling[:, None] & (effects.sizes >= THRESHOLD * reference)
    oldest = np.where(counted, effects.ages, -np.inf).max(axis=0)
    return np.where(np.isfinite(oldest), oldest, np.nan)


def probe(effects: Mapping[str, Effects], fast_seconds: Mapping[str, float]) -> Judgement:
    """Judge how far back the worlds remember.

    Args:
        effects: of each world.
        fast_seconds: how far back each world's fast memory alone reaches.
    """
    spans = {name: mean_interval(memory_span(found)) for name, found in effects.items()}
    slots = {name: _slots(found) for name, found in effects.items()}
    return Judgement(
        metric="probe",
        figures={"span_seconds": spans, "fast_seconds": dict(fast_seconds), "slots": slots},
        bars={
            name: {"remembers further back than fast memory reaches": span.above(fast_seconds[name])}
            for name, span in spans.items()
        },
        tables=[
            Table(
                title="Age of the oldest latent that still matters (s)",
                columns=["", "age", "reach of fast memory"],
                rows=[[name, span, fast_seconds[name]] for name, span in spans.items()],
                note=f"Mattering: at least {THRESHOLD:g} of the newest fast slot's effect; sink left out.",
            ),
            *(
                Table(
                    title=f"Effect of each slot of {name}, root mean square change of the next latents",
                    columns=["slot", "age (s)", "effect"],
                    rows=[[slot["kind"], slot["age"], slot["effect"]] for slot in found],
                )
                for name, found in slots.items()
            ),
        ],
        pictures=[
            Picture(
                name="probe.png",
                caption="Effect of swapping one remembered latent, by its age",
                write=partial(charts.probe, effects=effects),
            )
        ],
    )


def run_probe(
    worlds: Mapping[str, WorldLike],
    twin: Twin,
    config: ProbeConfig,
    prefix_ticks: int,
    first_seed: int,
    bar: Bar = silent_bar,
) -> Judgement:
    """Fill the memory by a rollout, then probe every slot.

    Args:
        worlds: the worlds to judge; controls, which have no memory, are passed over.
        twin: the simulator.
        config: how long and how many.
        prefix_ticks: frames before a start.
        first_seed: the first evaluation seed.
        bar: shows how far it is.
    """
    settings = next(iter(worlds.values())).config
    per_step = settings.frames_per_step
    num_steps = round(config.seconds * settings.fps / per_step)
    num_ticks = (num_steps + 1) * per_step
    episodes = held_out(twin, config.starts, num_ticks, prefix_ticks, first_seed=first_seed, god=True)
    counted = watched(episodes, bar, "probe: twin", config.starts, "episode")
    recordings = [recording.without_frames() for recording in counted]
    effects, reach = {}, {}
    for name, world in worlds.items():
        if not isinstance(world, World):
            continue
        memory = world.config.memory
        total = config.starts * (num_steps + memory.num_slots + 1)
        with bar(f"probe: {name}", total, "row-step") as progress:
            state, actions = _filled(world, recordings, num_steps, progress)
            effects[name] = slot_effects(world, state, actions, progress)
        reach[name] = memory.num_stored_fast * settings.frames_per_latent / settings.fps
    return probe(effects, reach)


def _filled(
    world: World, recordings: Sequence[Recording], num_steps: int, progress: Progress
) -> tuple[WorldState, np.ndarray]:
    """The state after a number of steps, and the actions that come next."""
    actions = np.stack([recording.actions for recording in recordings])
    per_step = world.config.frames_per_step
    state = begin(world, recordings)
    for step in range(num_steps):
        chosen = actions[:, step * per_step : (step + 1) * per_step]
        state, _ = world.step(state, chosen, decode=False)
        progress(len(recordings))
    return state, actions[:, num_steps * per_step :]


def _swapped(state: WorldState, slot: int) -> WorldState:
    """The state with one slot's keys and values taken from the row before."""
    keys, values = state.memory.keys.clone(), state.memory.values.clone()
    keys[:, :, slot] = keys[:, :, slot].roll(1, dims=1)
    values[:, :, slot] = values[:, :, slot].roll(1, dims=1)
    return replace(state, memory=replace(state.memory, keys=keys, values=values))


def _slots(effects: Effects) -> list[dict[str, str | Interval]]:
    return [
        {"kind": kind, "age": mean_interval(ages), "effect": mean_interval(sizes)}
        for kind, ages, sizes in zip(effects.kinds, effects.ages, effects.sizes, strict=True)
    ]
