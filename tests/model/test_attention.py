"""Every backend computes the same attention; what cannot run here is refused by name."""

import inspect
import sys
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cfworld.errors import ConfigError
from cfworld.model import attention_backends
from cfworld.model.attention import SelfAttention
from cfworld.model.attention_backends import (
    AttentionBackend,
    KeyLengths,
    attend,
    available_backends,
    chosen_backend,
    flex_mask,
    why_not,
)
from cfworld.model.rope import rope_table

FLEX_UNCOMPILED = "ignore:flex_attention called without torch.compile:UserWarning"


def drawn(rows: int = 2, queries: int = 6, keys: int = 10) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows, length, 2, 8, generator=generator) for length in (queries, keys, keys)]


def by_hand(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    scores = torch.einsum("bqhd,bkhd->bhqk", q.double(), k.double()) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return torch.einsum("bhqk,bkhd->bqhd", scores.softmax(dim=-1), v.double()).float()


def masks() -> list[Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    by_key, by_query = (torch.rand(2, 1, queries, 10, generator=generator) < 0.6 for queries in (1, 6))
    by_key[..., -1:] = by_query[..., -1:] = True
    return [None, by_key, by_query]


@torch.no_grad()
@pytest.mark.filterwarnings(FLEX_UNCOMPILED)
@pytest.mark.parametrize("backend", ["torch", "math", "flex"])
@pytest.mark.parametrize("case", [0, 1, 2], ids=["no mask", "masked keys", "masked pairs"])
def test_a_backend_computes_the_softmax_attention_that_is_written_out_here(backend: str, case: int):
    q, k, v = drawn()
    mask = masks()[case]
    taken = flex_mask(mask, 6) if mask is not None and backend == "flex" else mask
    torch.testing.assert_close(
        attend(q, k, v, taken, AttentionBackend(backend)), by_hand(q, k, v, mask), rtol=1e-5, atol=1e-5
    )


def test_attention_is_the_same_with_and_without_gradients():
    torch.manual_seed(0)
    attention = SelfAttention(dim=16, num_heads=2, eps=1e-6)
    rope = rope_table(torch.tensor([[5]]), (2, 2), 8, 10_000.0)
    context = (torch.randn(1, 12, 2, 8), torch.randn(1, 12, 2, 8))
    mask = torch.rand(1, 1, 4, 16) < 0.7
    mask[..., -4:] = True
    q, k, v = attention.project(torch.randn(1, 1, 4, 16))
    for chosen in (mask, None):
        learning = attention(q, k, v, rope, context, chosen)
        assert learning.requires_grad
        with torch.no_grad():
            torch.testing.assert_close(attention(q, k, v, rope, context, chosen), learning)


@torch.no_grad()
def test_lengths_of_a_context_say_what_a_mask_says_with_the_current_tokens_in_front():
    q, k, v = drawn()
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]], dtype=torch.bool)
    seen = torch.cat([mask, torch.ones(2, 6, dtype=torch.bool)], dim=1)[:, None, None]
    keys, values = (torch.cat([part[:, 4:], part[:, :4]], dim=1) for part in (k, v))
    lengths = KeyLengths(torch.tensor([3, 1], dtype=torch.int32))
    torch.testing.assert_close(attend(q, keys, values, lengths), by_hand(q, k, v, seen), rtol=1e-5, atol=1e-5)


def test_a_kernel_that_takes_lengths_leaves_other_masks_to_pytorch():
    q, k, v = drawn()
    mask = torch.rand(2, 1, q.shape[1], k.shape[1]) < 0.7
    mask[..., 0] = True
    assert torch.equal(attend(q, k, v, mask, AttentionBackend.FLASH), attend(q, k, v, mask, AttentionBackend.TORCH))


