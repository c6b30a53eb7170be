"""Which kernel computes attention, and what each can be asked: PyTorch's own, flex attention, FlashAttention.

The kernels of FlashAttention take no mask. They take lengths: the keys that exist come first, and each row says how
many there are. Nothing of that depends on values that the host would have to wait for, so one compiled graph serves
a memory that is filling and one that is full.

Shape suffixes: B rows, q queries, k keys, H heads, d head width.
"""

import importlib
import inspect
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from cfworld.errors import ConfigError
from cfworld.settings import Choice

__all__ = [
    "AttentionBackend",
    "AttentionMask",
    "KeyLengths",
    "attend",
    "available_backends",
    "chosen_backend",
    "flex_mask",
    "why_not",
]


class AttentionBackend(Choice):
    """Who computes attention."""

    AUTO = "auto"
    """The first that runs of flash3, flash and torch."""
    TORCH = "torch"
    """PyTorch's scaled_dot_product_attention, which chooses its kernel by itself."""
    MATH = "math"
    """PyTorch's attention from matrix products and a softmax: the reference."""
    EFFICIENT = "efficient"
    """PyTorch's memory-efficient kernel (CUDA)."""
    CUDNN = "cudnn"
    """cuDNN's fused kernel (CUDA, half precision)."""
    FLEX = "flex"
    """PyTorch's flex attention: skips the blocks that a mask hides. Meant to be compiled."""
    FLASH = "flash"
    """The FlashAttention that PyTorch ships (CUDA, half precision)."""
    FLASH3 = "flash3"
    """FlashAttention 3, from the package `flash_attn_interface` (compute capability 9.x, half precision)."""

    @property
    def takes_lengths(self) -> bool:
        """Whether it wants `KeyLengths` where others take a mask."""
        return self in (AttentionBackend.FLASH, AttentionBackend.FLASH3)


@dataclass(frozen=True, slots=True)
class KeyLengths:
    """A mask for kernels without masks: of each row's keys, the first `context` of the context exist, and no others.

    The current tokens, which every query sees, go in front of the context.

    Attributes:
        context: Context tokens that exist, [B] int32.
    """

    context: Int[Tensor, " B"]


AttentionMask = Bool[Tensor, "#B 1 #q k"] | KeyLengths | BlockMask
"""Who sees what: True where a query may look, the lengths of what exists, or what flex attention makes of a mask."""

_HALF = (torch.bfloat16, torch.float16)
_HOPPER = 9
"""First number of the compute capability for whose tensor cores FlashAttention 3 is written."""
_HEAD_MULTIPLE, _WIDEST_HEAD = 8, 256
"""Widths of heads that FlashAttention takes."""
_KERNELS = {
    AttentionBackend.MATH: SDPBackend.MATH,
    AttentionBackend.EFFICIENT: SDPBackend.EFFICIENT_ATTENTION,
    AttentionBackend.CUDNN: SDPBackend.CUDNN_ATTENTION,
}


def why_not(backend: AttentionBackend, device: torch.device | str, dtype: torch.dtype, head_dim: int) -> str | None:
    """Why a backend cannot run on a device with tensors of a type and heads of a width; None if it can."""
    device = torch.device(device)
    if backend in (AttentionBackend.AUTO, AttentionBackend.TORCH, AttentionBackend.MATH, AttentionBackend.FLEX):
        return None
    if device.type != "cuda":
        return f"it needs a CUDA device, and this one is {device}"
    if backend is AttentionBackend.EFFICIENT:
        return None
    if dtype not in _HALF:
        return f"it computes in bfloat16 or float16, and the keys are {dtype}"
    capability = torch.cuda.get_device_capability(device)
    if capability < (8, 0):
        return f"it needs compute capability 8.0, and this device has {capability[0]}.{capability[1]}"
    if backend.takes_lengths and (head_dim % _HEAD_MULTIPLE or head_dim > _WIDEST_HEAD):
        return f"it takes heads of a multiple of {_HEAD_MULTIPLE} up to {_WIDEST_HEAD}, and these are {head_dim} wide"
    if backend is AttentionBackend.FLASH:
        return None if _varlen() else "this PyTorch has no varlen_attn with seqused_k; a newer one has"
    if backend is AttentionBackend.FLASH3:
        if capability[0] != _HOPPER:
            return f"its kernels are for compute capability 9.x, and this device has {capability[0]}.{capability[1]}"
        return None if _flash3() else "no package flash_attn_interface whose flash_attn_varlen_func takes seqused_k"
    return None


def available_backends(device: torch.device | str, dtype: torch.dtype, head_dim: int) -> list[AttentionBackend]:
    """Every backend that can run, besides auto."""
    concrete = [backend for backend in AttentionBackend if backend is not AttentionBackend.AUTO]
    return [backend for backend in concrete if why_not(backend, device, dtype, head_dim) is None]


def chosen_backend(
    backend: AttentionBackend | str, device: torch.device | str, dtype: torch.dtype, head_dim: int
) -> AttentionBackend:
    """The backend that a name means on a device.

    Raises:
        ConfigError: If there is no such backend, or it cannot run there.
    """
    try:
        backend = AttentionBackend(backend)
    except ValueError as error:
        known = ", ".join(AttentionBackend)
        raise ConfigError(f"got attention={backend!r}; expected one of {known}.") from error
    if backend is AttentionBackend.AUTO:
        ranked = (AttentionBackend.FLASH3, AttentionBackend.FLASH)
        return next((one for one in ranked if why_not(one, device, dtype, head_dim) is None), AttentionBackend.TORCH)
    if (reason := why_not(backend, device, dtype, head_dim)) is not None:
        runs = ", ".join(available_backends(device, dtype, head_dim))
        raise ConfigError(f"attention={backend.value} cannot run here: {reason}. Take auto, or one of {runs}.")
    return backend


