"""Train an agent in the Doom world alone, and see how it does in the simulator that the world was learned from.

python examples/train_in_dream.py
"""

import sys
from pathlib import Path

from cfworld import World
from cfworld.agents import Agent, AgentTrainConfig, dream_scores, make_player, train_agent, twin_scores
from cfworld.envs.twins import make_twin


def main(name: str = "doom_take_cover", folder: str = "runs/agents/example", **changes: int) -> None:
    """Train, and score the agent beside one that acts at random, on the same seeds."""
    world = World.from_pretrained(name)
    settings = {"total_steps": 100_000, "eval_every": 0, "horizon": 2100}
    config = AgentTrainConfig(world=name, **(settings | changes))
    train_agent(config, world, Path(folder))
    twin = make_twin(world.config.source, max_ticks=config.horizon)
    for title, player in {
        "the agent": Agent.load(f"{folder}/last", world),
        "random": make_player("random", world),
    }.items():
        dream = dream_scores(world, player, range(8), config.horizon).returns.mean()
        real = twin_scores(twin, player, range(8)).returns.mean()
        print(f"{title}: {dream:.1f} in the dream, {real:.1f} in the simulator")
    twin.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
