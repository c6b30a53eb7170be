"""What is done without looking: endless series of actions, which change inside latents too."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from cfworld.data.choices import any_action, neutral_action, opposite_actions

__all__ = ["BLIND", "hold", "to_and_fro"]


def sticky(rng: np.random.Generator, space: gym.Space, longest: int = 40) -> Iterator[Any]:
    """A uniformly random action, kept for 1 to `longest` ticks."""
    while True:
        yield from hold(any_action(rng, space), rng.integers(1, longest + 1))


def random(rng: np.random.Generator, space: gym.Space) -> Iterator[Any]:
    """A uniformly random action for every tick or, in half of the episodes, for every four ticks."""
    length = rng.choice([1, 4])
    while True:
        yield from hold(any_action(rng, space), length)


def noop(rng: np.random.Generator, space: gym.Space) -> Iterator[Any]:
    """Nothing at all, for ever."""
    del rng
    yield from hold(neutral_action(space), None)


def sweep(rng: np.random.Generator, space: gym.Space) -> Iterator[Any]:
    """One way and the other in turn, each for the same 60 to 160 ticks, beginning anywhere in the cycle."""
    ways = rng.permutation(2)
    length = int(rng.integers(60, 161))
    first = int(rng.integers(1, length + 1))
    yield from hold(_way(space, ways[0]), first)
    while True:
        ways = ways[::-1]
        yield from hold(_way(space, ways[0]), length)


def turn(rng: np.random.Generator, space: gym.Space) -> Iterator[Any]:
    """One way for 150 to 500 ticks, a short rest, then again; it turns round one time in four."""
    way = int(rng.integers(2))
    while True:
        yield from hold(_way(space, way), rng.integers(150, 501))
        yield from hold(neutral_action(space), rng.integers(0, 13))
        way = 1 - way if rng.random() < 0.25 else way


def look_back(rng: np.random.Generator, space: gym.Space) -> Iterator[Any]:
    """Away for 8 to 160 ticks, a rest, and back for as many."""
    while True:
        way, away = int(rng.integers(2)), int(rng.integers(8, 161))
        yield from hold(_way(space, way), away)
        yield from hold(neutral_action(space), rng.integers(0, 13))
        yield from hold(_way(space, 1 - way), away)
        yield from hold(neutral_action(space), rng.integers(0, 13))


def round_trip(rng: np.random.Generator, space: gym.Space) -> Iterator[Any]:
    """Out by one to five legs, a rest of up to 100 ticks, and back by their opposites in reverse; twice or thrice.

    Two legs in five keep one of the later pairs of opposite actions, if there are any, for 4 to 16 ticks, the others
    one of the first pair for 8 to 96: what pans goes far, what walks stays within a room. Who meets a wall on the way
    out does not come back to the same place the first time, but does after the same trip again.
    """
    pairs = opposite_actions(space)
    while True:
        legs = []
        for _ in range(rng.integers(1, 6)):
            pair = int(rng.integers(1, len(pairs))) if len(pairs) > 1 and rng.random() < 0.4 else 0
            ways = pairs[pair] if rng.random() < 0.5 else pairs[pair][::-1]
            legs.append((ways, rng.integers(8, 97) if pair == 0 else rng.integers(4, 17)))
        for _ in range(rng.integers(2, 4)):
            for (there, _), ticks in legs:
                yield from hold(there, ticks)
            yield from hold(neutral_action(space), rng.integers(0, 101))
            for (_, back), ticks in reversed(legs):
                yield from hold(back, ticks)
            yield from hold(neutral_action(space), rng.integers(0, 41))


def wander(rng: np.random.Generator, space: gym.Space) -> Iterator[Any]:
    """Pan to either hand for 4 to 48 ticks, then on for 8 to 64: the first of the last two opposite actions."""
    ahead = opposite_actions(space)[-1][0]
    while True:
        yield from hold(_way(space, rng.integers(2)), rng.integers(4, 49))
        yield from hold(ahead, rng.integers(8, 65))


BLIND: Mapping[str, Callable[[np.random.Generator, gym.Space], Iterator[Any]]] = {
    "sticky": sticky,
    "random": random,
    "noop": noop,
    "sweep": sweep,
    "turn": turn,
    "look_back": look_back,
    "round_trip": round_trip,
    "wander": wander,
}


def to_and_fro(period: int, space: gym.Space) -> Iterator[Any]:
    """One way for `period` ticks, the other for as many, and so on."""
    while True:
        for way in range(2):
            yield from hold(_way(space, way), period)


def hold(action: Any, ticks: int | np.integer | None) -> Iterator[Any]:
    """The same action `ticks` times, or for ever."""
    count = 0
    while ticks is None or count < ticks:
        yield action
        count += 1


def _way(space: gym.Space, way: int | np.integer) -> Any:
    """One of the first two opposite actions."""
    return opposite_actions(space)[0][int(way)]
