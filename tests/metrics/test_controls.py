from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from cfworld.errors import ConfigError
from cfworld.metrics.controls import CONTROLS, ShuffledActions, make_control
from cfworld.metrics.rollouts import WorldLike
from cfworld.world import Start
from tests.toy import toy_world


@pytest.fixture(scope="module")
def world() -> WorldLike:
    return toy_world()


def start(seed: int) -> Start:
    rng = np.random.default_rng(seed)
    return Start(frames=rng.integers(0, 256, (8, 64, 64, 3)).astype(np.uint8), actions=rng.integers(0, 3, 8))


@pytest.mark.parametrize("name", CONTROLS)
def test_controls_have_the_interface_of_a_world(world: WorldLike, name: str):
    control = make_control(name, world)
    state, _ = control.initial(seeds=[1, 2, 3], starts=[start(i) for i in range(3)])
    state, output = control.step(state.select([0, 2]), np.zeros((2, 4), np.int64))
    assert output.frames.shape == (2, 4, 64, 64, 3)
    assert output.frames.dtype == torch.uint8
    assert output.hazard.shape == output.reward_frames.shape == (2, 4)
    assert output.terminated.shape == output.end_frame.shape == output.reward.shape == (2,)


def test_freeze_shows_the_last_real_frame_and_loop_all_of_them(world: WorldLike):
    for name, expected in (("freeze", [7] * 12), ("loop", [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3])):
        control = make_control(name, world)
        state, _ = control.initial(seeds=[1], starts=[start(0)])
        shown = []
        for _ in range(3):
            state, output = control.step(state, np.zeros((1, 4), np.int64))
            shown.append(output.frames[0].numpy())
        assert np.array_equal(np.concatenate(shown), start(0).frames[expected])


class Echo:
    """A world that tells which actions it got."""

    config = SimpleNamespace(actions=SimpleNamespace(num_actions=3), frames_per_step=4)
    tokenizer = None

    def initial(self, seeds: Any, starts: Any = None) -> tuple[Any, Any]:
        return None, None

    def step(self, state: Any, actions: Any, *, decode: bool = True) -> tuple[Any, Any]:
        return state, actions


def test_shuffled_actions_are_permuted_in_each_rows_own_way_for_good():
    control = ShuffledActions(Echo())
    state, _ = control.initial(seeds=range(30))
    actions = np.tile([0, 1, 2, 1], (30, 1))
    state, got = control.step(state, actions)
    assert (np.sort(got[:, :3], axis=1) == [0, 1, 2]).all()
    assert (got[:, 1] == got[:, 3]).all()
    assert len({tuple(row) for row in got.tolist()}) == 6
    assert np.array_equal(control.step(state, actions)[1], got)


def test_which_actions_are_mistaken_depends_on_the_seed_and_not_on_the_place_in_the_batch():
    control = ShuffledActions(Echo())
    actions = np.tile([0, 1, 2, 1], (6, 1))
    states = [control.initial(seeds=seeds)[0] for seeds in ([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1])]
    one, other = (control.step(state, actions)[1] for state in states)
    assert np.array_equal(one, other[::-1])


def test_shuffled_continuous_actions_are_mirrored_within_their_bounds():
    echo = Echo()
    echo.config = SimpleNamespace(actions=SimpleNamespace(num_actions=0, low=[-1.0, 0.0], high=[1.0, 4.0]))
    control = ShuffledActions(echo)
    state, _ = control.initial(seeds=range(40))
    _, got = control.step(state, np.tile(np.array([0.5, 1.0], np.float32), (40, 4, 1)))
    assert {tuple(row) for row in got[:, 0].tolist()} == {(0.5, 1.0), (-0.5, 1.0), (0.5, 3.0), (-0.5, 3.0)}


def test_an_unknown_control_is_refused(world: WorldLike):
    with pytest.raises(ConfigError, match="there is no control 'melt'"):
        make_control("melt", world)


def test_controls_that_show_their_starts_need_them(world: WorldLike):
    with pytest.raises(ConfigError, match="give `starts`"):
        make_control("freeze", world).initial(seeds=[1])
