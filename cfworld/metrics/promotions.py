"""What the memory keeps: how often it promotes, how old its slow slots are, how alike the chunks are that it compares.

A promotion check compares a chunk's mean keys with those of the check before (Eq. 7). Token means have a large common
part, so that their cosines may crowd near one and a fixed threshold tells nothing: the distribution by layer, plain
and less the network's mean key, shows whether they do.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn import functional

from cfworld.envs.twins import Twin
from cfworld.errors import ConfigError
from cfworld.memory import MemoryState
from cfworld.metrics.bootstrap import Interval, ratio_interval
from cfworld.metrics.judgement import Bars, Judgement, Picture, Table
from cfworld.metrics.plots import memory_plots
from cfworld.metrics.progress import Bar, silent_bar, watched
from cfworld.metrics.recordings import Recording, held_out
from cfworld.metrics.rollouts import WorldLike, begin
from cfworld.world import World

__all__ = ["Kept", "PromotionsConfig", "judge_kept", "run_promotions", "watch_memory"]

SPAN_BAR = 20.0
"""Seconds of game time that a shipped world's memory must span."""
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(kw_only=True, slots=True)
class PromotionsConfig:
    """How the memory is watched.

    Attributes:
        seconds: Seconds of game time generated.
        starts: Episodes.
        policy: The blind policy that draws the actions.
    """

    seconds: float = 60.0
    starts: int = 16
    policy: str = "sticky"

    def __post_init__(self) -> None:
        """Refuse to measure nothing."""
        if not 0 < self.seconds < math.inf or self.starts < 1:
            raise ConfigError(
                f"promotions has seconds={self.seconds}, starts={self.starts}; expected a finite time above 0 and "
                "at least one start"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """What B rows did with their memory over a rollout of L layers."""

    checks: Float64[np.ndarray, " B"]
    """Checks that had an earlier one to compare with."""
    promotions: Float64[np.ndarray, " B"]
    """Those of them that promoted."""
    ages: Float64[np.ndarray, " n"]
    """Age of each slow slot's latent in seconds of game time, at every check."""
    oldest: Float64[np.ndarray, " B"]
    """Age of the oldest slow slot at the end, in seconds; NaN without one."""
    plain: Float64[np.ndarray, "L m"]
    """Cosine of the compared mean keys, by layer, one for each check and row."""
    centred: Float64[np.ndarray, "L m"]
    """The same less the network's mean key."""


def watch_memory(world: World, recordings: Sequence[Recording], num_steps: int, bar: Bar, title: str) -> Kept:
    """Roll a world out and note what its memory does.

    Args:
        world: the world.
        recordings: starts and the actions that follow them.
        num_steps: steps to generate.
        bar: counts row-steps.
        title: what the bar says.
    """
    per_step, num_slow = world.config.frames_per_step, world.config.memory.num_slow
    actions = np.stack([recording.actions for recording in recordings])
    state = begin(world, recordings)
    first, ages, similarities = state.memory, [], []
    with bar(title, len(recordings) * num_steps, "row-step") as progress:
        for step in range(num_steps):
            before = state.memory
            chosen = actions[:, step * per_step : (step + 1) * per_step]
            state, _ = world.step(state, chosen, decode=False)
            progress(len(recordings))
            checked = state.memory.checks > before.checks
            compared = checked & (before.checks > 0)
            similarities.append(_similarities(before, state.memory)[..., compared.cpu()])
            ages.append(_slow_ages(world, state.memory)[checked.cpu()].flatten())
    last = _slow_ages(world, state.memory)
    oldest = last.nan_to_num(nan=-1.0).amax(dim=1) if num_slow else torch.full((len(recordings),), -1.0)
    plain, centred = torch.cat(similarities, dim=-1).double().numpy()
    known = torch.cat(ages).double().numpy()
    unmatched = (first.checks == 0) & (state.memory.checks > 0)  # a row's very first check always promotes
    return Kept(
        checks=_difference(state.memory.checks, first.checks, unmatched),
        promotions=_difference(state.memory.promotions, first.promotions, unmatched),
        ages=known[~np.isnan(known)],
        oldest=oldest.double().where(oldest >= 0, torch.nan).numpy(),
        plain=plain,
        centred=centred,
    )


def judge_kept(kept: Mapping[str, Kept], worlds: Mapping[str, World]) -> Judgement:
    """Report on the memory of each world.

    Args:
        kept: what `watch_memory` noted, by world.
        worlds: the worlds themselves.
    """
    rates = {name: ratio_interval(found.promotions, found.checks) for name, found in kept.items()}
    spans = {name: _nominal_span(worlds[name], rates[name].mean) for name in kept}
    return Judgement(
        metric="promotions",
        figures={
            name: {
                "promotion_rate": rates[name],
                "nominal_span_latents": spans[name][0],
                "nominal_span_seconds": spans[name][1],
                "slow_ages_seconds": _quantiles(found.ages),
                "oldest_at_the_end_seconds": _quantiles(found.oldest[~np.isnan(found.oldest)]),
                "similarity_plain": [_quantiles(layer) for layer in found.plain],
                "similarity_centred": [_quantiles(layer) for layer in found.centred],
            }
            for name, found in kept.items()
        },
        bars={name: _bars(worlds[name], rates[name], spans[name][1]) for name in kept},
        tables=[_span_table(kept, rates, spans), *(_similarity_table(name, found) for name, found in kept.items())],
        pictures=[
            Picture(
                name="promotions.png",
                caption="Age of the slow slots; similarity of compared chunks by layer, plain and centred",
                write=partial(memory_plots.promotions, kept=kept),
            )
        ]
        if kept
        else [],
    )


def run_promotions(
    worlds: Mapping[str, WorldLike],
    twin: Twin,
    config: PromotionsConfig,
    prefix_ticks: int,
    first_seed: int,
    bar: Bar = silent_bar,
) -> Judgement:
    """Watch the memory of each world over rollouts.

    Args:
        worlds: the worlds; controls, which have no memory, are passed over.
        twin: the simulator, which gives the starts.
        config: how long and how many.
        prefix_ticks: frames before a start.
        first_seed: the first evaluation seed.
        bar: shows how far it is.
    """
    settings = next(iter(worlds.values())).config
    num_steps = max(1, round(config.seconds * settings.fps / settings.frames_per_step))
    episodes = held_out(
        twin,
        config.starts,
        num_steps * settings.frames_per_step,
        prefix_ticks,
        first_seed=first_seed,
        policy=config.policy,
        god=True,
    )
    counted = watched(episodes, bar, "promotions: twin", config.starts, "episode")
    recordings = [recording.without_frames() for recording in counted]
    ours = {name: world for name, world in worlds.items() if isinstance(world, World)}
    kept = {
        name: watch_memory(world, recordings, num_steps, bar, f"promotions: {name}") for name, world in ours.items()
    }
    return judge_kept(kept, ours)


def _similarities(before: MemoryState, after: MemoryState) -> Tensor:
    """Cosines of the references of two checks, [2 (plain, centred), L, B]."""
    centre = before.centre
    plain = functional.cosine_similarity(after.reference, before.reference, dim=-1)
    centred = functional.cosine_similarity(after.reference - centre, before.reference - centre, dim=-1)
    return torch.stack([plain, centred]).cpu()


def _slow_ages(world: World, memory: MemoryState) -> Tensor:
    """Age of each slow slot in seconds, [B, num_slow]; NaN where empty."""
    settings = world.config
    slow = slice(settings.memory.num_sink, settings.memory.num_sink + settings.memory.num_slow)
    latents_ago = (memory.count[:, None] - memory.source[:, slow]).double()
    ages = latents_ago * settings.frames_per_latent / settings.fps
    return ages.where(memory.valid[:, slow], torch.nan).cpu()


def _difference(after: Tensor, before: Tensor, less: Tensor) -> np.ndarray:
    return (after - before - less.long()).double().cpu().numpy()


def _nominal_span(world: World, rate: float) -> tuple[float | None, float | None]:
    """In latents and in seconds; None where slow memory is never filled."""
    settings = world.config
    if settings.memory.num_slow and not rate > 0:
        return None, None
    latents = settings.memory.nominal_span(rate)
    return latents, latents * settings.frames_per_latent / settings.fps


def _bars(world: World, rate: Interval, seconds: float | None) -> Bars:
    if not world.config.memory.num_slow:
        return {}
    return {
        "promotes": rate.mean > 0 if rate.count and not np.isnan(rate.mean) else None,
        f"nominal span of more than {SPAN_BAR:g} s": seconds is not None and seconds > SPAN_BAR,
    }


def _quantiles(values: np.ndarray) -> dict[str, float | int | None]:
    """Some quantiles, the mean and the count."""
    if not len(values):
        return {"count": 0, "mean": None} | {f"{q:.0%}": None for q in _QUANTILES}
    found = {f"{q:.0%}": float(np.quantile(values, q)) for q in _QUANTILES}
    return {"count": len(values), "mean": float(values.mean())} | found


def _span_table(
    kept: Mapping[str, Kept], rates: Mapping[str, Interval], spans: Mapping[str, tuple[float | None, float | None]]
) -> Table:
    rows = []
    for name, found in kept.items():
        ages, oldest = _quantiles(found.ages), _quantiles(found.oldest[~np.isnan(found.oldest)])
        rows.append([name, rates[name], *spans[name], ages["50%"], ages["95%"], oldest["50%"]])
    return Table(
        title="What the memory keeps",
        columns=[
            "",
            "promotion rate",
            "nominal span (latents)",
            "nominal span (s)",
            "age of slow slots, median (s)",
            "95 % (s)",
            "oldest at the end, median (s)",
        ],
        rows=rows,
        note=(
            "Rate: share of the checks, without a row's first one, which always promotes. Nominal span: sink + fast + "
            "slow slots x interval / promotion rate."
        ),
    )


def _similarity_table(name: str, found: Kept) -> Table:
    rows = []
    for kind, layers in (("plain", found.plain), ("centred", found.centred)):
        for layer, values in enumerate(layers):
            quantiles = _quantiles(values)
            rows.append([f"layer {layer}, {kind}", *(quantiles[f"{q:.0%}"] for q in _QUANTILES)])
    return Table(
        title=f"Similarity of compared chunks, {name}, by quantile",
        columns=["", *(f"{q:.0%}" for q in _QUANTILES)],
        rows=rows,
    )
