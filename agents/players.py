"""Everybody who can act, by name: policies without eyes, trained agents, the planner."""

from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from cfworld.agents.card import agent_folder, read_card
from cfworld.agents.planner import Planner, PlannerConfig
from cfworld.agents.scripted import PolicyPlayer, named_policy
from cfworld.agents.sight import Player, Seen
from cfworld.data.policies import BLIND, Policy
from cfworld.envs.spaces import world_action_space
from cfworld.errors import ConfigError
from cfworld.world import World

__all__ = ["agent_policy", "is_agent", "make_player", "player_policy"]


def is_agent(name: str) -> bool:
    """Whether a name is a trained agent's, as `agent_folder` knows them."""
    return agent_folder(name) is not None


def make_player(name: str, world: World, planner: PlannerConfig | None = None) -> Player:
    """Somebody who acts.

    Args:
        name: a policy of `cfworld.data.policies`; `sweep:110`, the sweep of that period; `planner`; or an agent: the
            folder that `cfworld agent-train` wrote, or `agent:<world>` for the one that ships with a world of the zoo.
        world: where, or in whose simulator.
        planner: how the planner plans.

    Raises:
        ConfigError: if there is nobody of that name, or who cannot act in this world.
        CheckpointError: if an agent is damaged.
    """
    if name == "planner":
        return Planner(world, planner or PlannerConfig())
    if is_agent(name):
        from cfworld.agents.agent import Agent  # Stable-Baselines3 takes a while

        return Agent.load(name, world)
    if name.partition(":")[0] not in (*BLIND, "scripted"):
        raise ConfigError(
            f"policy {name!r} is unknown; expected one of {', '.join(sorted(BLIND))}, sweep:<ticks>, scripted:<file>, "
            "planner, or an agent: the folder best/ or last/ that cfworld agent-train wrote, or agent:<world>, where "
            "one ships with that world"
        )
    space = world_action_space(world.config.actions)
    named_policy(name, 0, space)
    return PolicyPlayer(world, lambda seed: named_policy(name, seed, space))


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
    folder = agent_folder(f"agent:{argument}") or agent_folder(argument)
    if folder is None:
        raise ConfigError(
            f"there is no agent {argument!r}; expected agent:<folder>, the best/ or last/ that agent-train wrote, or "
            "agent:<world>, where one ships with that world"
        )
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


@cache
def _world_of(folder: Path) -> World:
    return World.from_pretrained(read_card(folder).world)
