"""`cfworld collect`: records episodes of a simulator as a dataset."""

from dataclasses import dataclass, field, fields
from typing import Any

import gymnasium as gym
import numpy as np

from cfworld.cli import common
from cfworld.data.collect import collect
from cfworld.data.collection import CollectConfig
from cfworld.data.policies import Policy

__all__ = ["CollectCommand", "main", "sb3_agent"]

SUMMARY = (
    "Record episodes of a simulator as a Minari dataset. The same command resumes a collection that was "
    "interrupted; the data do not depend on the number of workers."
)


@dataclass(kw_only=True, slots=True)
class CollectCommand(CollectConfig):
    """What `cfworld collect` takes.

    Attributes:
        world: whose presets to use.
        split: train, or eval for seeds that no training sees.
        presets: for each world its environment, and for each split how much and how; any key above overrides.
    """

    world: str = "doom_take_cover"
    split: str = "train"
    presets: dict[str, Any] = field(default_factory=dict)

    def config(self) -> CollectConfig:
        """The collection alone; importing cfworld.envs registers the shipped simulators in every worker."""
        values: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in fields(CollectConfig)}
        if self.env.startswith("cfworld/"):
            values["env"] = f"cfworld.envs:{self.env}"
        return CollectConfig(**values)


def run(command: CollectCommand) -> dict[str, Any]:
    """Collect, and return the figures."""
    figures = collect(command.config(), factories={"sb3": sb3_agent})
    common.open_output("collect", command.out, command)
    print(f"{figures['episodes']} episodes, {figures['ticks']} ticks in {command.out}")
    return figures


def sb3_agent(argument: str, rng: np.random.Generator, action_space: gym.Space) -> Policy:
    """The policy `sb3:<file>`: an agent that Stable-Baselines3 trained, acting once a step.

    Args:
        argument: The agent's zip file.
        rng: Not used: the agent is greedy.
        action_space: What the agent's action space must equal.
    """
    from cfworld.cli.sb3_policy import sb3_policy

    del rng
    agent: Policy | None = None

    def policy(frames: np.ndarray, num_ticks: int) -> np.ndarray:
        nonlocal agent
        if agent is None:
            agent = sb3_policy(argument, action_space, frames.shape[1:3], num_ticks)
            frames = np.repeat(frames, num_ticks, axis=0)  # the reset gives one frame, which stands for a step
        return agent(frames, num_ticks)

    return policy


def main() -> None:
    """Run `cfworld collect`."""
    common.run_command("collect", CollectCommand, run, SUMMARY)
