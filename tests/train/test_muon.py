import pytest
import torch
from torch import nn

from cfworld.precision import fast_precision
from cfworld.train.muon import Muon, orthogonalized


@pytest.mark.parametrize("shape", [(8, 20), (20, 8), (16, 16)])
def test_singular_values_come_near_one_and_singular_vectors_stay(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    brought = u.T @ orthogonalized(matrix).float() @ vh.T
    values = brought.diagonal()
    assert values.min() > 0.6
    assert values.max() < 1.3
    assert (brought - values.diag()).abs().max() < (0.05 if fast_precision("cpu") == "bf16" else 1e-4)


def test_an_update_has_the_size_of_adamw_s() -> None:
    """About 0.2 in root mean square, for the learning rates of AdamW to fit."""
    parameter = nn.Parameter(torch.zeros(64, 64))
    parameter.grad = 100 * torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    Muon([parameter], lr=1.0, weight_decay=0.0).step()
    assert parameter.square().mean().sqrt().item() == pytest.approx(0.2, abs=0.05)


def test_it_moves_as_pytorch_s_own_within_the_rounding_of_bfloat16() -> None:
    torch_muon = pytest.importorskip("torch.optim._muon").Muon
    ours, theirs = (nn.Parameter(torch.ones(12, 20)) for _ in range(2))
    pair = (
        Muon([ours], lr=0.01, weight_decay=0.1),
        torch_muon([theirs], lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        ours.grad = torch.randn(12, 20, generator=generator)
        theirs.grad = ours.grad.clone()
        for optimizer in pair:
            optimizer.step()
    assert (ours - theirs).abs().max() < 0.001
    assert (ours - 1).abs().max() > 0.01
