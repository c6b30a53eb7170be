"""Train an agent in the Doom world alone, and see how it does in the simulator that the world was learned from.

python examples/train_in_dream.py
"""

import sys
from pathlib import Path
from typing import Any

from cfworld import World
from cfworld.agents import Agent, AgentTrainConfig, dream_scores, make_player, train_agent, twin_scores
from cfworld.envs.twins import make_twin


def main(name: str = "doom_take_cover", folder: str = "runs/agents/example", **changes: Any) -> None:
    """Train, and score the agent beside one that acts at random, on the same seeds."""
    world = World.from_pretrained(name)
    settings: dict[str, Any] = {"total_steps": 100_000, "eval_every": 0, "horizon": 2100, **changes}
    train_agent(AgentTrainConfig(world=name, **settings), world, Path(folder))
    max_ticks = settings["horizon"]
    twin = make_twin(world.config.source, max_ticks)
    for title, player in {
        "the agent": Agent.load(f"{folder}/last", world),
        "random": make_player("random", world),
    }.items():
        dream = dream_scores(world, player, range(8), max_ticks).returns.mean()
        real = twin_scores(twin, player, range(8)).returns.mean()
        print(f"{title}: {dream:.1f} in the dream, {real:.1f} in the simulator")
    twin.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
