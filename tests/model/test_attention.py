"""Attention written out for a CPU that learns is the fused kernel's."""

import torch

from cfworld.model.attention import SelfAttention
from cfworld.model.rope import rope_table


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
