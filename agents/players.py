"""Everybody who can act, by name: policies without eyes, trained agents, the planner."""

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from cfworld.agents.card import read_card
from cfworld.agents.planner import Planner, PlannerConfig
from cfworld.agents.sb3_policy import sb3_agent, sb3_policy
from cfworld.agents.scripted import PolicyPlayer
from cfworld.agents.sight import Player, Seen
from cfworld.data.blind import BLIND
from cfworld.data.policies import Policy, PolicyFactory, make_policy, split_policy, unknown_policy
from cfworld.data.policy_files import agent_folder
from cfworld.envs.spaces import world_action_space
from cfworld.errors import ConfigError
from cfworld.world import World

__all__ = ["FACTORIES", "agent_policy", "factories_in", "has_learned", "make_player", "planner_policy", "player_policy"]


def has_learned(name: str) -> bool:
    """Whether a name is a trained agent's, be it of `cfworld agent-train` or of Stable-Baselines3."""
    return split_policy(name)[0] in ("agent", "sb3")


def make_player(name: str, world: World, planner: PlannerConfig | None = None) -> Player:
    """Somebody who acts.

    Args:
        name: a policy of data collection, the planner or an agent, as `cfworld.data.policies.who_acts` spells them.
        world: where, or in whose simulator.
        planner: how the planner plans.

    Raises:
        ConfigError: if there is nobody of that name, or who cannot act in this world.
        CheckpointError: if an agent is damaged.
    """
    if name == "planner":
        return Planner(world, planner or PlannerConfig())
    kind, argument = split_policy(name)
    space = world_action_space(world.config.actions)
    if kind == "agent":
        from cfworld.agents.agent import Agent  # Stable-Baselines3 takes a while

        return Agent.load(_folder(argument), world)
    if kind == "sb3":
        agent = sb3_policy(argument, space, world.config.resolution, world.config.frames_per_step)
        return PolicyPlayer(world, lambda _: agent, looks=True)
    if kind not in (*BLIND, "scripted"):
        raise unknown_policy(name)
    make_policy(name, np.random.default_rng(0), space)  # what is wrong with it is said now
    return PolicyPlayer(world, lambda seed: make_policy(name, np.random.default_rng(seed), space))


def player_policy(player: Player, seed: int) -> Policy:
    """An agent, or the planner, as the policy of one episode, which sees frames alone and repeats its action.

    Args:
        player: it plays nothing else meanwhile.
        seed: of the episode.
    """
    player.begin([seed])

    def policy(frames: np.ndarray, num_ticks: int) -> np.ndarray:
        return np.stack([player.act(Seen(frames=frames[None]))[0]] * num_ticks)

    return policy


def agent_policy(argument: str, rng: np.random.Generator, action_space: gym.Space[Any]) -> Policy:
    """The policy `agent:<folder>` or `agent:<world>` of data collection: a trained agent, acting once a step.

    Args:
        argument: a folder that `cfworld agent-train` wrote, or a world of the zoo that an agent ships with.
        rng: the episode's own generator.
        action_space: what the space of the agent's world must equal.

    Raises:
        ConfigError: if there is no such agent, or it acts in another space.
        CheckpointError: if it is damaged.
    """
    folder = _folder(argument)
    from cfworld.agents.agent import Agent  # Stable-Baselines3 takes a while

    world = _world_of(folder)
    space = world_action_space(world.config.actions)
    if space != action_space:
        raise ConfigError(f"the agent {argument!r} acts in {space}; expected {action_space}")
    policy = player_policy(Agent.load(folder, world), int(rng.integers(2**62)))

    def act(frames: np.ndarray, num_ticks: int) -> np.ndarray:
        missing = world.config.frames_per_step - len(frames)
        # the reset gives one frame, which stands for a step
        return policy(np.concatenate([np.repeat(frames[:1], missing, axis=0), frames]), num_ticks)

    return act


def planner_policy(world: World, argument: str, rng: np.random.Generator, action_space: gym.Space[Any]) -> Policy:
    """The policy `planner` of datasets that a world generates: it plans in that world.

    Args:
        world: where it acts and plans.
        argument: it takes none.
        rng: the episode's own generator.
        action_space: not used: it is the world's.

    Raises:
        ConfigError: if there is an argument.
    """
    del action_space
    if argument:
        raise ConfigError(f"got planner:{argument}; expected planner, which takes no argument")
    return player_policy(make_player("planner", world), int(rng.integers(2**62)))


FACTORIES: Mapping[str, PolicyFactory] = {"agent": agent_policy, "sb3": sb3_agent}
"""The kinds of trained agents, for `cfworld.data.policies.make_policy` and `cfworld.data.collect`."""


def factories_in(world: World) -> dict[str, PolicyFactory]:
    """The same with the planner, for policies that act in a world; agents that do not fit it are refused at once."""

    def sb3_in(argument: str, rng: np.random.Generator, action_space: gym.Space[Any]) -> Policy:
        del rng
        return sb3_policy(argument, action_space, world.config.resolution, world.config.frames_per_step)

    return {**FACTORIES, "sb3": sb3_in, "planner": partial(planner_policy, world)}


def _folder(argument: str) -> Path:
    """The folder of the agent `agent:<argument>`, or of a bare folder."""
    folder = agent_folder(f"agent:{argument}")
    if folder is None:
        raise ConfigError(
            f"got agent:{argument}, and there is no agent {argument!r}; expected agent:<folder>, the best/ or last/ "
            "that agent-train wrote, or agent:<world>, where one ships with that world"
        )
    return folder


@cache
def _world_of(folder: Path) -> World:
    return World.from_pretrained(read_card(folder).world)
