"""What the cues of a scenario do in a world: actions, sequences, texts and policies, checked before anything plays."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cfworld.data.blind import BLIND
from cfworld.data.policies import Policy, make_policy  # pyright: ignore[reportUnknownVariableType]
from cfworld.envs.scenarios.schema import Act, Cue
from cfworld.envs.spaces import world_action_space
from cfworld.errors import ActionError, ConfigError
from cfworld.files import exists
from cfworld.prompts import ActionKind
from cfworld.world import World
from cfworld.world.start_encoding import neutral_action

__all__ = ["Actor", "Casting", "NewPolicy", "Played", "beside", "built_in_policies"]

NewPolicy = Callable[[int], Policy]
"""From the seed of its noise to a policy."""


@dataclass(frozen=True, slots=True)
class Played:
    """What was done at consecutive frames."""

    actions: Tensor
    """As `World.step` takes them for a row, [n, ...]."""
    labels: list[str]
    """The same for people: a name, numbers, a text."""


Actor = Callable[[np.ndarray, int], Played]
"""From the frames of the last step, uint8 [F, H, W, 3], and a number of frames to what is done at them."""


def built_in_policies(name: str, world: World) -> NewPolicy:
    """The policies that need nothing but a name: see `cfworld.data.policies`.

    Args:
        name: `random`, `sticky`, `sweep`, `sweep:<ticks>` ..., or `scripted:<file>`.
        world: where they act.
    """
    space = world_action_space(world.config.actions)
    return lambda seed: make_policy(name, np.random.default_rng(seed), space)


def beside(file: str, address: str) -> str:
    """A path of a scenario: beside its file if there is something there, else as it stands."""
    path = Path(file).parent / address
    return str(path) if exists(path) else address


class Casting:
    """Finds who plays the cues in a world.

    Args:
        world: the world.
        policies: from the name of a policy and the world to new ones.
    """

    def __init__(self, world: World, policies: Callable[[str, World], NewPolicy]):
        self._world = world
        self._policies = policies
        self._found: dict[str, NewPolicy] = {}
        self.neutral = self._held(neutral_action(world.config.actions))

    def new_actor(self, cue: Cue) -> Callable[[int], Actor]:
        """From a seed to who plays the cue.

        Raises:
            ScenarioError: if what the cue asks for cannot be done in this world.
        """
        try:
            match cue.act:
                case Act.ACTION:
                    return self._fixed(self._held(self._one(cue.given)))
                case Act.ACTIONS:
                    return self._cycled([self._held(self._one(action)) for action in cue.given])
                case Act.TEXT:
                    return self._fixed(self._held(self._text(cue.given)))
                case Act.POLICY:
                    return self._chosen(cue)
        except (ActionError, ConfigError) as error:
            raise cue.place.error(str(error)) from error

    def _one(self, action: Any) -> Any:
        several = isinstance(action, list) and self._world.config.actions.kind in (ActionKind.DISCRETE, ActionKind.TEXT)
        if several or action is None:
            raise ActionError(f"got {action}; expected one action: a sequence, one per frame, stands under actions")
        return action  # pyright: ignore[reportUnknownVariableType]

    def _text(self, text: str) -> str:
        kind = self._world.config.actions.kind
        if kind is not ActionKind.TEXT:
            raise ActionError(
                f'got the text "{text}" for a world whose actions are {kind}; expected action in its place'
            )
        return text

    def _held(self, action: Any) -> Played:
        """One action at one frame."""
        actions = self._world.generator.prompts.check(action, None, 1)[0]
        return Played(actions, self._labels(actions) if not _has_text(action) else [_written(action)])

    def _fixed(self, held: Played) -> Callable[[int], Actor]:
        return self._cycled([held])

    def _cycled(self, each: list[Played]) -> Callable[[int], Actor]:
        actions = torch.cat([one.actions for one in each])
        labels = [one.labels[0] for one in each]

        def new(seed: int) -> Actor:
            del seed
            place = 0

            def actor(frames: np.ndarray, count: int) -> Played:
                del frames
                nonlocal place
                index = [(place + frame) % len(labels) for frame in range(count)]
                place += count
                return Played(actions[index], [labels[one] for one in index])

            return actor

        return new

    def _chosen(self, cue: Cue) -> Callable[[int], Actor]:
        new_policy = self._policy(cue)
        new_policy(0)  # what is wrong with it is said now

        def new(seed: int) -> Actor:
            policy = new_policy(seed)

            def actor(frames: np.ndarray, count: int) -> Played:
                actions = self._world.generator.prompts.check(policy(frames, count), None, count)[0]
                return Played(actions, self._labels(actions))

            return actor

        return new

    def _policy(self, cue: Cue) -> NewPolicy:
        name = str(cue.given)
        if name not in self._found:
            kind, colon, argument = name.partition(":")
            if kind in BLIND:  # it reads no file, whatever may lie there
                found = name
            else:
                found = kind + colon + beside(cue.place.file, argument) if argument else beside(cue.place.file, name)
            self._found[name] = self._policies(found, self._world)
        return self._found[name]

    def _labels(self, actions: Tensor) -> list[str]:
        names = self._world.config.actions.names
        if names:
            return [names[int(action)] for action in actions]
        return [_numbers(action) for action in actions.cpu().numpy()]


def _has_text(action: Any) -> bool:
    """Whether it is, or holds, a text: as the world takes it, it would say nothing to people."""
    return isinstance(action, str) or (isinstance(action, dict) and any(map(_has_text, action.values())))  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


def _written(action: Any) -> str:
    return action if isinstance(action, str) else " ".join(str(part) for part in action.values())


def _numbers(action: np.ndarray) -> str:
    values = np.atleast_1d(action)
    form = "{:+.2f}" if values.dtype.kind == "f" else "{}"
    return " ".join(form.format(value) for value in values)
