"""A world's own continuation of recorded clips, under the actions that were taken in them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Num
from torch import Tensor

from cfworld.world import EncodedStarts, Ends, StepOutput, World

__all__ = ["replayed"]


def replayed(
    world: World,
    latents: Float[Tensor, "B L C h w"],
    actions: Num[Tensor, "B L f *action"],
    seeds: Sequence[int],
    ends: Ends | None = None,
) -> Iterator[StepOutput]:
    """Begin with the first `prefix_latents` of every clip, and step as long as a whole chunk of actions is left.

    Args:
        world: Generates; its own starts are not used.
        latents: The clips.
        actions: One action per frame.
        seeds: Of each row's rollout.
        ends: When rows end; as the world has it by default.

    Yields:
        What each step gives, without frames.
    """
    config = world.config if ends is None else replace(world.config, ends=ends)
    prefix, chunk = config.prefix_latents, config.latents_per_chunk
    rows = range(len(latents))
    starts = EncodedStarts(latents=latents[:, :prefix], actions=actions[:, :prefix], seeds=torch.tensor(rows))
    replay = World(config, world.tokenizer, world.generator, starts, device=world.device)
    state, _ = replay.initial(seeds, starts=list(rows))
    for first in range(prefix, latents.shape[1] - chunk + 1, chunk):
        state, out = replay.step(state, actions[:, first : first + chunk].flatten(1, 2), decode=False)
        yield out
