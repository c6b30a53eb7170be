"""Names and shapes of Wan's tensors: ours, those of the original checkpoints, and those of diffusers.

Ours are the original's except that a patch is embedded by a matrix, not by a convolution; that modulations have no
row axis; and that texts are called prompts. Every conversion moves the same numbers, so that each way can be undone.
"""

import re
from collections.abc import Iterable, Mapping

from einops import rearrange
from torch import Tensor

from cfworld.settings import Choice

__all__ = ["WanLayout", "from_layout", "layout_of", "to_layout"]


class WanLayout(Choice):
    """How a checkpoint names the tensors of Wan's transformer."""

    ORIGINAL = "original"
    """As Wan, Self-Forcing, LongLive, Causal Forcing and Context Forcing do."""
    DIFFUSERS = "diffusers"
    """As `WanTransformer3DModel` does."""


_OUTER = {
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}
_ATTENTION = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}
_INNER = {
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",
    **{f"self_attn.{ours}": f"attn1.{theirs}" for ours, theirs in _ATTENTION.items()},
    **{f"cross_attn.{ours}": f"attn2.{theirs}" for ours, theirs in _ATTENTION.items()},
}
"""Modules of the original, outside the blocks and inside each, with their names in diffusers."""

_BLOCK = re.compile(r"(blocks\.\d+\.)(.+)")
_PATCH = "patch_embedding.weight"


def layout_of(names: Iterable[str]) -> WanLayout | None:
    """In which layout tensors are named; None where they are not Wan's."""
    names = set(names)
    if any(".self_attn." in name for name in names):
        return WanLayout.ORIGINAL
    return WanLayout.DIFFUSERS if any(".attn1." in name for name in names) else None


def from_layout(tensors: Mapping[str, Tensor], layout: WanLayout) -> dict[str, Tensor]:
    """Tensors of a checkpoint under our names; what is not Wan's keeps its own."""
    if layout is WanLayout.DIFFUSERS:
        outer, inner = ({theirs: name for name, theirs in table.items()} for table in (_OUTER, _INNER))
        tensors = {_renamed(name, outer, inner): value for name, value in tensors.items()}
    return {_our_name(name): _our_shape(name, value) for name, value in tensors.items()}


def to_layout(
    tensors: Mapping[str, Tensor], layout: WanLayout, in_channels: int, patch_size: tuple[int, int]
) -> dict[str, Tensor]:
    """Our tensors under a checkpoint's names; `from_layout` undoes it.

    Args:
        tensors: State of a `Transformer` whose prompts go through two layers.
        layout: How they are to be named.
        in_channels: Channels of a latent.
        patch_size: Height and width of a patch.
    """
    given: dict[str, Tensor] = {}
    for name, value in tensors.items():
        if name == _PATCH:
            ph, pw = patch_size
            value = rearrange(value, "D (ph pw C) -> D C 1 ph pw", C=in_channels, ph=ph, pw=pw)
        elif name.endswith("modulation"):
            value = value[None]
        given[name.replace("prompt_embedding.", "text_embedding.")] = value.contiguous()
    if layout is WanLayout.ORIGINAL:
        return given
    return {_renamed(name, _OUTER, _INNER): value for name, value in given.items()}


def _our_name(name: str) -> str:
    return name.replace("text_embedding.", "prompt_embedding.")


def _our_shape(name: str, value: Tensor) -> Tensor:
    if name == _PATCH and value.ndim == 5 and value.shape[2] == 1:
        return rearrange(value, "D C 1 ph pw -> D (ph pw C)")
    if name.endswith("modulation") and value.ndim == 3:
        return value[0]
    return value


def _renamed(name: str, outer: Mapping[str, str], inner: Mapping[str, str]) -> str:
    block = _BLOCK.fullmatch(name)
    start, rest, table = (block[1], block[2], inner) if block else ("", name, outer)
    if rest in table:
        return start + table[rest]
    module, _, leaf = rest.rpartition(".")
    return f"{start}{table[module]}.{leaf}" if module in table else name