def attend(
    q: Float[Tensor, "B q H d"],
    k: Float[Tensor, "B k H d"],
    v: Float[Tensor, "B k H d"],
    mask: AttentionMask | None,
    backend: AttentionBackend = AttentionBackend.TORCH,
) -> Float[Tensor, "B q H d"]:
    """Softmax attention.

    Args:
        q: Rotated queries.
        k: Rotated keys; with `KeyLengths` the current tokens' first, else last.
        v: Values in the same order.
        mask: Who sees what; None: everybody everything.
        backend: Whose kernel. What takes lengths leaves other masks to PyTorch, which reads a memory anew under them;
            flex attention takes only `flex_mask`'s.

    Raises:
        ConfigError: If the mask is of another backend.
    """
    if backend.takes_lengths:
        if not isinstance(mask, Tensor):
            return _by_lengths(q, k, v, mask, backend)
        backend = AttentionBackend.TORCH
    q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)
    if backend is AttentionBackend.FLEX:
        if mask is not None and not isinstance(mask, BlockMask):
            raise ConfigError("got attention=flex and a mask that is no BlockMask; make one with flex_mask.")
        y = flex_attention(q, k, v, block_mask=mask)
        assert isinstance(y, Tensor)
        return y.transpose(1, 2)
    if isinstance(mask, BlockMask):
        raise ConfigError(f"got attention={backend.value} and a BlockMask; only flex takes one.")
    if isinstance(mask, KeyLengths):
        mask = _as_mask(mask, q.shape[2], k.shape[2])
    if backend is AttentionBackend.TORCH:
        return _by_torch(q, k, v, mask).transpose(1, 2)
    with sdpa_kernel(_KERNELS[backend]):
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)


def flex_mask(mask: Bool[Tensor, "B 1 q k"], num_queries: int) -> BlockMask:
    """A mask for flex attention: blocks of keys that nobody sees are not even read.

    Args:
        mask: True where a query may look; one row of queries stands for all.
        num_queries: Queries that there will be.
    """
    rows, _, given, keys = mask.shape
    return create_block_mask(
        lambda b, _h, q, k: mask[b, 0, q if given > 1 else 0, k], rows, None, num_queries, keys, device=str(mask.device)
    )


def _by_torch(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Written out where a CPU learns, since its fused kernel's backward pass is slow."""
    if q.device.type != "cpu" or not torch.is_grad_enabled():
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return scores.softmax(dim=-1, dtype=torch.float32).to(v.dtype) @ v


def _as_mask(lengths: KeyLengths, num_current: int, num_keys: int) -> Bool[Tensor, "B 1 1 k"]:
    exists = torch.arange(num_keys, device=lengths.context.device) < num_current + lengths.context[:, None]
    return exists[:, None, None]


def _by_lengths(
    q: Tensor, k: Tensor, v: Tensor, mask: AttentionMask | None, backend: AttentionBackend
) -> Float[Tensor, "B q H d"]:
    """Attention of rows laid end to end, as FlashAttention takes them."""
    if mask is not None and not isinstance(mask, KeyLengths):
        raise ConfigError(f"got attention={backend.value} and a {type(mask).__name__}; it takes KeyLengths or nothing.")
    rows, num_queries, num_keys = q.shape[0], q.shape[1], k.shape[1]
    steps = torch.arange(rows + 1, device=q.device, dtype=torch.int32)
    used = None if mask is None else num_queries + mask.context
    arguments = (
        *(part.flatten(0, 1).contiguous() for part in (q, k, v)),
        steps * num_queries,
        steps * num_keys,
        num_queries,
        num_keys,
        used,
    )
    if backend is AttentionBackend.FLASH3:
        return _flash3_op(*arguments).unflatten(0, (rows, num_queries))
    *tensors, seqused = arguments
    return _varlen()(*tensors, seqused_k=seqused).unflatten(0, (rows, num_queries))


@torch.library.custom_op("cfworld::flash_attention_3", mutates_args=())
def _flash3_op(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    seqused_k: Tensor | None,
) -> Tensor:
    """FlashAttention 3 as one opaque node of a compiled graph, whatever the package does inside."""
    y = _flash3()(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, seqused_k=seqused_k)
    return y[0] if isinstance(y, tuple) else y


@_flash3_op.register_fake
def _(q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, seqused_k):
    return torch.empty_like(q)


@cache
def _flash3() -> Any:
    """The function of FlashAttention 3, or None."""
    return _with_argument("flash_attn_interface", "flash_attn_varlen_func", "seqused_k")


@cache
def _varlen() -> Any:
    """PyTorch's FlashAttention over rows of different lengths, or None where it is too old for it."""
    return _with_argument("torch.nn.attention.varlen", "varlen_attn", "seqused_k")


def _with_argument(module: str, function: str, argument: str) -> Any:
    try:
        found = getattr(importlib.import_module(module), function, None)
    except ImportError:
        return None
    return found if found is not None and argument in inspect.signature(found).parameters else None
