"""A generated world as a Gymnasium environment: a thin shell around the world's pure step function."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from jaxtyping import UInt8

from cfworld.envs.actions import one_action
from cfworld.envs.arguments import check_num_envs, check_options
from cfworld.envs.core import OfCore, make_core
from cfworld.envs.env_state import EnvState, check_snapshot
from cfworld.envs.rendering import RENDER_MODES, Screen
from cfworld.envs.rewards import StepFunction
from cfworld.envs.seeding import next_episode
from cfworld.envs.spaces import world_observation_space
from cfworld.envs.undo import stream_kept_on_error
from cfworld.errors import EnvironmentClosedError, ResetNeededError
from cfworld.memory import MemoryConfig
from cfworld.world import World

if TYPE_CHECKING:
    from cfworld.envs.vector_env import WorldVectorEnv

__all__ = ["EnvState", "StepFunction", "WorldEnv"]


class WorldEnv(OfCore, gym.Env[np.ndarray, Any]):
    """An agent lives in a generated world.

    ## Description
    Every step generates the next chunk of video under the action, `frames_per_step` frames, with its reward
    and its end. The world is a learned one, so it may do what the simulator that it learned from would not.

    ## Action Space
    The world's own: Discrete, MultiDiscrete, a bounded Box, Text, or a Dict of these. The action holds for all frames
    of the step. A sequence of F actions, one for each frame, is taken too, and is what the space holds under
    `action_chunks`. Where discrete actions have names, these stand for their numbers: `step("move left")`.

    ## Observation Space
    By `obs`: "frame", the last frame, uint8 [H, W, 3]; "frames", all frames of the step stacked on the
    channel axis, uint8 [H, W, 3F]; "latent", the chunk's latents, a flat float32 box.

    ## Rewards
    The sum over the frames of the step, up to the end, by the world's reward head or by `reward_fn`.

    ## Starting State
    A short real prefix, drawn from the world's starts by the seed or named by `options={"start": ...}`; the
    first observation shows its last frames. A world without starts generates its first frames under its opening.
    `info["start"]` says which one it was.

    ## Episode End
    `terminated` by the world's hazard head (drawn with the episode's own noise) or by `termination_fn`;
    `truncated` after `horizon` steps, or where the world no longer knows what it shows, by `truncate_above`. The two
    are never both true.

    ## State
    `get_state` gives all that decides what follows: memory, noise, counters, horizon. Outside it lie what wrappers
    count, and `np_random`, which only names the first episode of an environment that was never given a seed.

    ## Arguments
    The world, and those below; ids of single worlds preset it:

        env = gym.make("cfworld/World-v0", world="path/to/checkpoint", obs="frames", horizon=300)

    ## Version History
    - v0: first version.

    Args:
        world: a world of the zoo, a checkpoint folder, or a `World`, such as one with an attention of your choice.
        variant: "student" or "teacher"; None takes the best there is.
        device: where the world computes; None means "cpu".
        obs: "frame", "frames" or "latent".
        horizon: steps until truncated; None takes the world's own.
        reward_fn: gives the reward of a step, [B], or of each of its frames, [B, F], in place of the reward head;
            `cfworld.envs.rewards` has examples. It always sees frames: with it or `termination_fn` every step is
            decoded, even under obs="latent". If it raises, the step has not happened.
        termination_fn: says whether an episode ends with the step, [B] bool, or at which of its frames, [B, F], in
            place of the hazard head.
        ends: how an end follows from the hazard head: "sampled", by the episode's own noise; "greedy", where it
            exceeds one half; "never". None takes the world's own rule, sampled unless its checkpoint says otherwise.
        truncate_above: truncate the episode after a step whose novelty, `info["novelty"]`, is higher: 0 is a typical
            real continuation and 1 as odd as the oddest hundredth of them. How many real steps a threshold cuts, the
            world's card says. `info["truncated_by_novelty"]` says that it was so. None never does.
        starts: the starts to draw from, as `reset` takes them; files are read at once. None means all of the world's.
        render_mode: None, "rgb_array" (last frame), "rgb_array_list" (all frames of the step) or "human".
        info_frames: put the frames of the step, [F, H, W, 3], into `info["frames"]`.
        memory: another memory than the world's own, a `MemoryConfig` or the name of a preset: context_forcing,
            fast_only, infinity_rope, longlive, self_forcing or uniform.
        action_chunks: the action space holds one action for each frame of a step, for agents that choose them so:
            MultiDiscrete [F] for Discrete, Box [F, A] for a Box.

    Raises:
        ConfigError: if an argument is none of these, or `truncate_above` is given for a world without a novelty score.
        StartError: if one of `starts` does not exist, or does not fit the world.
        UnknownWorldError: if there is no such world.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES}  # noqa: RUF012

    def __init__(
        self,
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
    ):
        self._core = make_core(
            world,
            variant=variant,
            device=device,
            obs=obs,
            horizon=horizon,
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
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self._core.render_fps}
        self.observation_space = world_observation_space(obs, self.world.config)
        self.action_space = self._core.action_space
        self._state: EnvState | None = None
        self._closed = False
        self._screen = Screen(self.world.config.name, self.world.config.fps)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode.

        Args:
            seed: names the episode, and those that follow it without a seed of their own.
            options: `{"start": ...}`, where the episode begins: the index of a shipped start; a `Start`, out of
                frames, a picture, a clip or a recorded episode; a `WorldState` of one row or what `get_state` gave, of
                which it becomes another future (`set_state` goes on with the old one); or an address: the path of a
                picture or of a saved state (*.safetensors), or "minari:DATASET#EPISODE@TICK". `find_start` of
                `cfworld.envs.starts` says more.

        Returns:
            The first observation, and the info with "start", which names the start for a log, and "end_frame".

        Raises:
            ConfigError: if `options` is no mapping, or an option is unknown.
            StartError: if there is no such start, or it does not fit the world.
            EnvironmentClosedError: after `close`.
        """
        self._check_open()
        with stream_kept_on_error(self):
            super().reset(seed=seed)
            before = self._state
            last = None if before is None else (before.seeds[0], int(before.episodes[0]))
            row_seed, episode = next_episode(seed, last, lambda: self.np_random)
            self._state = self._core.begin([row_seed], [episode], [check_options(options, "start").get("start")])
        self._show()
        state = self._state if self._core.obs == "latent" else self._decoded()
        return self._core.observe(state)[0].cpu().numpy(), self._info(self.num_frames, {})

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Generate the next chunk under an action.

        Args:
            action: an element of the action space, or one for every frame; see `cfworld.envs.actions`.

        Returns:
            Observation, reward, terminated, truncated, info. The info holds "hazard" and "reward_frames",
            float32 [F], "end_frame", the frame at which the episode ended or F, and "start"; where the world has a
            novelty score also "novelty" and "truncated_by_novelty".

        Raises:
            ActionError: if it is none of these.
            ResetNeededError: before the first reset, and after an end.
            EnvironmentClosedError: after `close`.
        """
        before = self._begun()
        if before.ended[0]:
            raise ResetNeededError("got a step after the end of the episode; expected a running one: call reset()")
        self._state, step = self._core.advance(before, one_action(self.world, action))
        self._show()
        infos = {name: values[0] for name, values in step.infos.items()}
        if "novelty" in infos:
            infos["truncated_by_novelty"] = bool(infos["truncated_by_novelty"])
        info = self._info(int(infos.pop("end_frame")), infos)
        return step.observation[0], float(step.reward[0]), bool(step.terminated[0]), bool(step.truncated[0]), info

    def get_state(self) -> EnvState:
        """Take a snapshot: a value that later steps leave as it is.

        Raises:
            ResetNeededError: before the first reset.
            EnvironmentClosedError: after `close`.
        """
        return self._begun()

    def set_state(self, snapshot: EnvState) -> None:
        """Go to a snapshot of this environment, or of another one of the same world.

        What follows is exactly what followed there under the same actions, up to the snapshot's own horizon.

        Args:
            snapshot: what `get_state` gave, or a row of what that of a `WorldVectorEnv` gave.

        Raises:
            StateError: if it is no snapshot, or one of another world, other weights or another memory.
            DonatedStateError: if its world state has been donated to `World.step`.
            EnvironmentClosedError: after `close`.
        """
        self._check_open()
        self._state = check_snapshot(snapshot, self.world, 1)

    def fork(self, n: int, *, seeds: int | Sequence[int] | None = None, **arguments: Any) -> "WorldVectorEnv":
        """Copies of the present moment side by side; this environment stays as it is.

        Args:
            n: how many.
            seeds: what the copies draw their noise, and the episodes that follow, from: one each, or an integer for
                seeds, seeds + 1, ... Copies without seeds of their own share the noise: the same actions have the
                same future.
            arguments: `autoreset_mode` and `tensors`, see `WorldVectorEnv`.

        Raises:
            ConfigError: if n is no integer of at least 1, or the seeds are not one per copy.
            ResetNeededError: before the first reset.
            EnvironmentClosedError: after `close`.
        """
        from cfworld.envs.vector_env import WorldVectorEnv

        return WorldVectorEnv.of_core(
            self._core, n, self._begun().select([0] * check_num_envs(n, "n")), seeds=seeds, **arguments
        )

    def frames(self) -> UInt8[np.ndarray, "F H W 3"]:
        """All frames of the last step, decoded on demand; the last valid one is repeated after an end.

        Returns:
            uint8 [F, H, W, 3], the caller's own copy.

        Raises:
            ResetNeededError: before the first reset.
            EnvironmentClosedError: after `close`.
        """
        return self._frames().copy()

    def render(self) -> Any:
        """Return what `render_mode` asks for; "human" draws at every step instead and returns None."""
        if self.render_mode in (None, "human"):
            self._check_open()
            return None
        frames = self.frames()
        return frames[-1] if self.render_mode == "rgb_array" else list(frames)

    def close(self) -> None:
        """Release the window. A second call does nothing."""
        self._closed = True
        self._screen.close()

    def _info(self, end_frame: int, infos: dict[str, Any]) -> dict[str, Any]:
        info: dict[str, Any] = {"start": self._begun().starts[0], "end_frame": end_frame, **infos}
        if self._core.info_frames:
            info["frames"] = self.frames()
        return info

    def _decoded(self) -> EnvState:
        self._state = self._core.decoded(self._begun())
        return self._state

    def _frames(self) -> np.ndarray:
        frames = self._decoded().frames
        assert frames is not None
        return frames[0].cpu().numpy()

    def _show(self) -> None:
        if self.render_mode == "human":
            self._screen.show(self._frames())

    def _check_open(self) -> None:
        if self._closed:
            raise EnvironmentClosedError("got a call after close(); expected an open environment: make a new one")

    def _begun(self) -> EnvState:
        self._check_open()
        if self._state is None:
            raise ResetNeededError("got a call before the first reset; expected an episode: call reset()")
        return self._state
