"""Who acts, by name: policies without eyes, recorded scripts, and whoever a caller can make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from cfworld.data.action_space import action_dtype
from cfworld.data.blind import BLIND, hold, to_and_fro
from cfworld.data.choices import check_choices
from cfworld.data.scripts import read_script
from cfworld.errors import ConfigError
from cfworld.files import is_file

__all__ = [
    "AGENT_CARD",
    "Policy",
    "PolicyFactory",
    "draw_policy",
    "full_name",
    "held",
    "make_policy",
    "split_policy",
    "sweep_of",
    "unknown_policy",
    "who_acts",
]

AGENT_CARD = "agent.json"
"""The file that makes a folder an agent's; it names the SHA-256 of its weights."""

Policy = Callable[[np.ndarray, int], np.ndarray]
"""`(frames, num_ticks) -> actions`: gets the frames of the last step, uint8 `[n, H, W, 3]`, and the number
of actions to give; gives `[num_ticks, ...]`, as `cfworld.data.action_space` lays actions out."""

PolicyFactory = Callable[[str, np.random.Generator, gym.Space], Policy]
"""`(argument, rng, action_space) -> policy` for one episode; `argument` is what follows the name's colon."""


def who_acts(*more: str) -> str:
    """How everybody who can act is spelled: what errors list, and `--help`.

    Args:
        more: What else can be written in this place.
    """
    return ", ".join(
        [
            *sorted(BLIND),
            "sweep:<ticks> (so long one way, so long the other)",
            "scripted:<file>",
            "planner where there is a world to plan in",
            "an agent that agent-train wrote (its folder best/ or last/, agent:<folder>, or agent:<world> for the one "
            "that ships with a world)",
            "an agent of Stable-Baselines3 (<file>.zip or sb3:<file>)",
            *more,
        ]
    )


def split_policy(name: str) -> tuple[str, str]:
    """The kind of a policy and its argument, however it is spelled.

    A folder that holds an agent is of the kind "agent", and a file `*.zip` of the kind "sb3", with their kind before
    them or without. Policies of data collection are never taken for a folder of the same name.

    Args:
        name: `kind`, `kind:argument`, a folder or a file.

    Returns:
        Kind and argument; the argument is empty where there is none.
    """
    kind, colon, argument = name.partition(":")
    if not colon and (kind in BLIND or kind == "planner"):
        return kind, ""
    if not (colon and kind in _WITH_ARGUMENT):
        if name.endswith(".zip") and (not colon or is_file(name)):
            return "sb3", name
        if is_file(Path(name) / AGENT_CARD):
            return "agent", name
    return kind, argument


def full_name(name: str) -> str:
    """The same policy in the one spelling that datasets record: folders and files with their kind before them."""
    kind, argument = split_policy(name)
    return f"{kind}:{argument}" if name and argument == name else name


def make_policy(
    name: str,
    rng: np.random.Generator,
    action_space: gym.Space,
    factories: Mapping[str, PolicyFactory] | None = None,
) -> Policy:
    """Builds the policy of one episode.

    Args:
        name: As `who_acts` tells; `split_policy` reads it.
        rng: The episode's own generator.
        action_space: Discrete, MultiDiscrete, MultiBinary, a bounded one-dimensional Box, or a Dict of these.
        factories: More kinds, by name, besides the blind ones and scripts.

    Raises:
        ConfigError: The kind is unknown, has no factory, or takes no argument; it cannot act in this space; or a
            script holds what is no action.
    """
    check_choices(action_space)
    kind, argument = split_policy(name)
    if factories and kind in factories:
        return factories[kind](argument, rng, action_space)
    if kind == "scripted":
        return _ticks(_scripted(Path(argument), action_space), action_space)
    if kind in BLIND:
        return _blind(name, rng, action_space)
    if kind == "planner":
        raise ConfigError(f"got {name}, which plans in a generated world, and there is none here; expected {_NO_EYES}")
    if kind in ("agent", "sb3"):
        raise ConfigError(
            f"got {name}, and nobody here can load a trained agent; expected {_NO_EYES}, or a factory of the kind "
            f"{kind!r}, as in cfworld.agents.players.FACTORIES"
        )
    own = [other for other in factories or {} if other not in (*_WITH_ARGUMENT, "planner")]
    raise unknown_policy(name, *(f"{other}:<argument>" for other in own))


def unknown_policy(name: str, *more: str) -> ConfigError:
    """The error for a name that is nobody's; see `who_acts`."""
    return ConfigError(f"policy {name!r} is unknown; expected one of {who_acts(*more)}")


def draw_policy(weights: Mapping[str, float], rng: np.random.Generator) -> str:
    """The name of the policy of one episode.

    Args:
        weights: Of the policies, at least one above 0; their order does not matter.
        rng: The episode's own generator, before anything else was drawn from it.
    """
    names = sorted(weights)
    shares = np.array([weights[name] for name in names])
    return names[rng.choice(len(names), p=shares / shares.sum())]


def held(policy: Policy, ticks: int) -> Policy:
    """The same policy, whose actions change only every so many ticks of an episode: the first of them decides.

    Who comes back exactly otherwise may then miss the place, by up to two holds for every way out and back.
    """
    count, latest = 0, np.zeros(0)

    def holding(frames: np.ndarray, num_ticks: int) -> np.ndarray:
        nonlocal count, latest
        chosen = policy(frames, num_ticks).copy()
        for tick in range(num_ticks):
            if count % ticks == 0:
                latest = chosen[tick].copy()
            chosen[tick] = latest
            count += 1
        return chosen

    return holding


def sweep_of(period: int, space: gym.Space) -> Policy:
    """The policy `sweep:<ticks>`: one way for `period` ticks, the other for as many, and so on, in every episode."""
    return _ticks(to_and_fro(period, space), space)


_WITH_ARGUMENT = (*BLIND, "scripted", "agent", "sb3")
_NO_EYES = f"{', '.join(sorted(BLIND))}, sweep:<ticks> or scripted:<file>"


def _blind(name: str, rng: np.random.Generator, space: gym.Space) -> Policy:
    """One of the policies without eyes. Only a sweep takes an argument: the ticks of each way."""
    kind, colon, argument = name.partition(":")
    if not colon:
        return _ticks(BLIND[kind](rng, space), space)
    if kind != "sweep":
        raise ConfigError(f"got {name}; expected {kind}, which takes no argument")
    if not argument.isdecimal() or int(argument) < 1:
        raise ConfigError(f"got {name}; expected the ticks of each way from 1, as in sweep:110, or sweep alone")
    return sweep_of(int(argument), space)


def _scripted(path: Path, space: gym.Space) -> Iterator[Any]:
    """The pairs (action, ticks) of a file, from the beginning again after the end."""
    pairs = read_script(path, space)  # what is wrong with it is said before anybody acts

    def forever() -> Iterator[Any]:
        while True:
            for action, ticks in pairs:
                yield from hold(action, ticks)

    return forever()


def _ticks(actions: Iterator[Any], space: gym.Space) -> Policy:
    """A policy that takes the next actions of an endless iterator and looks at nothing."""
    dtype = action_dtype(space)

    def policy(frames: np.ndarray, num_ticks: int) -> np.ndarray:
        del frames
        return np.stack([np.asarray(action, dtype) for action in islice(actions, num_ticks)])

    return policy