def test_flash_attention_3_is_called_with_rows_end_to_end_and_the_lengths_that_exist(monkeypatch: pytest.MonkeyPatch):
    """The package needs a GPU: a function with its signature stands in, and attends row by row as it documents."""

    def flash_attn_varlen_func(
        q, k, v, cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k, seqused_q=None, seqused_k=None
    ):
        assert seqused_k is not None
        rows = []
        for row, used in enumerate(seqused_k.tolist()):
            a, b = cu_seqlens_q[row : row + 2].tolist()
            c = int(cu_seqlens_k[row])
            parts = (part[None].transpose(1, 2) for part in (q[a:b], k[c : c + used], v[c : c + used]))
            rows.append(F.scaled_dot_product_attention(*parts)[0].transpose(0, 1))
        return torch.cat(rows).contiguous(), None

    monkeypatch.setitem(sys.modules, "flash_attn_interface", SimpleNamespace(**locals()))
    attention_backends._flash3.cache_clear()
    q, k, v = drawn()
    lengths = KeyLengths(torch.tensor([3, 0], dtype=torch.int32))
    try:
        y = attend(q, k, v, lengths, AttentionBackend.FLASH3)
    finally:
        attention_backends._flash3.cache_clear()
    torch.testing.assert_close(y, attend(q, k, v, lengths, AttentionBackend.MATH), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("capability", "flash3", "best"),
    [
        ((9, 0), True, "flash3"),
        ((9, 0), False, "flash"),
        ((8, 0), True, "flash"),
        ((10, 0), True, "flash"),
        ((12, 0), True, "flash"),
    ],
)
def test_auto_goes_by_compute_capability_and_by_what_can_be_imported(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], flash3: bool, best: str
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    monkeypatch.setattr(attention_backends, "_flash3", lambda: flash3 or None)
    monkeypatch.setattr(attention_backends, "_varlen", lambda: True)
    assert chosen_backend("auto", "cuda", torch.bfloat16, 128) == best
    assert chosen_backend("auto", "cuda", torch.float32, 128) == "torch"
    assert (why_not(AttentionBackend.FLASH3, "cuda", torch.bfloat16, 128) is None) is (best == "flash3")


def test_flash_attention_3_is_refused_by_name_on_what_is_no_hopper(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (12, 0))
    monkeypatch.setattr(attention_backends, "_flash3", lambda: True)
    with pytest.raises(ConfigError, match=r"for compute capability 9\.x, and this device has 12\.0"):
        chosen_backend("flash3", "cuda", torch.bfloat16, 128)


def test_auto_on_a_cpu_is_torch():
    assert chosen_backend("auto", "cpu", torch.float32, 128) is AttentionBackend.TORCH
    assert available_backends("cpu", torch.float32, 128) == ["torch", "math", "flex"]


@pytest.mark.parametrize("backend", ["efficient", "cudnn", "flash", "flash3"])
def test_a_backend_that_needs_a_gpu_is_refused_on_a_cpu(backend: str):
    with pytest.raises(ConfigError, match=rf"attention={backend} cannot run here: it needs a CUDA device.*torch, math"):
        chosen_backend(backend, "cpu", torch.float32, 128)


def test_an_unknown_backend_is_refused():
    with pytest.raises(ConfigError, match=r"attention='sage'; expected one of auto, torch"):
        chosen_backend("sage", "cpu", torch.float32, 128)


def test_a_mask_of_another_backend_is_refused():
    mask = masks()[1]
    assert mask is not None
    q, k, v = drawn()
    with pytest.raises(ConfigError, match="no BlockMask"):
        attend(q, k, v, mask, AttentionBackend.FLEX)
    with pytest.raises(ConfigError, match="got attention=flash and a BlockMask"):
        attend(q, k, v, flex_mask(mask, 6), AttentionBackend.FLASH)


def test_this_pytorch_has_the_arguments_that_flash_asks_for():
    from torch.nn.attention.varlen import varlen_attn

    assert (attention_backends._varlen() is varlen_attn) is ("seqused_k" in inspect.signature(varlen_attn).parameters)
