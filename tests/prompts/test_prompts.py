from typing import Any

import numpy as np
import pytest
import torch

from cfworld.errors import ActionError, ConfigError
from cfworld.prompts import ContinuousPromptConfig, ContinuousPrompts, DiscretePromptConfig, DiscretePrompts


def discrete() -> DiscretePrompts:
    torch.manual_seed(0)
    return DiscretePrompts(DiscretePromptConfig(num_actions=3, dim=8, frames=4))


def continuous() -> ContinuousPrompts:
    torch.manual_seed(0)
    return ContinuousPrompts(ContinuousPromptConfig(low=[-1.0, 0.0], high=[1.0, 10.0], dim=8, frames=4))


def test_a_token_is_its_action_plus_its_place():
    encoder = discrete()
    tokens = encoder(torch.tensor([[0, 1, 2, 0]]))
    assert tokens.shape == (1, 4, 8)
    assert torch.equal(tokens[0], encoder.actions.weight[[0, 1, 2, 0]] + encoder.positions)


def test_any_number_of_leading_axes_is_encoded_alike():
    encoder, actions = discrete(), torch.randint(0, 3, (2, 5, 4))
    assert torch.equal(encoder(actions)[1, 3], encoder(actions[1, 3]))


@pytest.mark.parametrize("encoder", [discrete(), continuous()])
def test_a_dropped_row_becomes_the_null_prompt_and_leaves_others_alone(encoder: Any):
    shape = (2, 3, 4) if isinstance(encoder, DiscretePrompts) else (2, 3, 4, 2)
    actions = torch.ones(shape, dtype=torch.int64 if len(shape) == 3 else torch.float32)
    dropped = torch.tensor([[True, False, False], [False, False, True]])
    tokens = encoder(actions, dropped)
    assert torch.equal(tokens[dropped], (encoder.null + encoder.positions).expand(2, 4, 8))
    assert torch.equal(tokens[~dropped], encoder(actions)[~dropped])


def test_continuous_bounds_are_scaled_to_plus_and_minus_one():
    encoder = continuous()
    encoder.network = torch.nn.Sequential(torch.nn.Identity())
    actions = torch.tensor([[-1.0, 0.0], [1.0, 10.0], [0.0, 5.0], [0.5, 2.5]])
    assert encoder.embed(actions).tolist() == [[-1, -1], [1, 1], [0, 0], [0.5, -0.5]]


def test_gradients_reach_every_parameter():
    for encoder, actions in (
        (discrete(), torch.tensor([[0, 1, 2, 0]] * 2)),
        (continuous(), torch.rand(2, 4, 2)),
    ):
        encoder(actions, torch.tensor([True, False])).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_another_number_of_frames_is_refused():
    with pytest.raises(ActionError, match="for 1 frames; expected 4"):
        discrete()(torch.zeros(2, 1, dtype=torch.int64))


@pytest.mark.parametrize(
    "actions",
    [
        [0, 2],
        (0, 2),
        np.array([0, 2]),
        np.array([0, 2], np.int32),
        np.array([0, 2], np.uint16),
        np.array([0, 2], ">i8"),
        np.array([0, 2], ">u2"),
        np.array([0, 2], object),
        [np.array([0] * 4, object), np.array([2] * 4, object)],
        torch.tensor([0, 2]),
    ],
)
def test_one_action_per_row_is_repeated_over_the_frames(actions: Any):
    checked = discrete().check(actions, batch=2, frames=4)
    assert checked.dtype == torch.int64
    assert checked.tolist() == [[0] * 4, [2] * 4]


def test_an_action_per_frame_stays():
    assert discrete().check([[0, 1, 2, 0], [2, 2, 1, 1]], 2, 4).tolist() == [[0, 1, 2, 0], [2, 2, 1, 1]]
    actions = np.random.default_rng(0).random((2, 4, 2))
    assert np.array_equal(continuous().check(actions, 2, 4).numpy(), actions.astype(np.float32))


def test_checking_does_not_alias_or_change_what_it_was_given():
    actions = np.array([[0, 1, 2, 0]], dtype=np.int64)
    actions.flags.writeable = False
    assert discrete().check(actions, 1, 4).tolist() == actions.tolist()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 3], "got action 3; expected integers from 0 to 2"),
        ([-1, 0], "got action -1"),
        ([0.0, 1.0], "dtype torch.float64; expected integers"),
        ([float("nan"), 0], "expected integers"),
        ([True, False], "boolean"),
        (torch.tensor([True, False]), "boolean"),
        (1, "shape \\(\\); expected \\(2,\\)"),
        ([0], "shape \\(1,\\)"),
        ([[0, 1], [1, 2]], "shape \\(2, 2\\)"),
        ([[0, 1], [1]], "form no array"),
        (["left", "right"], "got text .left.; expected integers from 0 to 2"),
        ([None, None], "dtype object"),
        ([], "dtype torch.float64"),
        (np.array([2**63 + 1, 0], dtype=np.uint64), "got action"),
    ],
)
def test_a_wrong_discrete_action_is_explained(actions: Any, message: str):
    with pytest.raises(ActionError, match=message):
        discrete().check(actions, batch=2, frames=4)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([[0.0, float("nan")], [0, 0]], "NaN or infinite"),
        ([[0.0, float("inf")], [0, 0]], "NaN or infinite"),
        ([[0.0, 10.5], [0, 0]], "got 10.5 as component 1 of row 0's action; expected \\[0, 10\\]"),
        ([[0.0, 1.0], [-1.5, 0]], "got -1.5 as component 0 of row 1's action"),
        ([[0.0, 10.000001], [0, 0]], "got 10.000001 as component 1 of row 0's action; expected \\[0, 10\\]"),
        ([0.0, 1.0], "shape \\(2,\\); expected \\(2, 2\\)"),
        ([[0.0], [1.0]], "shape \\(2, 1\\)"),
        ([[False, True], [True, True]], "boolean"),
        (np.zeros((2, 2), complex), "dtype complex128"),
    ],
)
def test_a_wrong_continuous_action_is_explained(actions: Any, message: str):
    with pytest.raises(ActionError, match=message):
        continuous().check(actions, batch=2, frames=4)


def test_the_bounds_themselves_are_allowed():
    assert continuous().check([[-1, 0], [1, 10]], 2, 4).shape == (2, 4, 2)


def test_values_are_left_alone_when_only_the_shape_is_asked_for():
    assert discrete().check([7, 7], 2, 4, values=False).tolist() == [[7] * 4] * 2


@pytest.mark.parametrize(
    "settings",
    [
        {"low": [0.0], "high": [1.0, 2.0]},
        {"low": [], "high": []},
        {"low": [1.0], "high": [1.0]},
        {"low": [0.0], "high": [float("inf")]},
    ],
)
def test_bounds_that_cannot_normalise_are_refused(settings: dict[str, list[float]]):
    with pytest.raises(ConfigError, match=r"expected (one of each|finite low < high)"):
        ContinuousPromptConfig(dim=8, frames=4, **settings)


@pytest.mark.parametrize("name", ["num_actions", "dim", "frames"])
def test_sizes_below_one_are_refused(name: str):
    settings: dict[str, Any] = {"num_actions": 3, "dim": 8, "frames": 4, name: 0}
    with pytest.raises(ConfigError, match=name):
        DiscretePromptConfig(**settings)
