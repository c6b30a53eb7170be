"""Scores of whoever acts: episodes of given seeds in a generated world and in its simulator."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from cfworld.agents.sight import Player, Seen
from cfworld.envs.twins import Twin
from cfworld.world import World

__all__ = ["Scores", "dream_scores", "play_twin", "twin_scores"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """How episodes went, in the order of their seeds."""

    returns: Float64[np.ndarray, " n"]
    """Summed rewards."""
    ticks: Int64[np.ndarray, " n"]
    """Ticks lived, the last one included."""
    ended: Bool[np.ndarray, " n"]
    """False where the episode was cut off while it ran."""


def dream_scores(
    world: World,
    player: Player,
    seeds: Sequence[int],
    max_ticks: int,
    rows: int = 50,
    progress: Callable[[int], object] = lambda _: None,
) -> Scores:
    """Play one episode per seed in a generated world; the seed names its start and its noise.

    Args:
        world: the world.
        player: who acts.
        seeds: of the episodes.
        max_ticks: ticks, after the start, at which an episode is cut off; rounded up to whole steps.
        rows: episodes side by side.
        progress: told how many episodes are over.
    """
    if not len(seeds):
        return Scores(returns=np.zeros(0), ticks=np.zeros(0, np.int64), ended=np.zeros(0, bool))
    parts = [
        _dream(world, player, seeds[first : first + rows], max_ticks, progress) for first in range(0, len(seeds), rows)
    ]
    return Scores(
        returns=np.concatenate([part.returns for part in parts]),
        ticks=np.concatenate([part.ticks for part in parts]),
        ended=np.concatenate([part.ended for part in parts]),
    )


def _dream(
    world: World, player: Player, seeds: Sequence[int], max_ticks: int, progress: Callable[[int], object]
) -> Scores:
    per_step, count = world.config.frames_per_step, len(seeds)
    returns, ticks, ended = np.zeros(count), np.zeros(count, np.int64), np.zeros(count, bool)
    alive = np.arange(count)
    state, frames = world.initial(seeds, decode=player.looks)
    latents = state.latents
    player.begin(seeds)
    for _ in range(-(-max_ticks // per_step)):
        shown = None if frames is None else frames.cpu().numpy()
        actions = player.act(Seen(frames=shown, latents=latents, state=state))
        state, out = world.step(state, actions, decode=player.looks)
        frames, latents = out.frames, out.latents
        over = out.terminated.cpu().numpy()
        returns[alive] += out.reward.cpu().numpy()
        ticks[alive] += np.minimum(out.end_frame.cpu().numpy() + 1, per_step)
        if not over.any():
            continue
        ended[alive[over]] = True
        progress(int(over.sum()))
        left = np.flatnonzero(~over)
        alive = alive[left]
        if not len(alive):
            break
        player.keep(left)
        state, latents = state.select(left.tolist()), latents[left]
        frames = None if frames is None else frames[left]
    progress(len(alive))
    return Scores(returns=returns, ticks=ticks, ended=ended)


def play_twin(twin: Twin, player: Player, seed: int) -> Iterator[tuple[np.ndarray, float, bool]]:
    """Play one episode in a simulator.

    Args:
        twin: the simulator.
        player: who acts.
        seed: of the episode.

    Yields:
        After each step its frames [F, H, W, 3], its reward, and whether it ended the episode for good.
    """
    twin.reset(seed=seed)
    player.begin([seed])
    over = False
    while not over:
        action = player.act(Seen(frames=twin.frames()[None]))[0]
        _, reward, terminated, truncated, _ = twin.step(action)
        over = terminated or truncated
        yield twin.frames(), reward, terminated


def twin_scores(
    twin: Twin, player: Player, seeds: Sequence[int], progress: Callable[[int], object] = lambda _: None
) -> Scores:
    """Play one episode per seed in a simulator, one after the other.

    Args:
        twin: the simulator, with its own limit of ticks.
        player: who acts.
        seeds: of the episodes.
        progress: told how many episodes are over.
    """
    returns, ticks, ended = np.zeros(len(seeds)), np.zeros(len(seeds), np.int64), np.zeros(len(seeds), bool)
    for place, seed in enumerate(seeds):
        for _, reward, terminated in play_twin(twin, player, seed):
            returns[place] += reward
            ended[place] = terminated
        ticks[place] = twin.tick
        progress(1)
    return Scores(returns=returns, ticks=ticks, ended=ended)
