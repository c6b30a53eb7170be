"""What an action costs is how probably one dies before long, if one goes on with it."""

import pytest
import torch
from torch import Tensor, nn

from cfworld.agents.costs import Costs, costs_loss, worth
from cfworld.agents.futures import Futures


def telling(hazards: list[list[float]]) -> Costs:
    """Costs that tell these hazards, one list per action, whatever they see."""
    told = torch.tensor(hazards)
    costs = Costs(nn.Identity(), 2, 4, *told.shape)
    last = costs.head[-1]
    assert isinstance(last, nn.Linear)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(told.logit().flatten())
    return costs


def latents_only(latents: Tensor, last: Tensor) -> Tensor:
    del last
    return latents.float()


def loss_of(costs: Costs, futures: Futures, row: int, time: int) -> float:
    return costs_loss(costs, futures, torch.tensor([row]), torch.tensor([time]), latents_only).item()


def test_the_cost_of_an_action_is_the_probability_of_dying_in_one_of_the_steps() -> None:
    costs = telling([[0.5, 0.5], [0.1, 0.2], [0.001, 0.001]])
    assert costs(torch.zeros(1, 2))[0].tolist() == pytest.approx([0.75, 1 - 0.9 * 0.8, 1 - 0.999**2], abs=1e-5)


def test_costs_are_exact_where_they_are_small() -> None:
    assert telling([[1e-7, 2e-7]])(torch.zeros(1, 2)).item() == pytest.approx(3e-7, rel=1e-3)


def test_at_first_nothing_is_expected_to_cost_much() -> None:
    torch.manual_seed(0)
    costs = Costs(nn.Identity(), 2, 4, num_actions=3, num_steps=5)
    assert (costs(torch.zeros(1, 2)) < 0.25).all()


def test_only_steps_in_which_the_same_was_done_are_learned_from() -> None:
    """Action 1 was done twice, then 2; what it would have led to after that is not known."""
    futures = Futures(
        seen=torch.zeros(1, 4, 2).half(),
        last=torch.tensor([[0, 1, 1, 2]]),
        hazard=torch.tensor([[0.5, 0.5, 1.0]]),
    )
    even = telling([[0.5] * 3, [0.5] * 3, [0.5] * 3])
    assert loss_of(even, futures, 0, 0) == pytest.approx(0.6931, abs=1e-4)
    sure = telling([[0.9] * 3, [0.5, 0.5, 0.001], [0.9, 0.9, 0.9]])
    assert loss_of(sure, futures, 0, 0) == pytest.approx(0.6931, abs=1e-4)
    assert loss_of(sure, futures, 0, 2) == pytest.approx(-torch.tensor(0.9).log().item(), abs=1e-4)


def test_the_cost_is_the_probability_of_dying_where_dreams_of_one_moment_differ() -> None:
    """Half of those who see this are hit by one fireball, which lasts for two steps."""
    torch.manual_seed(0)
    costs = Costs(nn.Sequential(nn.Linear(2, 8), nn.ReLU()), 8, 8, num_actions=1, num_steps=2)
    futures = Futures(
        seen=torch.ones(2, 3, 2).half(), last=torch.zeros(2, 3).long(), hazard=torch.tensor([[0.9, 0.9], [0.0, 0.0]])
    )
    optimizer = torch.optim.Adam(costs.parameters(), 1e-2)
    for _ in range(500):
        optimizer.zero_grad()
        costs_loss(costs, futures, torch.tensor([0, 1]), torch.tensor([0, 0]), latents_only).backward()
        optimizer.step()
    assert costs(torch.ones(1, 2)).item() == pytest.approx((1 - 0.1**2) / 2, abs=0.01)


def test_hazards_that_were_told_are_learned() -> None:
    torch.manual_seed(0)
    costs = Costs(nn.Sequential(nn.Linear(2, 16), nn.ReLU()), 16, 16, num_actions=2, num_steps=2)
    futures = Futures(
        seen=torch.tensor([[[1.0, 0.0]] * 3, [[0.0, 1.0]] * 3]).half(),
        last=torch.tensor([[0, 0, 0], [1, 1, 1]]),
        hazard=torch.tensor([[0.3, 0.1], [0.0, 0.2]]),
    )
    optimizer = torch.optim.Adam(costs.parameters(), 1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        costs_loss(costs, futures, torch.tensor([0, 1]), torch.tensor([0, 0]), latents_only).backward()
        optimizer.step()
    found = costs.logits(futures.seen[:, 0].float()).sigmoid()
    assert found[0, 0].tolist() == pytest.approx([0.3, 0.1], abs=0.01)
    assert found[1, 1].tolist() == pytest.approx([0.0, 0.2], abs=0.01)


def test_the_last_action_is_kept_unless_another_is_cheaper_by_more_than_the_margin() -> None:
    costs = torch.tensor([[0.9, 0.25, 0.20]]).expand(4, 3)
    last = torch.tensor([1, 2, 0, -1])
    assert worth(costs, last, margin=0.06).argmax(dim=1).tolist() == [1, 2, 2, 2]
    assert worth(costs, last, margin=0.04).argmax(dim=1).tolist() == [2, 2, 2, 2]


def test_worth_is_less_by_the_cost_and_more_by_the_margin_for_who_goes_on() -> None:
    costs = torch.tensor([[0.5, 0.25, 0.125]]).expand(3, 3)
    found = worth(costs, torch.tensor([2, 0, -1]), margin=0.5)
    assert found.tolist() == [[-0.5, -0.25, 0.375], [-0.5, -0.25, -0.125], [-0.5, -0.25, -0.125]]
