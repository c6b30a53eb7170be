"""The adversarial term: each loss moves its own network, and the balance makes both gradients equal."""

import torch
from torch import nn

from cfworld.train.adversary import AdversarialPair, PatchCritic, balance, hinge_loss, patch_weights


def pair() -> tuple[AdversarialPair, torch.Tensor]:
    torch.manual_seed(0)
    made = AdversarialPair(nn.Conv2d(3, 3, 1), PatchCritic(3, width=4))
    return made, torch.randn(2, 3, 16, 16)


def test_the_hinge_is_zero_for_a_sure_critic_and_one_for_an_undecided_one():
    assert hinge_loss(torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -2.0]), torch.ones(2)) == 0
    assert hinge_loss(torch.zeros(4), torch.zeros(4), torch.ones(4)) == 1


def test_patches_of_plain_floor_hardly_count():
    weights = torch.ones(1, 3, 4, 4)
    weights[..., 2:] = 5.0
    found = patch_weights(weights, torch.zeros(1, 1, 1, 2)).flatten()
    torch.testing.assert_close(found, torch.tensor([0.0, 2.0]), rtol=0, atol=1e-3)


def test_fooling_moves_the_tokenizer_and_not_the_critic():
    made, real = pair()
    made.fooled(made.vae(real), torch.full_like(real, 2.0)).backward()
    assert all(parameter.grad is None for parameter in made.critic.parameters())
    assert all(parameter.grad is not None for parameter in made.vae.parameters())


def test_criticism_moves_the_critic_and_not_the_tokenizer():
    made, real = pair()
    made.criticise(real, made.vae(real), torch.full_like(real, 2.0)).backward()
    assert all(parameter.grad is None for parameter in made.vae.parameters())
    assert all(parameter.grad is not None for parameter in made.critic.parameters())


def test_the_balance_is_the_ratio_of_the_gradients():
    weight = nn.Parameter(torch.tensor([3.0]))
    ratio = balance((6 * weight).sum(), (2 * weight).sum(), weight)
    torch.testing.assert_close(ratio, torch.tensor(3.0), rtol=1e-5, atol=1e-5)
    assert not ratio.requires_grad


def test_a_vanishing_adversarial_gradient_does_not_explode_the_balance():
    weight = nn.Parameter(torch.tensor([3.0]))
    assert balance(weight.sum(), (0 * weight).sum(), weight) == 100
