"""Latents as observations: what a world shows of itself, and what its tokenizer makes of a simulator's frames."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from cfworld.envs.spaces import LATENT_BOUND, unstack_channels, world_observation_space
from cfworld.errors import ConfigError
from cfworld.world import World

__all__ = ["LatentObservation", "VectorLatentObservation", "encoded", "flat_latents"]


def flat_latents(latents: Float[Tensor, "B N C h w"]) -> Float32[Tensor, "B n"]:
    """Latents as an environment with obs="latent" shows them.

    Args:
        latents: [B, N, C, h, w].

    Returns:
        float32 [B, n], a tensor of its own on the same device.
    """
    return latents.flatten(1).float().clamp(-LATENT_BOUND, LATENT_BOUND)


@torch.inference_mode()
def encoded(world: World, frames: UInt8[np.ndarray, "B F H W 3"]) -> Float32[np.ndarray, "B n"]:
    """What an environment with obs="latent" would show of frames.

    Args:
        world: whose tokenizer looks.
        frames: all frames of a step, uint8 [B, F, H, W, 3].

    Returns:
        float32 [B, n].
    """
    given = torch.as_tensor(np.ascontiguousarray(frames)).to(world.device)
    return flat_latents(world.tokenizer.encode(given)).cpu().numpy()


class LatentObservation(gym.ObservationWrapper[np.ndarray, Any, np.ndarray], RecordConstructorArgs):
    """Shows a simulator's steps as a world's tokenizer encodes them, in the space of the world's obs="latent".

    An agent that learned on the latents of a world acts in its twin through this:

        twin = LatentObservation(gym.make("cfworld/PanoramaReal-v0", obs="frames"), "panorama")

    Args:
        env: the twin, or any environment that shows all frames of a step on the channel axis, uint8 [H, W, 3F].
        world: a world of the zoo, a checkpoint folder, or a `World`.

    Raises:
        ConfigError: if the environment shows anything else than frames of the world's size and number.
        UnknownWorldError: if there is no such world.
    """

    def __init__(self, env: gym.Env[np.ndarray, Any], world: str | Path | World):
        RecordConstructorArgs.__init__(self, world=world)
        gym.ObservationWrapper.__init__(self, env)
        self._world = world if isinstance(world, World) else World.from_pretrained(world)
        self.observation_space = _latent_space(env.observation_space, self._world)

    def observation(self, observation: UInt8[np.ndarray, "H W C"]) -> Float32[np.ndarray, " n"]:
        """Latents of the frames of a step.

        Args:
            observation: uint8 [H, W, 3F].

        Returns:
            float32 [n].
        """
        return encoded(self._world, unstack_channels(observation[None]))[0]


class VectorLatentObservation(VectorWrapper[Any, Any, Any, Any, Any]):
    """`LatentObservation` for many simulators side by side, all rows encoded at once.

    In mode SAME_STEP what the rows that ended saw last, `infos["final_obs"]`, is encoded too.

    Args:
        envs: a vector environment of arrays whose rows show all frames of a step, uint8 [H, W, 3F].
        world: as for `LatentObservation`, as are the errors; tensors instead of arrays are refused by a ConfigError at
            `reset` and `step`.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any], world: str | Path | World):
        super().__init__(envs)
        self._world = world if isinstance(world, World) else World.from_pretrained(world)
        space = _latent_space(envs.single_observation_space, self._world)
        self.single_observation_space = space
        self.observation_space = batch_space(space, envs.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin episodes; see the environment's own `reset`. Observations are float32 [B, n]."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return encoded(self._world, unstack_channels(_array(observations))), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step every row; see the environment's own `step`. Observations are float32 [B, n]."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        last: dict[int, np.ndarray] = {}
        if "final_obs" in infos:
            last = {row: infos["final_obs"][row] for row in np.flatnonzero(infos["_final_obs"]).tolist()}
        latents = encoded(self._world, unstack_channels(np.stack([*_array(observations), *last.values()])))
        if last:
            final = np.full(self.num_envs, None, object)
            for row, seen in zip(last, latents[len(observations) :], strict=True):
                final[row] = seen
            infos = {**infos, "final_obs": final}
        return latents[: len(observations)], rewards, terminated, truncated, infos


def _array(observations: Any) -> np.ndarray:
    if not isinstance(observations, np.ndarray):
        raise ConfigError(f"got observations of {type(observations)}; expected arrays: leave out tensors=True")
    return observations


def _latent_space(shown: gym.Space[Any], world: World) -> gym.spaces.Box:
    """The world's space of latents, if its frames are what is shown."""
    expected = world_observation_space("frames", world.config)
    if shown != expected:
        raise ConfigError(
            f"got an environment that shows {shown}; expected {expected}, all frames of a step in the world "
            f'{world.config.name!r}: make its simulator, {world.config.source or "unnamed"!r}, with obs="frames"'
        )
    return world_observation_space("latent", world.config)
