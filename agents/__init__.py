"""Agents that learn in generated worlds and are tested in the simulators."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfworld.agents.agent import Agent
    from cfworld.agents.sb3_vec_env import SB3VecEnv

__all__ = ["Agent", "SB3VecEnv"]


def __getattr__(name: str) -> Any:
    """Import Stable-Baselines3 only when something of it is asked for."""
    if name == "Agent":
        from cfworld.agents.agent import Agent

        return Agent
    if name == "SB3VecEnv":
        from cfworld.agents.sb3_vec_env import SB3VecEnv

        return SB3VecEnv
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
