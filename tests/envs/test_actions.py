"""What environments offer and take as actions: every kind, for a step and per frame, one row and many."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from cfworld import World
from cfworld.envs.actions import one_action, row_actions
from cfworld.envs.spaces import world_action_space
from cfworld.errors import ActionError
from tests.toy import ACTIONS, KINDS, toy_world

FRAMES = 4
WORLDS = {kind: toy_world(actions=actions) for kind, actions in KINDS.items()}


@pytest.mark.parametrize(
    ("kind", "once", "chunk"),
    [
        ("discrete", spaces.Discrete(3), spaces.MultiDiscrete([3] * 4)),
        ("multi", spaces.MultiDiscrete([2, 2, 3]), spaces.MultiDiscrete(np.array([[2, 2, 3]] * 4))),
        (
            "box",
            spaces.Box(np.array([-1, 0], np.float32), np.array([1, 2], np.float32)),
            spaces.Box(np.array([[-1, 0]] * 4, np.float32), np.array([[1, 2]] * 4, np.float32)),
        ),
    ],
)
def test_a_space_is_that_of_one_action_or_of_one_per_frame(kind: str, once: spaces.Space, chunk: spaces.Space) -> None:
    assert world_action_space(KINDS[kind]) == once
    assert world_action_space(KINDS[kind], FRAMES) == chunk


def test_a_dict_space_has_the_spaces_of_its_parts() -> None:
    space, chunks = (world_action_space(KINDS["dict"], num_frames) for num_frames in (None, FRAMES))
    assert isinstance(space, spaces.Dict)
    assert isinstance(chunks, spaces.Dict)
    assert list(space.spaces) == ["keyboard", "mouse", "move", "say"]
    assert space["keyboard"] == spaces.MultiDiscrete([2, 2, 3])
    assert space["say"] == world_action_space(KINDS["text"])
    assert chunks["move"] == spaces.MultiDiscrete([3] * 4)
    assert space.contains({**ACTIONS["dict"], "move": 2, "keyboard": np.array([1, 0, 2]), "mouse": np.zeros(2, "f4")})


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_frames", [None, FRAMES])
def test_every_element_of_the_space_is_taken(kind: str, num_frames: int | None) -> None:
    space = world_action_space(KINDS[kind], num_frames)
    space.seed(0)
    for _ in range(3):
        action = space.sample()
        taken = one_action(WORLDS[kind], action)
        assert taken.shape[:2] == (1, FRAMES)
        if num_frames is None:
            assert torch.equal(taken, taken[:, :1].expand_as(taken))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("num_frames", [None, FRAMES])
def test_rows_of_a_batched_space_are_the_rows_one_by_one(kind: str, num_frames: int | None) -> None:
    batched = batch_space(world_action_space(KINDS[kind], num_frames), FRAMES)
    batched.seed(0)
    actions: Any = batched.sample()
    together = row_actions(WORLDS[kind], actions, FRAMES)
    for row in range(FRAMES):
        own = {name: part[row] for name, part in actions.items()} if kind == "dict" else actions[row]
        assert torch.equal(together[row], one_action(WORLDS[kind], own)[0])


def test_names_are_taken_for_the_step_and_per_frame() -> None:
    world = WORLDS["discrete"]
    assert one_action(world, "move left").tolist() == [[1] * 4]
    assert one_action(world, ["stay", "stay", "move left", 2]).tolist() == [[0, 0, 1, 2]]
    assert row_actions(world, ["stay", "move right"], 2).tolist() == [[0] * 4, [2] * 4]
    assert row_actions(world, [["stay"] * 4, ["move right"] * 4], 2).tolist() == [[0] * 4, [2] * 4]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ("jump", "got action 'jump'; expected one of 'stay', 'move left', 'move right', or integers from 0 to 2"),
        ([0, 1], r"got an action of shape \(2,\); expected \(\) .one, for the whole step. or \(4,\) .one per frame"),
        (3, "expected integers from 0 to 2"),
        (None, "expected numbers"),
    ],
)
def test_a_wrong_action_is_answered_with_what_there_is(action: Any, message: str) -> None:
    with pytest.raises(ActionError, match=message):
        one_action(WORLDS["discrete"], action)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(ActionError, match=r"expected \(3,\) .one per row"):
        row_actions(WORLDS["discrete"], [0, 1], 3)


def test_values_on_another_device_may_be_taken_on_trust() -> None:
    world: World = WORLDS["multi"]
    with pytest.raises(ActionError):
        row_actions(world, torch.full((1, 3), 7), 1, look=False)
    away = torch.zeros(1, 3, dtype=torch.int64, device="meta")
    assert row_actions(world, away, 1, look=False).shape == (1, FRAMES, 3)
