"""Distribution matching: zero where the scores agree, the formula by hand, and a student that reaches its teacher."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cfworld.diffusion import denoised, interpolate
from cfworld.train.dmd import SIGMA_RANGE, critic_loss, dmd_direction, dmd_loss, score_sigma


def latents(*values: float) -> Tensor:
    """One row; each value is a latent of one element."""
    return torch.tensor(values)[None, :, None]


def test_the_gradient_is_zero_when_both_scores_agree():
    x, score = torch.randn(3, 2, 4, requires_grad=True), torch.randn(3, 2, 4)
    dmd_loss(x, dmd_direction(x, score, score)).backward()
    assert x.grad is not None
    assert x.grad.abs().max() == 0


def test_the_direction_by_hand():
    """mean |x - real| = (1 + 3) / 2 = 2, and fake - real = (4, 6)."""
    g = dmd_direction(latents(1.0, 3.0), latents(4.0, 6.0), latents(0.0, 0.0))
    assert g.flatten().tolist() == [2.0, 3.0]


def test_chunks_may_have_means_of_their_own():
    g = dmd_direction(latents(1.0, 3.0), latents(4.0, 6.0), latents(0.0, 0.0), num_chunks=2)
    assert g.flatten().tolist() == [4.0, 2.0]


def test_rows_have_means_of_their_own():
    x, fake, real = torch.tensor([[1.0], [10.0]]), torch.tensor([[1.0], [1.0]]), torch.zeros(2, 1)
    assert dmd_direction(x, fake, real).flatten().tolist() == pytest.approx([1.0, 0.1])


def test_a_row_that_the_teacher_leaves_as_it_is_gets_no_gradient():
    same = latents(1.0, 2.0)
    assert dmd_direction(same, same, same).abs().max() == 0
    for away in (1, -1):
        assert dmd_direction(same, same + away, same).abs().max() == 0


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_score_that_is_not_finite_is_not_taken_for_agreement(odd: float):
    """The loop then stops and says at which step."""
    x, fake = latents(1.0, 2.0), latents(3.0, 4.0)
    assert not dmd_direction(x, fake, latents(odd, 0.0)).isfinite().all()
    assert not dmd_direction(x, latents(odd, 0.0), fake).isfinite().all()


def test_the_gradient_of_the_loss_is_the_direction_over_the_number_of_elements():
    x, g = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4)
    loss = dmd_loss(x, g)
    loss.backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, g / 24)
    assert loss.item() == pytest.approx(0.5 * g.square().mean().item(), rel=1e-6)


def test_a_small_direction_moves_a_large_sample():
    """Beside 1000 float32 has steps of 6e-5; the direction comes, and its loss is computed, in float64."""
    x = latents(1000.0, 1000.0).requires_grad_()
    g = dmd_direction(x, latents(1e-5, 1e-5), latents(0.0, 0.0))
    assert g.dtype == torch.float64
    dmd_loss(x, g * 1000).backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == pytest.approx([5e-6, 5e-6], rel=1e-5)


def test_the_direction_carries_no_gradient():
    x, fake, real = (torch.randn(1, 1, 2, requires_grad=True) for _ in range(3))
    assert not dmd_direction(x, fake, real).requires_grad


def test_the_critic_is_right_when_it_predicts_the_noise_minus_the_sample_and_leaves_the_student_alone():
    x, eps = torch.randn(2, 1, 3, requires_grad=True), torch.randn(2, 1, 3)
    right = (eps - x).detach().requires_grad_()
    assert critic_loss(right, x, eps).item() == 0
    loss = critic_loss(right + 2, x, eps)
    loss.backward()
    assert loss.item() == pytest.approx(4.0)
    assert x.grad is None
    assert right.grad is not None


def test_the_scores_levels_are_uniform_then_shifted_then_clamped():
    """The median of the shifted law is s / (s + 1); unshifted, 2 % lie at each bound."""
    draws = score_sigma(20_000, 5.0, torch.Generator().manual_seed(0))
    assert draws.median().item() == pytest.approx(5 / 6, abs=0.01)
    assert (draws.min().item(), draws.max().item()) == pytest.approx(SIGMA_RANGE)
    plain = score_sigma(20_000, 1.0, torch.Generator().manual_seed(0))
    assert plain.mean().item() == pytest.approx(0.5, abs=0.01)
    for bound in SIGMA_RANGE:
        assert (plain == bound).float().mean().item() == pytest.approx(0.02, abs=0.005)


def gaussian_x0(x: Tensor, sigma: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """E[x0 | x_sigma] where x0 is Gaussian: its exact score."""
    s = sigma[:, None]
    gain = (1 - s) * std**2 / ((1 - s) ** 2 * std**2 + s**2)
    return mean + gain * (x - (1 - s) * mean)


def moved(student: list[Tensor], predict: Callable[[Tensor, Tensor, Tensor], Tensor], steps: int) -> None:
    """Train the mean and width of a Gaussian in one dimension, on rows of 64 draws that share a noise level."""
    draw = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(student, lr=0.05)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    for _ in range(steps):
        x = student[0] + student[1].exp() * torch.randn(8, 64, generator=draw)
        sigma, eps = score_sigma(8, 1.0, draw), torch.randn(8, 64, generator=draw)
        noisy = interpolate(x.detach(), eps, sigma)
        real = gaussian_x0(noisy, sigma, torch.tensor(2.0), torch.tensor(0.5))
        optimizer.zero_grad()
        dmd_loss(x, dmd_direction(x, predict(x, noisy, sigma), real)).backward()
        optimizer.step()
        schedule.step()


def test_a_gaussian_student_moves_onto_its_teacher():
    """Both scores are known exactly: the student's mean and width must become the teacher's, 2 and 0.5."""
    mean, log_std = torch.tensor(-1.0, requires_grad=True), torch.tensor(0.7, requires_grad=True)
    moved([mean, log_std], lambda _, x, s: gaussian_x0(x, s, mean.detach(), log_std.detach().exp()), 250)
    assert mean.item() == pytest.approx(2.0, abs=0.05)
    assert log_std.exp().item() == pytest.approx(0.5, abs=0.05)


def test_a_learnt_critic_leads_the_student_to_its_teacher_too():
    """The critic is a small network that knows of the student what its own loss on the samples tells it."""
    mean, log_std = torch.tensor(-1.0, requires_grad=True), torch.tensor(0.5).log().requires_grad_()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        critic = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.SiLU(), torch.nn.Linear(16, 1))
    critics = torch.optim.Adam(critic.parameters(), lr=0.02)

    def predict(x: Tensor, noisy: Tensor, sigma: Tensor) -> Tensor:
        eps = (noisy - (1 - sigma[:, None]) * x.detach()) / sigma[:, None]
        for _ in range(2):
            predicted = critic(torch.stack([noisy, sigma[:, None].expand_as(noisy)], dim=2))[..., 0]
            critics.zero_grad()
            critic_loss(predicted, x, eps).backward()
            critics.step()
        return denoised(noisy, predicted.detach(), sigma)

    moved([mean, log_std], predict, 250)
    assert mean.item() == pytest.approx(2.0, abs=0.2)
