"""Agents that learn in generated worlds and are tested in the simulators."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfworld.agents.agent import Agent
    from cfworld.agents.config import AgentTrainConfig
    from cfworld.agents.evaluate import Scores, dream_scores, twin_scores
    from cfworld.agents.planner import Planner, PlannerConfig
    from cfworld.agents.players import make_player
    from cfworld.agents.sb3_vec_env import SB3VecEnv
    from cfworld.agents.train import train_agent

__all__ = [
    "Agent",
    "AgentTrainConfig",
    "Planner",
    "PlannerConfig",
    "SB3VecEnv",
    "Scores",
    "dream_scores",
    "make_player",
    "train_agent",
    "twin_scores",
]

_MODULES = {
    "Agent": "agent",
    "AgentTrainConfig": "config",
    "Planner": "planner",
    "PlannerConfig": "planner",
    "SB3VecEnv": "sb3_vec_env",
    "Scores": "evaluate",
    "dream_scores": "evaluate",
    "make_player": "players",
    "train_agent": "train",
    "twin_scores": "evaluate",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: Stable-Baselines3 takes a while."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"cfworld.agents.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
