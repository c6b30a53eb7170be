"""One episode of an agent in the dream and one in reality, side by side."""

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cfworld.agents.evaluate import play_twin
from cfworld.agents.sight import Player, Seen
from cfworld.envs.overlay import Caption, annotate, tile
from cfworld.envs.twins import make_twin
from cfworld.export.video import open_video
from cfworld.world import World

__all__ = ["write_both"]


def write_both(path: Path, world: World, player: Player, seed: int, max_ticks: int, scale: int = 5) -> None:
    """Write a video: the dream on the left, the simulator on the right, each up to its end.

    Args:
        path: the file, ending in `.mp4`.
        world: the world.
        player: who acts in both, one after the other.
        seed: of both episodes.
        max_ticks: ticks at most.
        scale: pixels of the video per pixel of a frame.
    """
    dream = list(_dream(world, player, seed, max_ticks))
    twin = make_twin(world.config.source, max_ticks)
    try:
        real = [(frames, ended) for frames, _, ended in play_twin(twin, player, seed)]
    finally:
        twin.close()
    fps, per_step = world.config.fps, world.config.frames_per_step
    last = [dream[-1], real[-1]]
    with open_video(path, fps) as video:
        for step, now in enumerate(tqdm(list(zip_longest(dream, real)), unit="step", desc=f"{path.name}: encode")):
            last = [old if new is None else new for old, new in zip(last, now, strict=True)]
            for frame in range(per_step):
                seconds = (step * per_step + frame + 1) / fps
                pictures = [
                    annotate(frames[-1 if new is None else frame], _caption(name, seconds, ended), scale)
                    for name, (frames, ended), new in zip(("dream", "real"), last, now, strict=True)
                ]
                video.add(tile(pictures))


def _dream(world: World, player: Player, seed: int, max_ticks: int) -> Iterator[tuple[np.ndarray, bool]]:
    """Frames of each step of an episode in the dream, and whether it ended there."""
    state, frames = world.initial([seed])
    player.begin([seed])
    for _ in range(-(-max_ticks // world.config.frames_per_step)):
        actions = player.act(Seen(frames=frames.cpu().numpy(), latents=state.latents, state=state))
        state, out = world.step(state, actions)
        assert out.frames is not None
        frames = out.frames
        ended = bool(out.terminated[0])
        yield frames[0].cpu().numpy(), ended
        if ended:
            return


def _caption(name: str, seconds: float, ended: bool) -> Caption:
    return Caption(action=name, reward=0.0, hazard=0.0, note=f"{seconds:.1f} s", banner="END" if ended else "")
