"""A vector environment of Gymnasium as one of Stable-Baselines3."""

import inspect
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from jaxtyping import Bool
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices

from cfworld.envs.vector_env import WorldVectorEnv
from cfworld.errors import ConfigError

__all__ = ["SB3VecEnv"]


class SB3VecEnv(VecEnv):
    """Lets Stable-Baselines3 learn in a vector environment, such as `gym.make_vec` makes.

    A row that ends begins anew in the same step: `infos[row]["terminal_observation"]` is what it saw last, and
    `infos[row]["TimeLimit.truncated"]` says whether it was cut off. A row's `reset_infos` are those of its last reset.
    All rows are one environment, so they share their attributes.

    Args:
        envs: a vector environment in mode SAME_STEP that gives arrays.

    Raises:
        ConfigError: if it is no vector environment, has another mode, or gives tensors.
    """

    def __init__(self, envs: VectorEnv[Any, Any, Any]):
        if not isinstance(envs, VectorEnv):
            raise ConfigError(f"got {envs}; expected a vector environment, such as gym.make_vec makes")
        mode = envs.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise ConfigError(f"got autoreset_mode={mode}; expected SAME_STEP, which is what SB3 counts on")
        if getattr(envs.unwrapped, "tensors", False):
            raise ConfigError("got tensors=True; expected an environment of arrays, which is what SB3 stores")
        self.envs = envs
        self._actions: np.ndarray | None = None
        super().__init__(envs.num_envs, envs.single_observation_space, envs.single_action_space)
        self.metadata = {**envs.metadata, **self.metadata}

    def reset(self) -> np.ndarray:
        """Begin an episode in every row, with the seeds of `seed` and the options of `set_options`, used once.

        Raises:
            ConfigError: if rows of a simulator have options of their own, which only those of a world may.
        """
        options = self._reset_options_of_rows()
        observation, infos = self.envs.reset(seed=self._seeds, options=options)  # pyright: ignore[reportArgumentType]
        self.reset_infos = _per_row(infos, self.num_envs)
        self._reset_seeds()
        self._reset_options()
        return observation

    def _reset_options_of_rows(self) -> dict[str, Any] | None:
        """The options as the environment takes them: a world's rows have their own, a simulator's share theirs."""
        if isinstance(self.envs.unwrapped, WorldVectorEnv):
            named = sorted({name for options in self._options for name in options})
            return {name: [row.get(name) for row in self._options] for name in named} or None
        if any(options != self._options[0] for options in self._options):
            raise ConfigError(
                f"got options {self._options}; expected the same for all rows, which is what {self.envs} takes"
            )
        return self._options[0] or None

    def step_async(self, actions: np.ndarray) -> None:
        """Take note of the actions, one per row."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Step every row.

        Returns:
            Observations, rewards float32 [B], dones [B], and one info per row: that of the step that was taken.
        """
        observation, reward, terminated, truncated, infos = self.envs.step(self._actions)
        dones = terminated | truncated
        last_seen, last_infos = infos.pop("final_obs", None), infos.pop("final_info", {})
        rows = _per_row(infos, self.num_envs)
        if dones.any():
            finals = _per_row(last_infos, self.num_envs)
            for row in np.flatnonzero(dones).tolist():
                self.reset_infos[row] = rows[row]
                # what wrappers add stands beside the reset's infos, though it tells of the episode that ended
                rows[row] = {**rows[row], **finals[row], "terminal_observation": last_seen[row]}
        for row, late in zip(rows, (truncated & ~terminated).tolist(), strict=True):
            row["TimeLimit.truncated"] = late
        return observation, reward.astype(np.float32), dones, rows

    def close(self) -> None:
        """Close the environment."""
        self.envs.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of the environment, once per row asked for.

        Raises:
            AttributeError: if there is none of this name.
        """
        return [getattr(self.envs.unwrapped, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the environment, for all rows.

        Raises:
            ConfigError: if only some rows are named, since they share it, or if it cannot be set.
        """
        if set(self._get_indices(indices)) != set(range(self.num_envs)):
            raise ConfigError(f"got {attr_name!r} for some rows; expected all, since the rows share their attributes")
        try:
            setattr(self.envs.unwrapped, attr_name, value)
        except AttributeError as error:
            raise ConfigError(
                f"got {attr_name}={value!r}, which cannot be changed; expected a new environment made with it"
            ) from error

    def env_method(self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any):
        """Call a method that takes `rows`, such as `get_state`, `set_state` or `frames`, once per row asked for.

        Returns:
            What the calls gave.

        Raises:
            AttributeError: if there is no method of this name.
            ConfigError: if the method is not one of rows.
        """
        method = getattr(self.envs.unwrapped, method_name)
        if "rows" not in inspect.signature(method).parameters:
            raise ConfigError(f"got method {method_name!r}; expected one that takes rows: call it on `envs` itself")
        return [method(*method_args, **method_kwargs, rows=[row]) for row in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: VecEnvIndices = None):
        """False for every row: no row has wrappers of its own."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[np.ndarray | None]:
        """The last frame of every row under render_mode="rgb_array", None otherwise."""
        frames = self.envs.render() if self.render_mode == "rgb_array" else None
        return [None] * self.num_envs if frames is None else list(frames)  # pyright: ignore[reportReturnType]


def _per_row(infos: dict[str, Any], num_envs: int, mask: Bool[np.ndarray, " B"] | None = None) -> list[dict[str, Any]]:
    """One mapping per row of the infos that it has; those of wrappers may hold mappings, whose mask stands outside."""
    rows: list[dict[str, Any]] = [{} for _ in range(num_envs)]
    for name, values in infos.items():
        has = infos.get(f"_{name}", mask)
        if has is None or name.startswith("_"):
            continue
        if isinstance(values, dict):
            listed = _per_row(values, num_envs, has)
        else:
            listed = values.tolist() if values.ndim == 1 else values
        for row in np.flatnonzero(has).tolist():
            rows[row][name] = listed[row]
    return rows
