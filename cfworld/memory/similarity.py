"""How alike two chunks look to the network (Eq. 7)."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

__all__ = ["key_similarity", "token_mean"]


def token_mean(keys: Float[Tensor, "L B N n H d"]) -> Float[Tensor, "L B Hd"]:
    """Mean un-rotated key of a chunk, over its latents and tokens, in float32."""
    return keys.float().mean(dim=(2, 3)).flatten(-2)


def key_similarity(
    new: Float[Tensor, "L B D"],
    reference: Float[Tensor, "L B D"],
    centre: Float[Tensor, "L B D"] | None = None,
) -> Float[Tensor, " B"]:
    """Cosine similarity of mean keys, averaged over the layers: one decision for all of them.

    Args:
        new: Mean keys of the chunk.
        reference: Mean keys of the previous check.
        centre: What to subtract from both first, against the common component that pushes cosines to one.
    """
    if centre is not None:
        new, reference = new - centre, reference - centre
    return F.cosine_similarity(new, reference, dim=-1).mean(dim=0)
