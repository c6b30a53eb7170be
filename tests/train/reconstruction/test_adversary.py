"""The adversarial term: each loss moves its own network, detail weighs, and the balance makes both gradients equal."""

import pytest
import torch
from torch import nn

from cfworld.train.reconstruction.adversary import AdversarialPair, balance, hinge_loss, patch_weights
from cfworld.train.reconstruction.detail_critic import DetailCritic

CHECKERS = torch.tensor([1.0, -1.0]).repeat(8, 4).roll(1, 0)
CHECKERS[1::2] *= -1


def pair() -> tuple[AdversarialPair, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    made = AdversarialPair(nn.Conv2d(3, 3, 1), DetailCritic(3, 2, width=4))
    return made, torch.randn(2, 3, 16, 16), torch.randn(2, 2, 2, 2)


def test_the_hinge_is_zero_for_a_sure_critic_and_one_for_an_undecided_one():
    assert hinge_loss(torch.tensor([1.0, 3.0]), torch.tensor([-1.0, -2.0]), torch.ones(2)) == 0
    assert hinge_loss(torch.zeros(4), torch.zeros(4), torch.ones(4)) == 1


@pytest.mark.parametrize("detailed", ["real", "made"])
def test_patches_of_plain_floor_hardly_count_whichever_block_has_the_detail(detailed: str):
    blocks = {"real": torch.zeros(1, 3, 8, 16), "made": torch.zeros(1, 3, 8, 16)}
    blocks[detailed][..., 8:] = CHECKERS
    found = patch_weights(blocks["real"], blocks["made"], (1, 2)).flatten()
    assert found.mean() == pytest.approx(1.0)
    assert found[0] < 0.25 * found[1]


def test_fooling_moves_the_tokenizer_and_not_the_critic():
    made, real, latents = pair()
    output = made.vae(real)
    criticism = made.criticise(real, output, latents)
    sum(made.fooled(output, latents, criticism)).backward()  # pyright: ignore[reportAttributeAccessIssue]
    assert all(parameter.grad is None for parameter in made.critic.parameters())
    assert all(parameter.grad is not None for parameter in made.vae.parameters())


def test_criticism_moves_the_critic_and_not_the_tokenizer():
    made, real, latents = pair()
    made.criticise(real, made.vae(real), latents).loss.backward()
    assert all(parameter.grad is None for parameter in made.vae.parameters())
    assert all(parameter.grad is not None for parameter in made.critic.parameters())


def test_features_of_real_blocks_have_no_distance_to_themselves():
    made, real, latents = pair()
    made.eval()
    criticism = made.criticise(real, made.vae(real), latents)
    assert made.fooled(real, latents, criticism)[1] == 0
    assert made.fooled(made.vae(real), latents, criticism)[1] > 0


def test_to_compile_the_pair_is_to_compile_the_tokenizer():
    made, _, _ = pair()
    called = []
    made.vae.compile = lambda **options: called.append(options)
    made.compile(dynamic=False)
    assert called == [{"dynamic": False}]


def test_the_balance_is_the_ratio_of_the_gradients():
    weight = nn.Parameter(torch.tensor([3.0]))
    ratio = balance((6 * weight).sum(), (2 * weight).sum(), weight)
    torch.testing.assert_close(ratio, torch.tensor(3.0), rtol=1e-5, atol=1e-5)
    assert not ratio.requires_grad


def test_a_vanishing_adversarial_gradient_does_not_explode_the_balance():
    weight = nn.Parameter(torch.tensor([3.0]))
    assert balance(weight.sum(), (0 * weight).sum(), weight) == 100


def test_the_balances_are_measured_at_first_and_then_followed_slowly():
    made, _, _ = pair()
    weight = nn.Parameter(torch.tensor([3.0]))

    def found(slope: float, steps: int) -> list[float]:
        terms = (2 * weight).sum(), (slope * weight).sum()
        return made.balanced((6 * weight).sum(), terms, weight, steps).tolist()

    assert found(1.0, 0) == pytest.approx([3 * 6, 6 * 3], rel=1e-5)
    assert found(2.0, 7) == pytest.approx([3 * 6, 6 * 6], rel=1e-5)
    assert found(2.0, 20) == pytest.approx([3 * 6, (0.8 * 6 + 0.2 * 3) * 6], rel=1e-5)
