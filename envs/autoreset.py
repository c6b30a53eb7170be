"""How rows of a vector environment begin anew, after an end of their own or because they are told to."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool

from cfworld.envs.core import EnvCore, RowsStep
from cfworld.envs.env_state import EnvState
from cfworld.envs.host import as_given
from cfworld.envs.seeding import next_episode
from cfworld.envs.vector_info import blanked, masked_info, row_objects, start_array

__all__ = ["VectorStep", "begin_at_once", "begin_late", "observation", "restarted", "whereabouts"]

VectorStep = tuple[Any, Any, Any, Any, dict[str, Any]]
"""Observations, rewards, terminated, truncated and infos of all rows, as a vector environment's step gives them."""


def begin_at_once(core: EnvCore, after: EnvState, step: RowsStep, tensors: bool) -> tuple[EnvState, VectorStep]:
    """Same-step autoreset: rows that have ended begin anew, and what they saw last becomes info.

    Args:
        core: how episodes begin.
        after: where the rows are after the step.
        step: what it gave.
        tensors: leave on the device what the world computes.

    Returns:
        Where the rows are then, and what the caller is given.
    """
    resets = after.ended
    rows = np.flatnonzero(resets)
    final = {
        "final_obs": row_objects([step.observation[int(row)] for row in rows], rows, len(resets)),
        "final_info": masked_info(whereabouts(core, after, tensors) | step.infos, resets),
    }
    state, infos = _begun_anew(core, after, step, resets, tensors)
    infos = masked_info(final, resets) | infos
    return state, (observation(core, state, tensors), step.reward, step.terminated, step.truncated, infos)


def begin_late(
    core: EnvCore, after: EnvState, step: RowsStep, resets: Bool[np.ndarray, " B"], tensors: bool
) -> tuple[EnvState, VectorStep]:
    """Next-step autoreset: of the rows that had ended before the step, it is a reset; see `begin_at_once`."""
    state, infos = _begun_anew(core, after, step, resets, tensors)
    reward, terminated, truncated = (blanked(value, resets) for value in (step.reward, step.terminated, step.truncated))
    return state, (observation(core, state, tensors), reward, terminated, truncated, infos)


def restarted(
    core: EnvCore,
    before: EnvState | None,
    mask: Bool[np.ndarray, " B"],
    seeds: Sequence[int | None],
    starts: Sequence[Any],
    stream: Callable[[], np.random.Generator],
) -> EnvState:
    """The state in which the rows of the mask have begun an episode; see `next_episode`.

    Args:
        core: how episodes begin.
        before: where all rows were, which the mask's alone leave; None before the first reset.
        mask: the rows.
        seeds: of every row, a new seed or None.
        starts: of every row, what `find_start` takes, or None.
        stream: gives the generator of what was never given a seed.
    """
    rows: list[int] = np.flatnonzero(mask).tolist()
    named = [
        next_episode(seeds[row], None if before is None else (before.seeds[row], int(before.episodes[row])), stream)
        for row in rows
    ]
    fresh = core.begin([seed for seed, _ in named], [episode for _, episode in named], [starts[row] for row in rows])
    return fresh if before is None or mask.all() else before.replace(rows, fresh)


def observation(core: EnvCore, state: EnvState, tensors: bool) -> Any:
    """What all rows see, the caller's own."""
    seen = state if core.obs == "latent" else core.decoded(state)
    return as_given(core.observe(seen), tensors)


def whereabouts(core: EnvCore, state: EnvState, tensors: bool) -> dict[str, Any]:
    """What the infos of resets and steps have in common, besides "end_frame"."""
    info: dict[str, Any] = {"start": start_array(state.starts)}
    if core.info_frames:
        frames = core.decoded(state).frames
        assert frames is not None
        info["frames"] = as_given(frames.clone(), tensors)
    return info


def _begun_anew(
    core: EnvCore, after: EnvState, step: RowsStep, resets: Bool[np.ndarray, " B"], tensors: bool
) -> tuple[EnvState, dict[str, Any]]:
    """Reset rows after a step; gives the infos of all rows."""
    drawn = [None] * len(resets)
    state = restarted(core, after, resets, drawn, drawn, _no_stream)
    kept = dict(step.infos)
    end_frame = blanked(kept.pop("end_frame"), resets, core.world.config.frames_per_step)
    everywhere = whereabouts(core, state, tensors) | {"end_frame": end_frame}
    return state, masked_info(everywhere, np.ones_like(resets)) | masked_info(kept, ~resets)


def _no_stream() -> np.random.Generator:
    raise AssertionError("a row that has ended has a seed")
