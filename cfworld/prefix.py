"""Reading what was given and not made: prefixes of episodes go into a memory chunk by chunk."""

import torch
from jaxtyping import Float, Num
from torch import Tensor

from cfworld.errors import ConfigError
from cfworld.memory import MemoryConfig, MemoryState
from cfworld.model import Generator
from cfworld.rollout import CleanPass, blank_memory, clean_pass, context_from_memory

__all__ = ["mean_keys", "prime", "take_in"]

PRIMED_BYTES = 2**31
"""What the keys and values of prefixes may take that are read at once for their mean."""


def take_in(
    generator: Generator,
    config: MemoryConfig,
    memory: MemoryState,
    latents: Float[Tensor, "B N C h w"],
    actions: Num[Tensor, "B N f *action"],
) -> CleanPass:
    """Read a chunk that was given and not made, in the context of a memory, and commit it."""
    return clean_pass(generator, config, memory, context_from_memory(generator, config, memory), latents, actions)


def prime(
    generator: Generator,
    config: MemoryConfig,
    latents: Float[Tensor, "B L C h w"],
    actions: Num[Tensor, "B L f *action"],
) -> MemoryState:
    """Fill a memory with a real prefix, chunk by chunk.

    Raises:
        ConfigError: If the prefix is empty or does not divide into chunks.
    """
    length, chunk = latents.shape[1], config.latents_per_chunk
    if length < chunk or length % chunk:
        raise ConfigError(f"a prefix must be whole chunks of {chunk} latents; got {length} latents.")
    memory = blank_memory(generator, config, latents[:, :chunk], actions[:, :chunk])
    for first in range(0, length, chunk):
        piece = slice(first, first + chunk)
        memory = take_in(generator, config, memory, latents[:, piece], actions[:, piece]).memory
    return memory


def mean_keys(
    generator: Generator,
    config: MemoryConfig,
    latents: Float[Tensor, "B L C h w"],
    actions: Num[Tensor, "B L f *action"],
) -> Float[Tensor, "layers width"]:
    """Mean un-rotated key of every layer over what a memory holds after these prefixes: `Generator.key_centre`.

    So many prefixes are read at once as `PRIMED_BYTES` of keys and values hold, and one at least.
    """
    model = generator.transformer.config
    width = model.tokens_per_latent * model.num_heads * model.head_dim
    element = generator.transformer.patch_embedding.weight.element_size()
    at_once = max(1, PRIMED_BYTES // (2 * model.depth * config.num_slots * width * element))
    total, count = torch.zeros((), device=latents.device), 0
    for rows, given in zip(latents.split(at_once), actions.split(at_once), strict=True):
        memory = prime(generator, config, rows, given)
        total = total + memory.keys[:, memory.valid].sum(dim=(1, 2), dtype=torch.float32)
        count += int(memory.valid.sum()) * model.tokens_per_latent
    return (total / count).flatten(1)
