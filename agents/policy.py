"""The networks of agents: Stable-Baselines3's policies over the features of `cfworld.agents.features`."""

from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy

from cfworld.agents.config import Algorithm
from cfworld.agents.features import FrameFeatures, LatentFeatures
from cfworld.agents.randomness import random_aside
from cfworld.envs.spaces import world_action_space, world_observation_space
from cfworld.errors import ConfigError
from cfworld.world import World

__all__ = [
    "ALGORITHMS",
    "POLICIES",
    "Network",
    "acting_space",
    "build_policy",
    "num_own",
    "policy_kwargs",
    "seen_space",
]

ALGORITHMS: dict[str, Any] = {Algorithm.ppo: PPO, Algorithm.recurrent_ppo: RecurrentPPO}
POLICIES: dict[str, type[ActorCriticPolicy]] = {
    Algorithm.ppo: ActorCriticPolicy,
    Algorithm.recurrent_ppo: RecurrentActorCriticPolicy,
}


@runtime_checkable
class Network(Protocol):
    """What the network of an agent depends on: an `AgentTrainConfig` and an `AgentCard` both say it."""

    @property
    def algorithm(self) -> str: ...  # noqa: D102
    @property
    def obs(self) -> str: ...  # noqa: D102
    @property
    def stack(self) -> int: ...  # noqa: D102
    @property
    def own_actions(self) -> bool: ...  # noqa: D102
    @property
    def features(self) -> int: ...  # noqa: D102
    @property
    def width(self) -> int: ...  # noqa: D102
    @property
    def hidden(self) -> int: ...  # noqa: D102
    @property
    def lstm(self) -> int: ...  # noqa: D102


def policy_kwargs(network: Network, world: World) -> dict[str, Any]:
    """What Stable-Baselines3 calls `policy_kwargs`, for an agent of a world."""
    features: dict[str, Any] = {"features_dim": network.features, "width": network.width}
    if network.obs == "latent":
        features |= {"latent_shape": world.tokenizer.latent_shape, "num_own": num_own(network, world)}
    kwargs: dict[str, Any] = {
        "features_extractor_class": LatentFeatures if network.obs == "latent" else FrameFeatures,
        "features_extractor_kwargs": features,
        "net_arch": {"pi": [network.hidden], "vf": [network.hidden]},
    }
    if network.algorithm == Algorithm.recurrent_ppo:
        kwargs |= {"lstm_hidden_size": network.lstm, "enable_critic_lstm": False, "shared_lstm": True}
    return kwargs


def seen_space(network: Network, world: World) -> spaces.Box:
    """What an agent sees, `stack` steps side by side and its own last action: a flat box, or pixels [H, W, C]."""
    space = world_observation_space(network.obs, world.config)
    low, high = (np.repeat(bound, network.stack, axis=-1) for bound in (space.low, space.high))
    if own := num_own(network, world):
        low, high = np.append(low, np.zeros(own, low.dtype)), np.append(high, np.ones(own, high.dtype))
    return spaces.Box(low, high, dtype=space.low.dtype.type)


def num_own(network: Network, world: World) -> int:
    """How many numbers tell an agent what it did last.

    Raises:
        ConfigError: if it ought to see that, and its actions are not discrete.
    """
    if not network.own_actions:
        return 0
    space = acting_space(world)
    if not isinstance(space, spaces.Discrete):
        raise ConfigError(f"the world's actions are {space}; own_actions expects Discrete ones")
    return int(space.n)


def build_policy(network: Network, world: World) -> ActorCriticPolicy:
    """A policy with random weights, drawn aside: making one changes no other random numbers.

    Raises:
        ConfigError: if no agent can act in the world.
    """
    seen = seen_space(network, world)
    if len(seen.shape) == 3:  # Stable-Baselines3 gives pixels to a policy with the channels first
        seen = spaces.Box(0, 255, (seen.shape[2], *seen.shape[:2]), np.uint8)
    kind, space = POLICIES[network.algorithm], acting_space(world)
    with random_aside(world.device):
        return kind(seen, space, lambda _: 0.0, **policy_kwargs(network, world)).to(world.device)


def acting_space(world: World) -> spaces.Space[Any]:
    """The space in which an agent of the world acts.

    Raises:
        ConfigError: if it is not one for PPO.
    """
    space = world_action_space(world.config.actions)
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.Box):
        raise ConfigError(f"the world's actions are {space}; PPO acts in Discrete, MultiDiscrete or Box spaces")
    return space
