"""Values that no call of an environment takes, drawn at random."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

__all__ = [
    "wrong_action",
    "wrong_argument",
    "wrong_box_action",
    "wrong_count",
    "wrong_dict_action",
    "wrong_mask",
    "wrong_multi_action",
    "wrong_options",
    "wrong_row",
    "wrong_row_actions",
    "wrong_row_options",
    "wrong_row_seeds",
    "wrong_rows",
    "wrong_seed",
    "wrong_snapshot",
    "wrong_word",
]


def wrong_action(rng: np.random.Generator) -> Any:
    """What is no action of `Discrete(3)`, nor of two rows of it: of another type, shape, range or dtype, or ragged."""
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


def wrong_box_action(rng: np.random.Generator) -> Any:
    """What is no action of `Box([-1, 0], [1, 2])`: not finite, out of range, or of another type or shape."""
    spoilt = np.array([0.5, 1.5], rng.choice(["float32", "float64"]))
    spoilt[rng.integers(2)] = rng.choice([math.nan, math.inf, -math.inf, -1.5, 1e30])
    return _drawn(
        rng,
        lambda: spoilt,
        lambda: spoilt.tolist(),
        lambda: torch.from_numpy(spoilt),
        lambda: np.stack([[0.5, 1.5]] * 3 + [spoilt]),
        lambda: rng.random(size=rng.choice(np.array([(3, 2), (2, 3), (1, 2), (5, 2)]))),
        lambda: rng.random(size=(int(rng.choice([0, 1, 3, 5])),)),
        lambda: float(rng.random()),
        lambda: None,
        lambda: [True, False],
        lambda: _word(rng),
        lambda: {_word(rng): 1},
        lambda: [0.5, None],
        object,
    )


def wrong_multi_action(rng: np.random.Generator) -> Any:
    """What is no action of `MultiDiscrete([2, 2, 3])`."""
    return _drawn(
        rng,
        lambda: _shuffled(rng, [1, 1, int(rng.integers(3, 2**40))]),
        lambda: _shuffled(rng, [1, 1, -int(rng.integers(1, 2**40))]),
        lambda: [2, 0, 0],
        lambda: [0.0, 1.0, math.nan],
        lambda: rng.random(3),
        lambda: rng.integers(0, 2, size=rng.choice(np.array([(3, 3), (2, 3), (1, 3), (5, 3)]))),
        lambda: [1] * int(rng.choice([0, 1, 2, 4])),
        lambda: 1,
        lambda: None,
        lambda: [True, False, True],
        lambda: _word(rng),
        object,
    )


def wrong_dict_action(rng: np.random.Generator) -> Any:
    """What is no action of a mouse, a keyboard, a move and a text at once: one part is missing, more, or wrong."""
    right: dict[str, Any] = {"keyboard": [1, 0, 2], "mouse": [0.5, -0.5], "move": 1, "say": "open the red door"}
    part = str(rng.choice(list(right)))
    return _drawn(
        rng,
        lambda: {name: value for name, value in right.items() if name != part},
        lambda: {**right, _word(rng): 1},
        lambda: {**right, "mouse": wrong_box_action(rng)},
        lambda: {**right, "keyboard": wrong_multi_action(rng)},
        lambda: {**right, "move": wrong_action(rng)},
        lambda: {**right, "say": _drawn(rng, lambda: 3, lambda: None, lambda: "x" * 41, object)},
        lambda: {**right, part: None},
        lambda: list(right.values()),
        lambda: 1,
        lambda: None,
        dict,
    )


def wrong_row_actions(rng: np.random.Generator) -> Any:
    """What are no actions of two rows."""
    return _drawn(
        rng,
        lambda: wrong_action(rng),
        lambda: _shuffled(rng, [0, _drawn(rng, lambda: None, lambda: 3, lambda: math.nan, lambda: _word(rng), object)]),
        lambda: [1] * int(rng.choice([0, 1, 3, 8])),
        lambda: np.full((2,), math.nan, rng.choice(["float16", "float32", "float64"])),
        lambda: torch.rand(2, 4),
        lambda: torch.tensor([0, int(rng.integers(3, 2**40))]),
        lambda: rng.integers(0, 3, size=rng.choice(np.array([(4, 2), (2, 3), (2, 5), (1, 2), (3, 4)]))),
        lambda: rng.integers(0, 3, size=(2, 4, 1)),
        lambda: rng.integers(0, 2, size=(2,)).astype(np.bool_),
        lambda: np.array(["x", "y"]),
        lambda: iter([0, 1]),
        lambda: {"0": 1, "1": 1},
    )


def wrong_seed(rng: np.random.Generator) -> Any:
    """What is no seed."""
    return _drawn(rng, lambda: [int(rng.integers(5))], lambda: _wrong_scalar_seed(rng))


def wrong_row_seeds(rng: np.random.Generator) -> Any:
    """What are no seeds of two rows."""
    return _drawn(
        rng,
        lambda: _wrong_scalar_seed(rng),
        lambda: [1] * int(rng.choice([0, 1, 3, 8])),
        lambda: _shuffled(rng, [1, _wrong_scalar_seed(rng)]),
        lambda: rng.normal(size=2),
        lambda: np.zeros((2, 2), np.int64),
        lambda: np.array(1),
        lambda: [True, 1],
        lambda: [[1], [2]],
        lambda: 2**64 + int(rng.integers(9)),
        lambda: [0, 2**64],
        lambda: {1, 2},
        lambda: torch.tensor([1.5, 2.0]),
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
        lambda: {"start": _wrong_start(rng)},
    )


def wrong_row_options(rng: np.random.Generator) -> Any:
    """What are no options of a reset of two rows."""
    return _drawn(
        rng,
        lambda: wrong_options(rng),
        lambda: {"reset_mask": wrong_mask(rng)},
        lambda: {"reset_mask": wrong_mask(rng), "start": 0},
        lambda: {"reset_mask": np.array([True, False]), "start": [_wrong_start(rng), None]},
        lambda: {"start": [0] * int(rng.choice([0, 1, 3]))},
        lambda: {"start": _shuffled(rng, [0, _wrong_start(rng)])},
        lambda: {"start": np.array([0.0, 1.0])},
    )


def wrong_mask(rng: np.random.Generator) -> Any:
    """What is no mask of some of two rows."""
    return _drawn(
        rng,
        lambda: None,
        lambda: True,
        lambda: [True, False],
        lambda: np.array([1, 0]),
        lambda: np.array([1.0, math.nan]),
        lambda: np.ones(int(rng.choice([0, 1, 3])), np.bool_),
        lambda: np.ones((2, 1), np.bool_),
        lambda: np.zeros(2, np.bool_),
        lambda: np.array([True, None]),
        lambda: torch.tensor([1, 0]),
        lambda: _word(rng),
        lambda: object(),
    )


def wrong_rows(rng: np.random.Generator) -> Any:
    """What names no rows of two."""
    return _drawn(
        rng,
        lambda: [int(rng.integers(2, 2**40))],
        lambda: [0, -int(rng.integers(1, 9))],
        lambda: [2**64],
        lambda: [0.0, 1.0],
        lambda: np.array([math.nan]),
        lambda: np.ones(3, np.bool_),
        lambda: [[0], [1]],
        lambda: [[0], [1, 0]],
        lambda: int(rng.integers(2)),
        lambda: True,
        lambda: 1.5,
        lambda: _word(rng),
        lambda: [_word(rng)],
        lambda: [None],
        lambda: {0},
        lambda: {0: 1},
        lambda: object(),
        lambda: torch.rand(2),
        lambda: np.array([1j]),
        lambda: np.array(["2020-01-01"], "datetime64[D]"),
    )


def wrong_row(rng: np.random.Generator) -> Any:
    """What names no row of two."""
    return _drawn(
        rng,
        lambda: int(rng.integers(2, 2**40)),
        lambda: -int(rng.integers(1, 9)),
        lambda: float(rng.normal()),
        lambda: [0],
        lambda: None,
        lambda: True,
        lambda: _word(rng),
        lambda: object(),
    )


def wrong_count(rng: np.random.Generator) -> Any:
    """What is no number of rows."""
    return _drawn(
        rng,
        lambda: -int(rng.integers(0, 9)),
        lambda: 1 + float(rng.random()),
        lambda: 2.0,
        lambda: math.nan,
        lambda: None,
        lambda: True,
        lambda: _word(rng),
        lambda: [2],
        lambda: np.ones(2),
        lambda: object(),
    )


def wrong_snapshot(rng: np.random.Generator) -> Any:
    """What is no snapshot."""
    return _drawn(rng, lambda: None, lambda: _word(rng), lambda: {}, lambda: rng.normal(size=3), lambda: object())


def wrong_word(rng: np.random.Generator) -> Any:
    """What is no name of a choice."""
    return _drawn(rng, lambda: _word(rng), lambda: 3, lambda: [_word(rng)], lambda: math.nan, object)


def wrong_argument(rng: np.random.Generator, *more: str) -> dict[str, Any]:
    """One argument of an environment of a built world without a novelty score, of a wrong value.

    Args:
        rng: draws.
        more: names of further arguments that take one of a few words.
    """
    return _drawn(
        rng,
        lambda: {str(rng.choice(["obs", "ends", "render_mode", *more])): wrong_word(rng)},
        lambda: {
            "horizon": _drawn(
                rng, lambda: -int(rng.integers(0, 9)), lambda: 1.5, lambda: True, lambda: 2**63, lambda: _word(rng)
            )
        },
        lambda: {str(rng.choice(["info_frames", "action_chunks"])): _drawn(rng, lambda: 2, lambda: _word(rng), object)},
        lambda: {str(rng.choice(["reward_fn", "termination_fn"])): _drawn(rng, lambda: 1, lambda: "f", object)},
        lambda: {"truncate_above": _drawn(rng, lambda: 2.0, lambda: math.nan, lambda: _word(rng), lambda: [1], object)},
        lambda: {"starts": _drawn(rng, list, lambda: 3, lambda: _word(rng), lambda: [0, _wrong_start(rng)], object)},
        lambda: {str(rng.choice(["variant", "device", "memory"])): _word(rng)},
    )


def _wrong_start(rng: np.random.Generator) -> Any:
    """What is no start of a world that has five."""
    return _drawn(
        rng,
        lambda: int(rng.integers(5, 2**40)),
        lambda: -int(rng.integers(1, 9)),
        lambda: float(rng.normal()),
        lambda: math.nan,
        lambda: object(),
        lambda: rng.normal(size=(3, 2)),
        lambda: True,
        lambda: _word(rng),
        lambda: {},
    )


def _wrong_scalar_seed(rng: np.random.Generator) -> Any:
    return _drawn(
        rng,
        lambda: -int(rng.integers(1, 2**40)),
        lambda: float(rng.normal()),
        lambda: math.nan,
        lambda: _word(rng),
        lambda: np.zeros(3),
        lambda: {},
        lambda: object(),
    )


def _shuffled(rng: np.random.Generator, values: list[Any]) -> list[Any]:
    return values if rng.random() < 0.5 else values[::-1]


def _drawn(rng: np.random.Generator, *kinds: Callable[[], Any]) -> Any:
    return kinds[rng.integers(len(kinds))]()


def _word(rng: np.random.Generator) -> str:
    return "x" + "".join(chr(int(code)) for code in rng.integers(33, 1000, size=rng.integers(0, 5)))
