"""Novelty: how far a step lies from what real continuations look like to the world itself.

The clean pass gives every chunk its keys, and the memory holds those of the latent before. Real continuations tie the
two together: from the token-mean keys of one latent, a linear map predicts those of the next. What the prediction
leaves is a draw from a Gaussian as long as the world knows what it sees; its Mahalanobis length is the score
(docs/adr/0012-novelty.md says what else was tried). It is put on a scale that worlds share: 0 is a typical real
continuation, and 1 is as odd as the oddest hundredth of them.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from cfworld.errors import CheckpointError
from cfworld.memory import MemoryState
from cfworld.rows import by_full_rows

__all__ = ["Novelty", "compared_layers", "mean_keys_of_chunk", "mean_keys_of_newest"]

ODDEST = 0.01
"""Share of real continuations that lie above a novelty of 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Novelty:
    """The score of one network, D = compared layers x width; `cfworld calibrate` measures it.

    Attributes:
        layers: Layers whose keys are compared.
        offset: What is left of the whitened keys of typical data, [D].
        before: From the mean keys of a latent to what they predict of the next one's, whitened, [D, D].
        after: Whitens the mean keys of the next one, [D, D].
        typical: Median distance of held-out real continuations.
        limit: Their distance at the upper `ODDEST`.
    """

    layers: tuple[int, ...]
    offset: Tensor
    before: Tensor
    after: Tensor
    typical: float = 0.0
    limit: float = 1.0

    def __post_init__(self) -> None:
        width = len(self.offset)
        if {self.before.shape, self.after.shape} != {(width, width)} or not self.typical < self.limit:
            raise CheckpointError(
                f"a novelty score has matrices [D, D] for its offset [D], and a limit above what is typical; got "
                f"{list(self.before.shape)}, {list(self.after.shape)}, {list(self.offset.shape)}, "
                f"{self.typical} and {self.limit}. Run `cfworld calibrate` again."
            )

    def to(self, device: torch.device) -> "Novelty":
        """The same on a device, in float32: it may have been read in half precision."""
        parts = {name: getattr(self, name).to(device).float() for name in ("offset", "before", "after")}
        return replace(self, **parts)

    def of(self, memory: MemoryState, keys: Float[Tensor, "L B N n H d"]) -> Float[Tensor, " B"]:
        """Novelty of a chunk.

        Args:
            memory: Before the chunk; a row without anything in it has no novelty, NaN.
            keys: The chunk's own, of the clean pass, before RoPE.
        """
        distance = self.distance(
            torch.cat([mean_keys_of_newest(memory, self.layers)[:, None], mean_keys_of_chunk(keys, self.layers)], dim=1)
        )
        score = (distance - self.typical) / (self.limit - self.typical)
        return torch.where(memory.valid.any(dim=1), score, torch.nan)

    def distance(self, means: Float[Tensor, "B M D"]) -> Float[Tensor, " B"]:
        """Mahalanobis distance, by dimension, of M - 1 latents from what the one before each predicts: its mean."""
        rows, length = means.shape[:2]
        predicted, seen = (
            by_full_rows(lambda flat, matrix=matrix: flat @ matrix, part.flatten(0, 1)).unflatten(0, (rows, length - 1))
            for matrix, part in ((self.before, means[:, :-1]), (self.after, means[:, 1:]))
        )
        return (seen - predicted - self.offset).square().mean(dim=2).sqrt().mean(dim=1)


def compared_layers(depth: int) -> tuple[int, ...]:
    """The layers whose keys are compared: at a third and at two thirds of the depth."""
    return tuple(sorted({depth // 3, 2 * depth // 3}))


def mean_keys_of_chunk(keys: Float[Tensor, "L B N n H d"], layers: tuple[int, ...]) -> Float[Tensor, "B N D"]:
    """Token-mean keys of every latent of a chunk, the layers side by side."""
    return torch.cat([keys[layer].float().mean(dim=2).flatten(2) for layer in layers], dim=-1)


def mean_keys_of_newest(memory: MemoryState, layers: tuple[int, ...]) -> Float[Tensor, "B D"]:
    """Token-mean keys of the latent that each row remembers last."""
    newest = memory.newest
    rows = torch.arange(len(newest), device=newest.device)
    return torch.cat([memory.keys[layer][rows, newest].float().mean(dim=1).flatten(1) for layer in layers], dim=-1)
