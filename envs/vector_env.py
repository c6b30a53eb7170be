"""Many episodes of a generated world side by side, as a Gymnasium vector environment."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from cfworld.envs.actions import row_actions
from cfworld.envs.arguments import (
    check_flag,
    check_fork_seeds,
    check_num_envs,
    check_row,
    check_row_options,
    check_row_seeds,
    check_step_limit,
    is_integer,
    one_of,
)
from cfworld.envs.autoreset import begin_at_once, begin_late, observation, restarted, whereabouts
from cfworld.envs.core import EnvCore, OfCore, make_core
from cfworld.envs.env_state import EnvState, check_snapshot
from cfworld.envs.host import as_given
from cfworld.envs.rendering import RENDER_MODES, Screen, tiled
from cfworld.envs.rewards import StepFunction
from cfworld.envs.spaces import world_observation_space
from cfworld.envs.undo import stream_kept_on_error
from cfworld.envs.vector_info import masked_info
from cfworld.errors import EnvironmentClosedError, ResetNeededError
from cfworld.memory import MemoryConfig
from cfworld.world import World

__all__ = ["WorldVectorEnv"]


class WorldVectorEnv(OfCore, VectorEnv[Any, Any, Any]):
    """Many agents live in a generated world, each in an episode of its own.

    ## Description
    Each step is one batched call of the world for all rows. A row is the `WorldEnv` of its seed: on a CPU its episode
    is bit for bit the same there, in any batch and in every place of it; on a GPU at an equal number of rows.

    ## Spaces, Rewards, Episode End
    Those of `WorldEnv`, batched.

    ## Starting State
    `reset(seed=s)` gives row i the seed s + i; a sequence gives each row its own. Without a seed a row goes on to its
    next episode, named by its seed and the episode's number, and never by what other rows did.
    `options={"reset_mask": mask}` resets the rows of the mask alone; `options={"start": ...}` names one start for
    all of them, or a sequence of one per row, None where it is to be drawn.

    ## Autoreset
    `autoreset_mode`, also in `metadata["autoreset_mode"]`. SAME_STEP: a row that ends begins anew in the same step;
    what it saw last is in `info["final_obs"]` and `info["final_info"]`. NEXT_STEP: it begins with the next step, whose
    action it ignores and whose reward is 0. DISABLED: it must be reset with a mask.

    ## State
    `get_state` and `set_state` hold all that decides what follows, for all rows or for some. Outside it lie what
    wrappers count, and `np_random`, which only names the first episodes of rows that were never given a seed.

    ## Arguments
    Those of `WorldEnv`, the number of rows, and three more:

        envs = gym.make_vec(
            "cfworld/Panorama-v0", num_envs=64, vectorization_mode="vector_entry_point", autoreset_mode="NextStep"
        )

    ## Version History
    - v0: first version.

    Args:
        num_envs: rows.
        world: see `WorldEnv` for this and all that follow.
        variant: "student" or "teacher".
        device: where the world computes.
        obs: "frame", "frames" or "latent".
        horizon: steps until truncated.
        reward_fn: gives the reward of a step, [B], or of each of its frames, [B, F], in place of the reward head.
        termination_fn: says, [B] bool, which episodes end with the step, or at which of its frames, [B, F].
        ends: how an end follows from the hazard head.
        truncate_above: truncate the episodes whose novelty is higher.
        starts: the starts to draw from.
        render_mode: None, "rgb_array" or "rgb_array_list", of which `render` gives one per row, or "human", a window
            with all rows.
        info_frames: put the frames of the step, [B, F, H, W, 3], into `info["frames"]`.
        memory: another memory than the world's own.
        action_chunks: the action space holds one action for each frame of a step.
        autoreset_mode: an `AutoresetMode`, or its value.
        tensors: observations, rewards, ends and the infos that the world computes are tensors on the world's device,
            and so may actions be: the values of those that lie on a GPU are taken on trust. Only which rows have ended
            comes over to the host. Names, `infos["start"]`, and the masks of infos stay arrays; `infos["final_obs"]`
            is an array of objects as Gymnasium has it, one tensor for each row that ended.
        max_episode_steps: Gymnasium's name for `horizon`, which a registration may give too. No wrapper counts here, so
            that this limit is part of the state.

    Raises:
        ConfigError: if an argument is none of these.
        StartError: if one of `starts` does not exist, or does not fit the world.
        UnknownWorldError: if there is no such world.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012

    def __init__(
        self,
        num_envs: int,
        world: str | Path | World,
        variant: str | None = None,
        device: str | None = None,
        obs: str = "frame",
        horizon: int | None = None,
        reward_fn: StepFunction | None = None,
        termination_fn: StepFunction | None = None,
        ends: str | None = None,
        truncate_above: float | None = None,
        starts: Sequence[Any] | np.ndarray | None = None,
        render_mode: str | None = None,
        info_frames: bool = False,
        memory: MemoryConfig | str | None = None,
        action_chunks: bool = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        tensors: bool = False,
        max_episode_steps: int | None = None,
    ):
        core = make_core(
            world,
            variant=variant,
            device=device,
            obs=obs,
            horizon=check_step_limit(horizon, max_episode_steps),
            reward_fn=reward_fn,
            termination_fn=termination_fn,
            ends=ends,
            truncate_above=truncate_above,
            starts=starts,
            render_mode=render_mode,
            info_frames=info_frames,
            memory=memory,
            action_chunks=action_chunks,
        )
        self._build(core, num_envs, autoreset_mode, tensors)

    @classmethod
    def of_core(
        cls,
        core: EnvCore,
        num_envs: int,
        state: EnvState,
        *,
        seeds: int | Sequence[int] | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        tensors: bool = False,
    ) -> "WorldVectorEnv":
        """An environment that goes on from a state; see `WorldEnv.fork`."""
        self = cls.__new__(cls)
        self._build(core, num_envs, autoreset_mode, tensors)
        given = check_fork_seeds(seeds, num_envs)
        if given is not None:
            state = dataclasses.replace(
                state,
                world=state.world.reseeded(given),
                seeds=tuple(given),
                episodes=np.zeros(num_envs, np.int64),
            )
        self._state = state
        return self

    def _build(self, core: EnvCore, num_envs: int, autoreset_mode: AutoresetMode | str, tensors: bool) -> None:
        self.num_envs = check_num_envs(num_envs)
        mode = autoreset_mode.value if isinstance(autoreset_mode, AutoresetMode) else autoreset_mode
        one_of("autoreset_mode", mode, [known.value for known in AutoresetMode])
        self._core = core
        self.autoreset_mode = AutoresetMode(mode)
        self.tensors = check_flag("tensors", tensors)
        self.render_mode = core.render_mode
        self.metadata = {
            **self.metadata,
            "render_fps": core.render_fps,
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_observation_space = world_observation_space(core.obs, self.world.config)
        self.single_action_space = core.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(core.action_space, num_envs)
        self._state: EnvState | None = None
        self._screen = Screen(self.world.config.name, self.world.config.fps)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode in every row, or in those of `options["reset_mask"]`.

        Args:
            seed: names the rows' episodes: an integer for seed + row, or one integer or None per row.
            options: "reset_mask", a bool array [num_envs], and "start", one start or a sequence of one per row, each
                what `WorldEnv.reset` takes.

        Returns:
            The observations of all rows, and the infos "start" and "end_frame" of those that were reset.

        Raises:
            ConfigError: if seeds or options do not fit.
            StartError: if there is no such start, or it does not fit the world.
            ResetNeededError: if the first reset leaves a row out.
            EnvironmentClosedError: after `close`.
        """
        self._check_open()
        seeds = check_row_seeds(seed, self.num_envs)
        mask, starts = check_row_options(options, self.num_envs)
        with stream_kept_on_error(self):
            if is_integer(seed):
                super().reset(seed=int(seed))
            before = self._state if mask.all() else self._begun()
            self._state = restarted(self._core, before, mask, seeds, starts, lambda: self.np_random)
        self._show()
        looked_at = self._core.obs != "latent" or self._core.info_frames
        state = self._seen() if looked_at else self._state
        infos = whereabouts(self._core, state, self.tensors)
        infos["end_frame"] = as_given(state.end_frame.clone(), self.tensors)
        return observation(self._core, state, self.tensors), masked_info(infos, mask)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Generate the next chunk of every row.

        Args:
            actions: one action per row, an element of the action space, or one per row and frame; see
                `cfworld.envs.actions`.

        Returns:
            Observations, rewards [B] float64 (float32 with `tensors`), terminated [B], truncated [B], infos. The infos
            hold "hazard" and "reward_frames", float32 [B, F], "end_frame" and "start", and where the world has a
            novelty score "novelty", float32 [B], and "truncated_by_novelty", each beside its "_mask".

        Raises:
            ActionError: if an action is none of these. Nothing has happened then.
            ResetNeededError: before the first reset, and if a row has ended that is not reset by itself.
            EnvironmentClosedError: after `close`.
        """
        before = self._begun()
        next_step = self.autoreset_mode is AutoresetMode.NEXT_STEP
        if before.ended.any() and not next_step:
            raise ResetNeededError(
                f"got a step after the end of rows {np.flatnonzero(before.ended).tolist()}; expected running ones: "
                'call reset(options={"reset_mask": mask})'
            )
        given = row_actions(self.world, actions, self.num_envs, look=not self.tensors)
        after, step = self._core.advance(before, given, tensors=self.tensors)
        if next_step and before.ended.any():
            self._state, result = begin_late(self._core, after, step, before.ended, self.tensors)
        elif self.autoreset_mode is AutoresetMode.SAME_STEP and after.ended.any():
            self._state, result = begin_at_once(self._core, after, step, self.tensors)
        else:
            self._state = after
            infos = whereabouts(self._core, after, self.tensors) | step.infos
            every = np.ones(self.num_envs, np.bool_)
            result = (step.observation, step.reward, step.terminated, step.truncated, masked_info(infos, every))
        self._show()
        return result

    def get_state(self, rows: Any = None) -> EnvState:
        """Take a snapshot: a value that later steps leave as it is.

        Args:
            rows: indices, or a mask; None for all. One row alone may go on in a `WorldEnv`.

        Raises:
            StateError: if there are no such rows.
            ResetNeededError: before the first reset.
            EnvironmentClosedError: after `close`.
        """
        return self._begun() if rows is None else self._begun().select(rows)

    def set_state(self, state: EnvState, rows: Any = None) -> None:
        """Go to a snapshot of this environment, or of another one of the same world.

        What follows is exactly what followed there under the same actions, up to the snapshot's own horizons.

        Args:
            state: what `get_state` gave, here or in a `WorldEnv`.
            rows: where its rows go, indices, each once, or a mask; None for all. The others keep their bits.

        Raises:
            StateError: if it is no snapshot, does not fit the rows, or is one of another world, weights or memory.
            DonatedStateError: if its world state has been donated to `World.step`.
            ResetNeededError: before the first reset, if `rows` are given.
            EnvironmentClosedError: after `close`.
        """
        self._check_open()
        if rows is None:
            self._state = check_snapshot(state, self.world, self.num_envs)
            return
        before = self._begun()
        self._state = before.replace(rows, check_snapshot(state, self.world, before.world.select(rows).num_rows))

    def fork(self, n: int, row: int, *, seeds: int | Sequence[int] | None = None, **arguments: Any) -> "WorldVectorEnv":
        """Copies of one row's present moment side by side; this environment stays as it is.

        Args:
            n: how many.
            row: of which row.
            seeds: see `WorldEnv.fork`, as for the arguments and errors.
            arguments: `autoreset_mode` and `tensors`; this environment's own by default.

        Raises:
            StateError: if there is no such row.
        """
        own: dict[str, Any] = {"autoreset_mode": self.autoreset_mode, "tensors": self.tensors}
        state = self._begun().select([check_row(row, self.num_envs)] * check_num_envs(n, "n"))
        return WorldVectorEnv.of_core(self._core, n, state, seeds=seeds, **(own | arguments))

    def frames(self, rows: Any = None) -> Any:
        """All frames of the last step, decoded on demand; the last valid one is repeated after an end.

        A row that began anew within the step shows the first frames of its new episode.

        Args:
            rows: indices, or a mask; None for all.

        Returns:
            uint8 [B, F, H, W, 3], an array or, with `tensors`, a tensor, the caller's own copy.

        Raises:
            StateError: if there are no such rows.
            ResetNeededError: before the first reset.
            EnvironmentClosedError: after `close`.
        """
        state = self._seen() if rows is None else self._core.decoded(self.get_state(rows))
        assert state.frames is not None
        return as_given(state.frames.clone(), self.tensors)

    def render(self) -> tuple[Any, ...] | None:
        """What `render_mode` asks for, one per row; "human" draws at every step instead and gives None."""
        if self.render_mode in (None, "human"):
            self._check_open()
            return None
        frames = self._shown()
        return tuple(frames[:, -1] if self.render_mode == "rgb_array" else map(list, frames))

    def close_extras(self, **kwargs: Any) -> None:
        """Release the window."""
        self._screen.close()

    def _seen(self) -> EnvState:
        self._state = self._core.decoded(self._begun())
        return self._state

    def _shown(self) -> np.ndarray:
        frames = self.frames()
        return frames.cpu().numpy() if isinstance(frames, torch.Tensor) else frames

    def _show(self) -> None:
        if self.render_mode != "human":
            return
        pictures = tiled(self._shown())
        self._screen.show(pictures, max(1, 8 * self.world.config.resolution[1] // pictures.shape[2]))

    def _check_open(self) -> None:
        if self.closed:
            raise EnvironmentClosedError("got a call after close(); expected an open environment: make a new one")

    def _begun(self) -> EnvState:
        self._check_open()
        if self._state is None:
            raise ResetNeededError("got a call before the first reset; expected episodes: call reset() for all rows")
        return self._state
