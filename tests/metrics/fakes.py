"""Twins and worlds for the tests of the metrics."""

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from cfworld.data.blind import BLIND
from cfworld.data.panorama import CIRCUMFERENCE, PAN, Panorama, draw_ring
from cfworld.envs.twins import PanoramaTwin, Twin
from cfworld.memory import MemoryConfig
from cfworld.metrics.recordings import policy_actions
from cfworld.world import StepOutput

PANORAMA = "cfworld/PanoramaReal-v0"
LONG = 10**9


class MortalTwin(Twin):
    """A bright column that the actions move over a pattern drawn from the seed; it dies at a tick drawn too."""

    fps = 10
    num_actions = 3
    resolution = (16, 16)

    def _begin(self, game_seed: int, god: bool) -> np.ndarray:
        rng = np.random.default_rng(game_seed)
        self._pattern = rng.integers(0, 128, (16, 16, 3)).astype(np.uint8)
        self._death = LONG if god else int(rng.integers(20, 80))
        self._ticks = self._column = 0
        return self._frame()

    def _tick(self, action: int) -> tuple[np.ndarray | None, float, bool]:
        self._ticks += 1
        self._column = (self._column + (0, 1, -1)[action]) % 16
        over = self._ticks >= self._death
        return (None if over else self._frame()), float(self._column < 8), over

    def _variables(self) -> dict[str, float]:
        return {"TICKS": float(self._ticks)}

    def _frame(self) -> np.ndarray:
        frame = self._pattern.copy()
        frame[:, self._column] = 255
        frame[0, 0] = self._ticks % 256  # no two moments look the same
        return frame


@dataclass(frozen=True)
class Rows:
    """State of `PerfectWorld`: a running twin for each row."""

    twins: list[Twin]

    def select(self, rows: Any) -> "Rows":
        return Rows([self.twins[row] for row in rows])


class SameFrames:
    """A tokenizer without loss: its latents are the frames."""

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        return frames

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents


