"""Calls that nobody should make, drawn at random.

As a program, `python -m tests.envs.wrong_calls NAME COUNT`, it makes them without the type checks of the test run, so
that what refuses them is the environment itself.
"""

import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from cfworld.envs import PanoramaTwin, WorldEnv
from cfworld.errors import CfworldError
from cfworld.world import Ends
from tests.toy import toy_world

__all__ = ["ENVIRONMENTS", "make_wrong_calls"]

REFUSED = (CfworldError, gym.error.Error)

Call = Callable[[Any, np.random.Generator], object]


def make_wrong_calls(name: str, count: int) -> Counter[str]:
    """Make wrong calls, with a right one after every 250, which must go as if nothing had been.

    Returns:
        How often each error came.
    """
    make, calls = ENVIRONMENTS[name]
    rng = np.random.default_rng(0)
    env, untouched = make(), make()
    for one in (env, untouched):
        one.reset(seed=0)
    errors: Counter[str] = Counter()
    for number in range(count):
        try:
            answer = calls[rng.integers(len(calls))](env, rng)
        except REFUSED as error:
            errors[type(error).__name__] += 1
        else:
            raise AssertionError(f"call {number} was not refused: {answer!r}")
        if number % 250 == 0:
            seen, expected = env.step(1), untouched.step(1)
            np.testing.assert_array_equal(seen[0], expected[0])
            assert seen[1:4] == expected[1:4]
    return errors


def world_env() -> WorldEnv:
    """A toy world whose episodes do not end."""
    return WorldEnv(toy_world(ends=Ends.NEVER), horizon=1000)


def wrong_action(rng: np.random.Generator) -> Any:
    """What is no action of `Discrete(3)`: of another type, shape, range or dtype, NaN, or ragged."""
    shape = tuple(rng.integers(0, 4, size=rng.integers(1, 4)))
    return _drawn(
        rng,
        lambda: int(rng.integers(3, 2**40)) * int(rng.choice([1, -1])),
        lambda: float(rng.normal()),
        lambda: rng.choice([math.nan, math.inf, -math.inf]),
        lambda: rng.normal(size=shape).astype(rng.choice(["float16", "float32", "float64"])),
        lambda: rng.integers(-5, 0, size=shape if math.prod(shape) else (1,)),
        lambda: rng.integers(0, 3, size=(int(rng.integers(5, 9)),)),
        lambda: torch.full((), float("nan")),
        lambda: torch.tensor(rng.random() < 0.5),
        lambda: bool(rng.random() < 0.5),
        lambda: None,
        lambda: _word(rng),
        lambda: _word(rng).encode(),
        lambda: {_word(rng): 1},
        lambda: {1},
        lambda: [[1], [1, 2]],
        lambda: complex(1, rng.normal()),
        lambda: object(),
        lambda: np.array([None]),
        lambda: np.datetime64("2020-01-01"),
    )


def wrong_seed(rng: np.random.Generator) -> Any:
    """What is no seed."""
    return _drawn(
        rng,
        lambda: -int(rng.integers(1, 2**40)),
        lambda: float(rng.normal()),
        lambda: math.nan,
        lambda: _word(rng),
        lambda: [int(rng.integers(5))],
        lambda: np.zeros(2),
        lambda: {},
        lambda: object(),
    )


def wrong_options(rng: np.random.Generator) -> Any:
    """What are no options of a reset."""
    return _drawn(
        rng,
        lambda: int(rng.integers(1, 9)),
        lambda: _word(rng),
        lambda: [_word(rng)],
        lambda: {_word(rng): 1},
        lambda: {int(rng.integers(9)): 1},
        lambda: {"start": int(rng.integers(5, 2**40))},
        lambda: {"start": -int(rng.integers(1, 9))},
        lambda: {"start": float(rng.normal())},
        lambda: {"start": object()},
        lambda: {"start": rng.normal(size=(2, 2))},
        lambda: {"start": True},
    )


def wrong_snapshot(rng: np.random.Generator) -> Any:
    """What is no snapshot."""
    return _drawn(rng, lambda: None, lambda: _word(rng), lambda: {}, lambda: rng.normal(size=3), lambda: object())


def _drawn(rng: np.random.Generator, *kinds: Callable[[], Any]) -> Any:
    return kinds[rng.integers(len(kinds))]()


def _word(rng: np.random.Generator) -> str:
    return "x" + "".join(chr(int(code)) for code in rng.integers(33, 1000, size=rng.integers(0, 5)))


COMMON: tuple[Call, ...] = (
    lambda env, rng: env.step(wrong_action(rng)),
    lambda env, rng: env.reset(seed=wrong_seed(rng)),
    lambda env, rng: env.reset(options=wrong_options(rng)),
)
ENVIRONMENTS: Mapping[str, tuple[Callable[[], Any], tuple[Call, ...]]] = {
    "world": (world_env, (*COMMON, lambda env, rng: env.set_state(wrong_snapshot(rng)))),
    "twin": (PanoramaTwin, (*COMMON, lambda env, rng: env.step_ticks(wrong_action(rng)))),
}
"""How to make each kind of environment, and the wrong calls that it can get."""


if __name__ == "__main__":
    print(make_wrong_calls(sys.argv[1], int(sys.argv[2])))
