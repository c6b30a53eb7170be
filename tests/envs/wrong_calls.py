"""Calls that nobody should make, drawn at random."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from cfworld.envs import PanoramaTwin, WorldEnv, WorldVectorEnv
from cfworld.errors import CfworldError
from cfworld.world import Ends
from tests.envs import wrong_values as wrong
from tests.toy import ACTIONS, KINDS, toy_world

__all__ = ["ENVIRONMENTS", "make_wrong_calls"]

REFUSED = (CfworldError, gym.error.Error)

Call = Callable[[Any, np.random.Generator], object]


def make_wrong_calls(name: str, count: int) -> Counter[str]:
    """Make wrong calls, with a right one after every 250, which must go as if nothing had been.

    Returns:
        How often each error came.
    """
    make, calls, action = ENVIRONMENTS[name]
    rng = np.random.default_rng(0)
    env, untouched = make(), make()
    for one in (env, untouched):
        one.reset(seed=0)
    errors: Counter[str] = Counter()
    for number in range(count):
        chosen = rng.integers(len(calls))
        try:
            answer = calls[chosen](env, rng)
        except REFUSED as error:
            errors[type(error).__name__] += 1
        except Exception as error:
            raise AssertionError(f"call {number} of kind {chosen} failed by {type(error).__name__}") from error
        else:
            raise AssertionError(f"call {number} of kind {chosen} was not refused: {answer!r}")
        if number % 250 == 0:
            for seen, expected in zip(env.step(action)[:4], untouched.step(action)[:4], strict=True):
                np.testing.assert_array_equal(np.asarray(seen), np.asarray(expected))
    return errors


WORLD = toy_world(ends=Ends.NEVER)
"""A toy world whose episodes do not end."""


def world_env() -> WorldEnv:
    """One row of it."""
    return WorldEnv(WORLD, horizon=1000)


def vector_env() -> WorldVectorEnv:
    """Two rows of it."""
    return WorldVectorEnv(2, WORLD, horizon=1000)


def tensor_env() -> WorldVectorEnv:
    """Two rows of it, in tensors."""
    return WorldVectorEnv(2, WORLD, horizon=1000, tensors=True)


def of_kind(kind: str) -> WorldEnv:
    """One row of a world whose actions are of another kind."""
    return WorldEnv(toy_world(ends=Ends.NEVER, actions=KINDS[kind]), horizon=1000)


def stepped_with(draw: Callable[[np.random.Generator], Any]) -> tuple[Call, ...]:
    """Its wrong actions, and arguments to make the rest."""
    return (lambda env, rng: env.step(draw(rng)), lambda env, rng: WorldEnv(WORLD, **wrong.wrong_argument(rng)))


COMMON: tuple[Call, ...] = (
    lambda env, rng: env.step(wrong.wrong_action(rng)),
    lambda env, rng: env.reset(seed=wrong.wrong_seed(rng)),
    lambda env, rng: env.reset(options=wrong.wrong_options(rng)),
)
ROWS: tuple[Call, ...] = (
    lambda env, rng: env.step(wrong.wrong_row_actions(rng)),
    lambda env, rng: env.reset(seed=wrong.wrong_row_seeds(rng)),
    lambda env, rng: env.reset(options=wrong.wrong_row_options(rng)),
    lambda env, rng: env.get_state(wrong.wrong_rows(rng)),
    lambda env, rng: env.frames(wrong.wrong_rows(rng)),
    lambda env, rng: env.set_state(wrong.wrong_snapshot(rng)),
    lambda env, rng: env.set_state(wrong.wrong_snapshot(rng), [0]),
    lambda env, rng: env.set_state(env.get_state(), wrong.wrong_rows(rng)),
    lambda env, rng: env.set_state(env.get_state([0] * int(rng.choice([1, 3])))),
    lambda env, rng: env.set_state(env.get_state(), [0, 0]),
    lambda env, rng: env.fork(wrong.wrong_count(rng), 0),
    lambda env, rng: env.fork(2, wrong.wrong_row(rng)),
    lambda env, rng: env.fork(2, 0, seeds=wrong.wrong_row_seeds(rng)),
    lambda env, rng: env.fork(2, 0, autoreset_mode=wrong.wrong_word(rng)),
    lambda env, rng: WorldVectorEnv(wrong.wrong_count(rng), WORLD),
    lambda env, rng: WorldVectorEnv(2, WORLD, **wrong.wrong_argument(rng, "autoreset_mode")),
)
ENVIRONMENTS: Mapping[str, tuple[Callable[[], Any], tuple[Call, ...], Any]] = {
    "world": (
        world_env,
        (
            *COMMON,
            lambda env, rng: env.set_state(wrong.wrong_snapshot(rng)),
            lambda env, rng: env.fork(wrong.wrong_count(rng)),
            lambda env, rng: env.fork(2, seeds=wrong.wrong_row_seeds(rng)),
            lambda env, rng: WorldEnv(WORLD, **wrong.wrong_argument(rng)),
        ),
        1,
    ),
    "twin": (PanoramaTwin, (*COMMON, lambda env, rng: env.step_ticks(wrong.wrong_action(rng))), 1),
    "vector": (vector_env, ROWS, [1, 2]),
    "vector of tensors": (tensor_env, ROWS, torch.tensor([1, 2])),
    "box": (lambda: of_kind("box"), stepped_with(wrong.wrong_box_action), ACTIONS["box"]),
    "multi": (lambda: of_kind("multi"), stepped_with(wrong.wrong_multi_action), ACTIONS["multi"]),
    "dict": (lambda: of_kind("dict"), stepped_with(wrong.wrong_dict_action), ACTIONS["dict"]),
}
"""How to make each kind of environment, the wrong calls that it can get, and a right action."""
