"""Balance between the places of a latent: equal shares at 1, none at 0, and one level of the loss."""

import pytest
import torch

from cfworld.errors import ConfigError
from cfworld.train.position_balance import PositionBalance


def errors(*sizes: float) -> torch.Tensor:
    """Five latents of two channels whose places are off by these."""
    return torch.tensor(sizes).view(1, 1, 1, -1).expand(5, 2, 1, -1)


def balanced(exponent: float, *sizes: float) -> PositionBalance:
    balance = PositionBalance(exponent, (1, len(sizes)))
    for _ in range(3):
        balance.add(errors(*sizes))
    return balance


def shares(balance: PositionBalance) -> list[float]:
    loss = balance.weights() * balance.mean_squares
    return (loss / loss.sum()).flatten().tolist()


def test_no_place_is_favoured_before_the_first_step():
    assert torch.equal(PositionBalance(1.0, (2, 3)).weights(), torch.ones(2, 3))


def test_an_exponent_of_0_leaves_the_loss_as_it_is():
    assert torch.equal(balanced(0.0, 1.0, 2.0, 4.0).weights(), torch.ones(1, 3))


def test_an_exponent_of_1_gives_all_places_the_same_share():
    assert shares(balanced(1.0, 1.0, 2.0, 4.0)) == pytest.approx([1 / 3] * 3)


def test_an_exponent_of_one_half_makes_a_place_weigh_as_its_root_mean_square():
    assert shares(balanced(0.5, 1.0, 2.0, 5.0)) == pytest.approx([1 / 8, 2 / 8, 5 / 8])


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_loss_keeps_its_level(exponent: float):
    balance = balanced(exponent, 1.0, 2.0, 4.0)
    assert (balance.weights() * balance.mean_squares).mean().item() == pytest.approx((1 + 4 + 16) / 3)


def test_a_place_without_any_error_gets_a_finite_weight():
    assert balanced(1.0, 0.0, 1.0).weights().isfinite().all()


def test_the_first_steps_are_averaged_and_later_ones_fade_in():
    balance = PositionBalance(1.0, (1, 1))
    for size in (1.0, 3.0):
        balance.add(errors(size))
    assert balance.mean_squares.item() == pytest.approx(5.0)
    balance.steps = 10_000
    balance.add(errors(105**0.5))
    assert balance.mean_squares.item() == pytest.approx(6.0)


def test_it_survives_saving():
    balance, other = balanced(0.5, 1.0, 2.0), PositionBalance(0.5, (1, 2))
    other.load_state_dict(balance.state_dict())
    balance.add(errors(3.0, 1.0))
    other.add(errors(3.0, 1.0))
    assert torch.equal(balance.weights(), other.weights())


@pytest.mark.parametrize("exponent", [-0.1, 1.1])
def test_another_exponent_is_refused(exponent: float):
    with pytest.raises(ConfigError, match=rf"0 to 1; got {exponent}"):
        PositionBalance(exponent, (1, 1))
