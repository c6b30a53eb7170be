"""Balance between the positions of a latent: equal shares at 1, none at 0, and one level of the sum."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cfworld.errors import ConfigError
from cfworld.train.forcing.spatial_balance import SpatialBalance
from cfworld.train.run_state import check_config
from cfworld.train.training_run import step_generator
from tests.train.resuming import assert_resumes_equally
from tests.train.test_consistency import stage as init_stage
from tests.train.test_teacher import stage as teacher_stage


def errors(*sizes: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Five latents of two channels whose positions are off by these, and one of which nothing is known."""
    off = torch.tensor(sizes).view(1, 1, 1, -1).expand(6, 2, 1, -1).clone()
    off[3] = 1e6
    return off, torch.arange(6) != 3


def balanced(exponent: float, *sizes: float) -> SpatialBalance:
    balance = SpatialBalance(exponent, (1, len(sizes)))
    for _ in range(3):
        balance.add(*errors(*sizes))
    return balance


def shares(balance: SpatialBalance) -> list[float]:
    loss = balance.weights() * balance.mean_squares
    return (loss / loss.sum()).flatten().tolist()


def test_no_position_is_favoured_before_the_first_step():
    assert torch.equal(SpatialBalance(1.0, (2, 3)).weights(), torch.ones(2, 3))


def test_an_exponent_of_0_leaves_all_as_it_is():
    assert torch.equal(balanced(0.0, 1.0, 2.0, 4.0).weights(), torch.ones(1, 3))


def test_an_exponent_of_1_gives_all_positions_the_same_share():
    assert shares(balanced(1.0, 1.0, 2.0, 4.0)) == pytest.approx([1 / 3] * 3)


def test_an_exponent_of_one_half_makes_a_position_weigh_as_its_root_mean_square():
    assert shares(balanced(0.5, 1.0, 2.0, 5.0)) == pytest.approx([1 / 8, 2 / 8, 5 / 8])


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_the_sum_keeps_its_level(exponent: float):
    squares = balanced(exponent, 1.0, 2.0, 4.0).weights() * torch.tensor([1.0, 4.0, 16.0])
    assert squares.mean().item() == pytest.approx((1 + 4 + 16) / 3)


def test_a_position_without_any_error_weighs_no_more_than_one_with_a_thousandth_of_the_mean():
    weights = balanced(1.0, 0.0, 1.0).weights().flatten()
    assert (weights[0] / weights[1]).item() == pytest.approx(2.0 / 1e-3)


def test_the_first_steps_are_averaged_and_later_ones_fade_in():
    balance = SpatialBalance(1.0, (1, 1))
    for size in (1.0, 3.0):
        balance.add(*errors(size))
    assert balance.mean_squares.item() == pytest.approx(5.0)
    balance.steps = 10_000
    balance.add(*errors(105**0.5))
    assert balance.mean_squares.item() == pytest.approx(6.0)


def test_it_survives_saving():
    balance, other = balanced(0.5, 1.0, 2.0), SpatialBalance(0.5, (1, 2))
    other.load_state_dict(balance.state_dict())
    balance.add(*errors(3.0, 1.0))
    other.add(*errors(3.0, 1.0))
    assert torch.equal(balance.weights(), other.weights())


@pytest.mark.parametrize("exponent", [-0.1, 1.1])
def test_another_exponent_is_refused(exponent: float):
    with pytest.raises(ConfigError, match=rf"0 to 1; got {exponent}"):
        SpatialBalance(exponent, (1, 1))


STAGES = pytest.mark.parametrize("make", [teacher_stage, init_stage], ids=["teacher", "init"])


@STAGES
def test_without_a_balance_nothing_is_weighed(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    stage = make()
    monkeypatch.setattr(stage.balance, "weights", lambda: pytest.fail("weighed"))
    batch = stage.batch(0)
    config = stage.config
    total, metrics = stage.loss(batch, step_generator(0, 0))
    plain = metrics.get("flow", metrics.get("distance"))
    heads = config.reward_weight * metrics["reward"] + config.hazard_weight * metrics["hazard"]
    assert total.item() == pytest.approx((plain + heads).item())


def loss(stage: Any) -> float:
    return stage.loss(stage.batch(0), step_generator(0, 0))[0].item()


@STAGES
def test_a_stage_s_loss_depends_on_the_weights(make: Callable[..., Any]):
    plain, favoured, other = (make(spatial_balance=exponent) for exponent in (0.0, 1.0, 1.0))
    for stage, column in ((favoured, 0), (other, 5)):
        stage.balance.mean_squares[:, column] = 1e-3
    assert len({loss(plain), loss(favoured), loss(other)}) == 3


@STAGES
def test_a_step_is_weighed_by_those_before_it(make: Callable[..., Any]):
    plain, balanced = (make(spatial_balance=exponent) for exponent in (0.0, 1.0))
    assert loss(plain) == loss(balanced)
    assert torch.equal(plain.balance.weights(), torch.ones(8, 8))
    assert balanced.balance.weights().unique().numel() == 64


@STAGES
def test_a_resumed_stage_has_the_same_weights(make: Callable[..., Any], tmp_path: Path):
    assert_resumes_equally(partial(make, spatial_balance=0.5), tmp_path, steps=3)


@STAGES
def test_a_stage_goes_on_from_a_checkpoint_that_knew_no_balance(make: Callable[..., Any]):
    stage, later = make(), make()
    loss(stage)
    state = {name: value for name, value in stage.state_dict().items() if name != "balance"}
    later.load_state_dict(state)
    assert later.balance.steps == 0


def test_a_run_that_knew_no_balance_goes_on_without_one(tmp_path: Path):
    check_config({"name": "init"}, {"name": "init", "spatial_balance": 0.0}, tmp_path, 0)
    with pytest.raises(ConfigError, match=r"spatial_balance: 0\.0 -> 0\.5"):
        check_config({"name": "init"}, {"name": "init", "spatial_balance": 0.5}, tmp_path, 0)


@STAGES
def test_a_stage_refuses_another_exponent(make: Callable[..., Any]):
    with pytest.raises(ConfigError, match=r"spatial_balance must lie in 0 to 1; got 2"):
        make(spatial_balance=2.0)
