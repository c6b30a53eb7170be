"""Where agents learn: a generated world or its simulator, as vector environments of Stable-Baselines3."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from cfworld.agents.config import AgentTrainConfig, Place
from cfworld.agents.moments import draw_moments
from cfworld.agents.policy import num_own, seen_space
from cfworld.agents.sb3_vec_env import SB3VecEnv
from cfworld.envs.latents import VectorLatentObservation
from cfworld.envs.spaces import LATENT_BOUND
from cfworld.envs.vector_env import WorldVectorEnv
from cfworld.errors import TrainingError
from cfworld.world import World

__all__ = ["VecBlind", "VecFiniteRewards", "VecNoise", "VecOwnActions", "training_env", "twin_env"]


class VecFiniteRewards(VecEnvWrapper):
    """Refuses rewards that are no numbers, which would make the agent none either.

    Stable-Baselines3's `VecCheckNan` looks through observations and actions too, takes no Dict actions, and cannot say
    what gave the rewards.

    Args:
        venv: the environment.
        giver: what its rewards come from.
        advice: what to do about them.
    """

    def __init__(self, venv: VecEnv, giver: str, advice: str):
        super().__init__(venv)
        self._giver = giver
        self._advice = advice

    def reset(self) -> Any:
        """Begin an episode in every row."""
        observation = self.venv.reset()
        self.reset_infos = self.venv.reset_infos
        return observation

    def step_wait(self) -> VecEnvStepReturn:
        """Step every row.

        Raises:
            TrainingError: if a reward is NaN or infinite.
        """
        observation, reward, done, infos = self.venv.step_wait()
        if (odd := np.flatnonzero(~np.isfinite(reward))).size:
            raise TrainingError(
                f"got a reward of {reward[odd[0]]} from {self._giver} in row {odd[0]}; expected finite numbers. A "
                f"lower learning_rate will not help: {self._advice}"
            )
        return observation, reward, done, infos


class VecBlind(VecEnvWrapper):
    """Shows zeros instead of what there is to see.

    Args:
        venv: the environment.
        space: what the zeros stand for.
    """

    def __init__(self, venv: VecEnv, space: gym.spaces.Box):
        super().__init__(venv, observation_space=space)
        self._nothing = np.zeros((venv.num_envs, *space.shape), space.dtype)

    def reset(self) -> np.ndarray:
        """Begin an episode in every row."""
        self.venv.reset()
        return self._nothing.copy()

    def step_wait(self) -> VecEnvStepReturn:
        """Step every row."""
        _, reward, done, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = self._nothing[0].copy()
        return self._nothing.copy(), reward, done, infos


class VecNoise(VecEnvWrapper):
    """Shows flat latents under Gaussian noise, other noise at every step.

    Args:
        venv: an environment of flat boxes.
        std: standard deviation of the noise.
        seed: of the noise.
    """

    def __init__(self, venv: VecEnv, std: float, seed: int):
        super().__init__(venv)
        self.std = std
        self._rng = np.random.default_rng(np.random.SeedSequence((seed, _NOISE_STREAM)))

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Without noise for a while."""
        std, self.std = self.std, 0.0
        try:
            yield
        finally:
            self.std = std

    def reset(self) -> np.ndarray:
        """Begin an episode in every row."""
        return self._noisy(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        """Step every row."""
        observation, reward, done, infos = self.venv.step_wait()
        for info in infos:
            if "terminal_observation" in info:
                info["terminal_observation"] = self._noisy(info["terminal_observation"])
        return self._noisy(observation), reward, done, infos

    def _noisy(self, observation: Any) -> np.ndarray:
        noise = self._rng.standard_normal(observation.shape, dtype=np.float32)
        return np.clip(observation + self.std * noise, -LATENT_BOUND, LATENT_BOUND)


class VecOwnActions(VecEnvWrapper):
    """Shows what was done last behind what there is to see: zeros, and a one for that action.

    Args:
        venv: an environment of flat boxes and discrete actions.
        num_actions: how many actions there are.
    """

    def __init__(self, venv: VecEnv, num_actions: int):
        space = venv.observation_space
        assert isinstance(space, gym.spaces.Box)
        low = np.append(space.low, np.zeros(num_actions, space.dtype))
        high = np.append(space.high, np.ones(num_actions, space.dtype))
        super().__init__(venv, observation_space=gym.spaces.Box(low, high, dtype=space.low.dtype.type))
        self.num_actions = num_actions
        self._one_hot = np.eye(num_actions, dtype=space.low.dtype)
        self._last = np.zeros((venv.num_envs, num_actions), space.low.dtype)

    def reset(self) -> np.ndarray:
        """Begin an episode in every row: nothing has been done."""
        self._last[:] = 0
        return self._with_last(self.venv.reset())

    def step_async(self, actions: np.ndarray) -> None:
        """Take note of the actions, one per row."""
        self._last = self._one_hot[actions]
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Step every row."""
        observation, reward, done, infos = self.venv.step_wait()
        for info, last in zip(infos, self._last, strict=True):
            if "terminal_observation" in info:
                info["terminal_observation"] = np.append(info["terminal_observation"], last)
        self._last[done] = 0
        return self._with_last(observation), reward, done, infos

    def _with_last(self, observation: Any) -> np.ndarray:
        return np.concatenate([observation, self._last], axis=-1)


def training_env(config: AgentTrainConfig, world: World) -> VecEnv:
    """The episodes in which an agent learns, and all that stands between them and its eyes."""
    ticks = config.horizon or world.config.horizon_frames
    if config.env is Place.dream:
        # whoever is blind needs no pixels either
        envs: Any = WorldVectorEnv(
            config.num_envs,
            world,
            obs="latent" if config.blind else config.obs,
            horizon=-(-ticks // world.config.frames_per_step),
            truncate_above=config.truncate_above,
            starts=config.starts and draw_moments(world, config.starts, config.num_starts, config.seed),
        )
        giver, advice = f"the reward head of {world.config.name}", "train the stage heads anew, or take another world"
    else:
        envs = twin_env(world, config.num_envs, config.processes, ticks, config.obs)
        if config.obs == "latent" and not config.blind:
            envs = VectorLatentObservation(envs, world)
        giver, advice = f"the simulator {world.config.source}", "look at how it rewards"
    venv: VecEnv = VecFiniteRewards(SB3VecEnv(envs), giver, advice)
    if config.blind:
        return VecBlind(venv, seen_space(config, world))
    if config.obs_noise:
        venv = VecNoise(venv, config.obs_noise, config.seed)
    if config.stack > 1:
        venv = VecFrameStack(venv, config.stack)
    own = num_own(config, world)
    return VecOwnActions(venv, own) if own else venv


def twin_env(world: World, num_envs: int, processes: bool, max_ticks: int, obs: str) -> Any:
    """Simulators of a world side by side, in this process or each in one of its own."""
    return gym.make_vec(
        world.config.source,
        num_envs=num_envs,
        vectorization_mode="async" if processes else "sync",
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
        obs="frame" if obs == "frame" else "frames",
        max_ticks=max_ticks,
    )


_NOISE_STREAM = 17
