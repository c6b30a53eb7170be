"""MultiDiscrete, Dict, named and normalised actions: answers known in advance."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from cfworld.errors import ActionError, ConfigError
from cfworld.prompts import ActionConfig, ActionPart, PromptEncoder, TextConfig
from cfworld.prompts.base import on_host

DIM, FRAMES = 8, 4
NAMES = ["stay", "move left", "move right"]


def prompts(**settings: Any) -> PromptEncoder:
    torch.manual_seed(0)
    return ActionConfig(**settings).prompts(DIM, FRAMES)


def hands() -> PromptEncoder:
    """Columns: 2 of the keyboard, 2 of the mouse, 1 of the move."""
    parts = {
        "mouse": ActionPart(low=[-1.0, -1.0], high=[1.0, 1.0]),
        "keyboard": ActionPart(multi=[2, 3]),
        "move": ActionPart(num_actions=3, names=NAMES),
    }
    return prompts(parts=parts)


def test_a_token_of_several_components_is_their_sum_plus_its_place():
    encoder: Any = prompts(multi=[2, 3])
    tokens = encoder(torch.tensor([[[1, 2]] * FRAMES]))
    expected = encoder.actions.weight[1] + encoder.actions.weight[2 + 2] + encoder.positions
    torch.testing.assert_close(tokens[0], expected)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([[1, 3]], "got 3 as component 1 of row 0's action; expected integers from 0 to 2"),
        ([[-1, 0]], "got -1 as component 0"),
        ([[1.0, 2.0]], "expected integers"),
        ([1, 2], r"shape \(2,\); expected \(1, 2\) .one per row, for the whole step. or \(1, 4, 2\)"),
        (["left"], "expected numbers"),
    ],
)
def test_wrong_components_are_explained(actions: Any, message: str):
    with pytest.raises(ActionError, match=message):
        prompts(multi=[2, 3]).check(actions, 1, FRAMES)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["move left"], [[1] * 4]),
        (["  Move   LEFT "], [[1] * 4]),
        ([["stay", "move right", "stay", "stay"]], [[0, 2, 0, 0]]),
        (np.array(["move right"]), [[2] * 4]),
        (np.array(["move right"], dtype=object), [[2] * 4]),
        ([["move left", 0, 2, "stay"]], [[1, 0, 2, 0]]),
    ],
)
def test_names_stand_for_numbers(given: Any, expected: list[list[int]]):
    encoder = prompts(num_actions=3, names=NAMES)
    assert encoder.check(given, 1, FRAMES).tolist() == expected


def test_a_name_may_be_an_array_of_no_axes():
    encoder = prompts(num_actions=3, names=NAMES)
    assert encoder.check(np.array("move right"), None, FRAMES).tolist() == [[2] * 4]
    with pytest.raises(ActionError, match="got action 'jump'"):
        encoder.check(np.array("jump"), None, FRAMES)


def test_an_unknown_name_is_answered_with_the_names_that_there_are():
    with pytest.raises(ActionError, match="got action 'jump'; expected one of 'stay', 'move left', 'move right', or"):
        prompts(num_actions=3, names=NAMES).check(["jump"], 1, FRAMES)
    with pytest.raises(ActionError, match="expected integers from 0 to 2: these actions have no names"):
        prompts(num_actions=3).check(["jump"], 1, FRAMES)


@pytest.mark.parametrize("names", [["stay"], ["stay", "go", "GO "], ["stay", "go", " "]])
def test_names_that_do_not_tell_actions_apart_are_refused(names: list[str]):
    with pytest.raises(ConfigError, match="names"):
        ActionConfig(num_actions=3, names=names)


def test_a_single_row_needs_no_axis_for_rows():
    encoder = prompts(num_actions=3, names=NAMES)
    assert encoder.check(2, None, FRAMES).tolist() == [[2] * 4]
    assert encoder.check("stay", None, FRAMES).tolist() == [[0] * 4]
    assert encoder.check([0, 1, 2, 0], None, FRAMES).tolist() == [[0, 1, 2, 0]]
    with pytest.raises(
        ActionError, match=r"an action of shape \(3,\); expected \(\) .one, .* or \(4,\) .one per frame"
    ):
        encoder.check([0, 1, 2], None, FRAMES)
    box = prompts(low=[-1.0] * FRAMES, high=[1.0] * FRAMES)
    assert box.check(np.eye(FRAMES), None, FRAMES)[0].tolist() == np.eye(FRAMES).tolist()


def test_statistics_bring_the_training_data_to_zero_mean_and_unit_deviation():
    encoder: Any = prompts(low=[-10.0, 0.0], high=[10.0, 4.0], mean=[2.0, 1.0], std=[4.0, 0.5])
    assert encoder.normalised(torch.tensor([[2.0, 1.0], [6.0, 2.0], [-10.0, 0.0]])).tolist() == [
        [0, 0],
        [1, 2],
        [-3, -2],
    ]
    with pytest.raises(ActionError, match=r"expected \[-10, 10\]"):
        encoder.check([[11.0, 0.0]], 1, FRAMES)


@pytest.mark.parametrize("wrong", [{"mean": [0.0]}, {"mean": [0.0, 0.0], "std": [1.0, 0.0]}, {"std": [1.0, 1.0]}])
def test_statistics_that_cannot_normalise_are_refused(wrong: dict[str, list[float]]):
    with pytest.raises(ConfigError, match=r"expected (one of each|finite numbers)"):
        prompts(low=[-1.0, -1.0], high=[1.0, 1.0], **wrong)


def test_parts_lie_side_by_side_in_the_order_of_their_names():
    action = {"mouse": [0.5, -0.5], "move": "move right", "keyboard": [1, 2]}
    checked = hands().check(action, None, FRAMES)
    assert checked.tolist() == [[[1, 2, 0.5, -0.5, 2]] * FRAMES]
    assert torch.equal(hands().check(checked, 1, FRAMES), checked), "what was checked can be checked again"


def test_every_part_brings_its_own_tokens():
    encoder: Any = hands()
    checked = encoder.check({"mouse": [0.5, -0.5], "move": 2, "keyboard": [1, 2]}, None, FRAMES)
    tokens = encoder(checked)
    assert tokens.shape == (1, 3 * FRAMES, DIM)
    move = encoder.parts["move"]
    assert torch.equal(tokens[:, 2 * FRAMES :], move(torch.full((1, FRAMES), 2)))
    nothing = encoder(checked, torch.tensor([True]))
    assert torch.equal(nothing[0, 2 * FRAMES :], move.null + move.positions)


def test_parts_are_given_per_step_or_per_frame_or_as_lists_of_mappings():
    encoder = hands()
    mouse = [[0.0, 0.1 * frame] for frame in range(FRAMES)]
    one = encoder.check({"mouse": mouse, "move": 0, "keyboard": [1, 2]}, None, FRAMES)
    each = encoder.check([{"mouse": m, "move": "stay", "keyboard": [1, 2]} for m in mouse], None, FRAMES)
    assert torch.equal(one, each)
    rows = encoder.check([[{"mouse": m, "move": 0, "keyboard": [1, 2]} for m in mouse]] * 2, 2, FRAMES)
    assert torch.equal(rows, one.repeat(2, 1, 1))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (
            {"mouse": [0, 0], "move": 0},
            r"got an action with \['mouse', 'move'\]; expected .*'keyboard', 'mouse', 'move'",
        ),
        ({"mouse": [0, 2], "move": 0, "keyboard": [0, 0]}, r"mouse: got 2 as component 1 .*expected \[-1, 1\]"),
        ({"mouse": [0, 0], "move": "jump", "keyboard": [0, 0]}, "move: got action 'jump'; expected one of 'stay'"),
        ([{"move": 0}, {"mouse": 1}], "different names"),
        (7, r"shape \(\); expected \(5,\) .*; or a mapping with \['keyboard'"),
        (np.array([0.5, 0, 0, 0, 0]), "got 0.5 for a discrete action; expected a whole number"),
        (np.array([0, 3.0, 0, 0, 0]), "keyboard: got 3 as component 1"),
    ],
)
def test_a_wrong_mapping_is_explained(action: Any, message: str):
    with pytest.raises(ActionError, match=message):
        hands().check(action, None, FRAMES)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_actions": 3, "multi": [2]},
        {"low": [0.0], "high": [1.0], "text": TextConfig(max_length=3)},
        {"num_actions": 3, "parts": {"a": ActionPart(num_actions=2)}},
        {"names": ["a"], "parts": {"a": ActionPart(num_actions=2)}},
        {"multi": [2], "names": ["a"]},
    ],
)
def test_none_or_several_kinds_at_once_are_refused(settings: dict[str, Any]):
    with pytest.raises(ConfigError):
        ActionConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": [-1.0]}, "got 1 low and 0 high bounds"),
        ({"low": [-math.inf], "high": [math.inf]}, r"got bounds \[-inf, inf\] for component 0; expected finite"),
        ({"low": [0.0, 1.0], "high": [1.0, 0.0]}, r"got bounds \[1.0, 0.0\] for component 1"),
        ({"low": [0.0], "high": [1.0], "mean": [0.5]}, "got 1 means and 0 standard deviations for 1 components"),
        ({"num_actions": 2, "high": [1.0]}, "got high beside actions of kind discrete"),
        ({"multi": [2], "mean": [0.5], "std": [0.1]}, "got mean, std beside actions of kind multi_discrete"),
        ({"parts": {"a": ActionPart(num_actions=2)}, "high": [1.0]}, "got high beside actions of kind dict"),
    ],
)
def test_bounds_and_statistics_are_held_against_each_other_before_anything_is_built(
    settings: dict[str, Any], message: str
):
    with pytest.raises(ConfigError, match=message):
        ActionConfig(**settings)


def test_names_and_statistics_do_not_tell_actions_apart_but_statistics_are_settings():
    bare, named = ActionConfig(num_actions=3), ActionConfig(num_actions=3, names=NAMES)
    assert bare == named
    assert bare.settings() == named.settings() == {"num_actions": 3, "low": [], "high": []}
    box = ActionConfig(low=[0.0], high=[1.0])
    measured = ActionConfig(low=[0.0], high=[1.0], mean=[0.5], std=[0.1])
    assert box == measured
    assert box.settings() != measured.settings()
    assert box.with_statistics_of(measured).settings() == measured.settings()
    assert measured.with_statistics_of(box).settings() == measured.settings()
    assert ActionConfig(low=[0.0], high=[2.0]).with_statistics_of(measured).std == []


def test_a_mapping_is_on_the_host_if_all_of_it_is():
    away = torch.zeros(1, device="meta")
    assert on_host({"a": [1], "b": torch.zeros(1)})
    assert not on_host({"a": [1], "b": away})
