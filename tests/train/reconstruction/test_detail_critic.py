"""The critic of detail: a fine and a coarse judgement, of which one knows the latents."""

import torch

from cfworld.train.reconstruction.detail_critic import DetailCritic


def critic() -> DetailCritic:
    torch.manual_seed(0)
    return DetailCritic(3, 2, width=4).eval()


def blocks() -> tuple[torch.Tensor, torch.Tensor]:
    """Two frames, and their latents."""
    torch.manual_seed(1)
    return torch.randn(2, 3, 16, 16), torch.randn(2, 2, 2, 2)


def test_there_is_one_judgement_for_small_patches_and_one_for_large_ones():
    fine, coarse = critic()(*blocks()).logits
    assert fine.shape == (2, 1, 4, 4)
    assert coarse.shape == (2, 1, 2, 2)


def test_only_the_coarse_judgement_knows_the_latents():
    made, (frames, latents) = critic(), blocks()
    here, there = made(frames, latents), made(frames, -latents)
    assert torch.equal(here.logits[0], there.logits[0])
    assert not torch.equal(here.logits[1], there.logits[1])