class PerfectWorld:
    """Replays the twin: finds the episode and the tick that a start was cut from, and goes on from there."""

    def __init__(self, twin: type[Twin] = PanoramaTwin, source: str = PANORAMA, god: bool = False) -> None:
        self.twin, self.god = twin, god
        self.tokenizer = SameFrames()
        self.config = SimpleNamespace(
            fps=twin.fps,
            frames_per_step=4,
            frames_per_latent=4,
            latents_per_chunk=1,
            source=source,
            actions=SimpleNamespace(num_actions=3),
            memory=MemoryConfig(),
        )

    def initial(self, seeds: Any, starts: Any = None) -> tuple[Rows, None]:
        return Rows([self._resume(int(seed), start) for seed, start in zip(seeds, starts, strict=True)]), None

    def step(self, state: Rows, actions: Any, *, decode: bool = True) -> tuple[Rows, StepOutput]:
        stepped = [self._step_row(twin, row) for twin, row in zip(state.twins, np.asarray(actions), strict=True)]
        frames, rewards, ends = zip(*stepped, strict=True)
        end_frame = torch.tensor(ends)
        reward = torch.from_numpy(np.stack(rewards))
        return state, StepOutput(
            frames=torch.from_numpy(np.stack(frames)) if decode else None,
            latents=torch.zeros(len(frames), 0),
            reward=reward.sum(dim=1),
            reward_frames=reward,
            hazard=(torch.arange(4) == end_frame[:, None]).float(),
            terminated=end_frame < 4,
            end_frame=end_frame,
            novelty=torch.full((len(frames),), torch.nan),
        )

    def _resume(self, seed: int, start: Any) -> Twin:
        twin, length = self.twin(max_ticks=LONG), len(start.frames)
        for policy in BLIND:
            actions = policy_actions(twin, policy, 160, seed)
            ends = [t for t in range(length, 160) if np.array_equal(actions[t - length : t], start.actions)]
            seen = self._play(twin, seed, actions[: max(ends, default=0)], god=True)
            for tick in ends:
                if np.array_equal(seen[tick - length : tick], start.frames):
                    self._play(twin, seed, actions[:tick], god=self.god)
                    return twin
        raise AssertionError("the start is from no episode")

    def _play(self, twin: Twin, seed: int, actions: np.ndarray, god: bool) -> np.ndarray:
        twin.reset(seed=seed, options={"god": god})
        chunks = [actions[i : i + 4] for i in range(0, len(actions), 4)]
        return np.concatenate([twin.frames()[:0], *(twin.step_ticks(chunk).frames for chunk in chunks)])

    def _step_row(self, twin: Twin, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        if not twin._running:
            return twin.frames()[-1:].repeat(4, axis=0), np.zeros(4, np.float32), 4
        ticks = twin.step_ticks(actions)
        rewards = np.zeros(4, np.float32)
        rewards[: len(ticks.rewards)] = ticks.rewards
        return twin.frames(), rewards, len(ticks.frames) - 1 if ticks.terminated else 4


class Discoloured(PerfectWorld):
    """Turns red with time, as drifting worlds do."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = 0

    def step(self, state: Rows, actions: Any, *, decode: bool = True) -> tuple[Rows, StepOutput]:
        state, output = super().step(state, actions, decode=decode)
        self.steps += 1
        if output.frames is None:
            return state, output
        frames = output.frames.float()
        frames[..., 0] += 10 * self.steps
        return state, replace(output, frames=frames.clamp(0, 255).byte())


@dataclass(frozen=True)
class Cameras:
    """State of `Remembering`: a panorama for each row, and when each column of its ring was last in view."""

    panoramas: list[Panorama]
    last_seen: np.ndarray  # [B, columns], in ticks; -inf for never
    tick: int


class Remembering(PerfectWorld):
    """An oracle that shows what it last saw up to `seconds` ago, and what it does not remember as another episode."""

    def __init__(self, seconds: float = np.inf) -> None:
        super().__init__(god=True)
        self.ticks = seconds * self.config.fps
        self.foreign = draw_ring(np.random.default_rng(0)).image

    def initial(self, seeds: Any, starts: Any = None) -> tuple[Cameras, None]:
        panoramas = [self._at(int(seed), start.frames[-1]) for seed, start in zip(seeds, starts, strict=True)]
        last_seen = np.full((len(panoramas), CIRCUMFERENCE), -np.inf)
        for row, (camera, start) in enumerate(zip(panoramas, starts, strict=True)):
            for tick, action in enumerate(reversed(start.actions.tolist())):
                last_seen[row, self._columns(camera)] = np.maximum(last_seen[row, self._columns(camera)], -tick)
                camera.heading = (camera.heading - PAN[action]) % CIRCUMFERENCE
            for action in start.actions.tolist():
                camera.tick(action)
        return Cameras(panoramas, last_seen, 0), None

    def step(self, state: Cameras, actions: Any, *, decode: bool = True) -> tuple[Cameras, StepOutput]:  # pyright: ignore[reportIncompatibleMethodOverride]
        actions = np.asarray(actions)
        frames = np.zeros((*actions.shape, 64, 64, 3), np.uint8)
        for row, camera in enumerate(state.panoramas):
            foreign = self.foreign
            for i, action in enumerate(actions[row].tolist()):
                camera.tick(action)
                columns, now = self._columns(camera), state.tick + i + 1
                remembered = now - state.last_seen[row, columns] <= self.ticks
                frames[row, i] = np.where(remembered[None, :, None], camera.frame(), foreign[:, columns])
                state.last_seen[row, columns] = np.where(remembered, now, state.last_seen[row, columns])
        nothing = torch.zeros(len(frames), 4)
        return replace(state, tick=state.tick + 4), StepOutput(
            frames=torch.from_numpy(frames) if decode else None,
            latents=torch.zeros(len(frames), 0),
            reward=nothing.sum(dim=1),
            reward_frames=nothing,
            hazard=nothing,
            terminated=torch.zeros(len(frames), dtype=torch.bool),
            end_frame=torch.full((len(frames),), 4),
            novelty=torch.full((len(frames),), torch.nan),
        )

    @staticmethod
    def _columns(camera: Panorama) -> np.ndarray:
        return (camera.heading + np.arange(-32, 32)) % CIRCUMFERENCE

    def _at(self, seed: int, view: np.ndarray) -> Panorama:
        twin = PanoramaTwin(max_ticks=LONG)
        twin.reset(seed=seed, options={"god": True})
        camera = twin._panorama
        for heading in range(CIRCUMFERENCE):
            camera.heading = heading
            if np.array_equal(camera.frame(), view):
                return camera
        raise AssertionError("the view is from no heading of the episode")
