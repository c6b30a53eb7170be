"""Rotary positions: Wan's split, relative in time, un-rotated at zero."""

import torch

from cfworld.model import apply_rope, rope_table
from cfworld.model.rope import axis_pairs


def test_wans_heads_split_into_22_21_21_pairs():
    assert axis_pairs(128) == (22, 21, 21)


def test_a_pair_is_rotated_by_position_times_frequency():
    cos, sin = rope_table(torch.tensor([2]), (1, 1), 6, 10_000.0)
    x = torch.tensor([[[[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]]]])
    rotated = apply_rope(x, cos, sin)[0, 0, 0]
    torch.testing.assert_close(
        rotated[:2],
        torch.tensor([2.0]).cos().repeat(2) * torch.tensor([1.0, 0.0])
        + torch.tensor([2.0]).sin().repeat(2) * torch.tensor([0.0, 1.0]),
    )
    torch.testing.assert_close(rotated[2:], torch.tensor([1.0, 0.0, 1.0, 0.0]))


def test_attention_depends_on_distance_in_time_alone():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 4, 1, 12, generator=generator)

    def score(at_q: int, at_k: int) -> torch.Tensor:
        rotated_q = apply_rope(q, *rope_table(torch.tensor([at_q]), (2, 2), 12, 100.0))
        rotated_k = apply_rope(k, *rope_table(torch.tensor([at_k]), (2, 2), 12, 100.0))
        return (rotated_q * rotated_k).sum()

    torch.testing.assert_close(score(5, 3), score(17, 15))


def test_tokens_of_a_latent_are_told_apart_by_row_and_column():
    cos, sin = rope_table(torch.tensor([0]), (2, 3), 12, 100.0)
    tables = torch.cat([cos, sin], dim=-1)[0, :, 0]
    assert len({tuple(row.tolist()) for row in tables}) == 6
