"""Plays a scenario: all branches are rows of one batch, and a branch is a copy of the moment at which it forks."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from cfworld.envs.core import EnvCore
from cfworld.envs.env_state import EnvState
from cfworld.envs.scenarios.acts import Played
from cfworld.envs.scenarios.player import CastCue, Player
from cfworld.envs.scenarios.result import BranchResult

__all__ = ["Role", "play"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """A branch in its world."""

    name: str
    fork_frame: int
    """Where it leaves the trunk: at the beginning of a step."""
    noise: int
    """The seed of its noise from there on."""
    cues: Sequence[CastCue] | None
    """What it plays from there; None to go on with the trunk's."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Chunk:
    """A step of one row, on the host."""

    frames: np.ndarray
    played: Played
    reward: np.ndarray
    hazard: np.ndarray
    novelty: float
    end_frame: int


@dataclass(kw_only=True, slots=True, eq=False)
class _Row:
    """A row of the batch: what it has been through, and who plays it. The trunk has no name."""

    name: str | None
    players: list[Player]
    """The first plays. The others are told the same, to go on in the branches that will fork from this row."""
    chunks: list[_Chunk] = field(default_factory=list)
    total: float = 0.0
    """Sum of the rewards."""

    def play(self, first: int, count: int, frames: np.ndarray) -> Played:
        """Let all act; gives what the first of them does."""
        played = [player.play(first, count, frames) for player in self.players]
        return played[0]


class _Stage:
    """The rows that live, the branches that wait for their moment, and what has ended."""

    def __init__(self, core: EnvCore, state: EnvState, roles: Sequence[Role], new_player: Callable[..., Player]):
        self._core = core
        self._new_player = new_player
        self._trunk = _Row(name=None, players=[new_player()])
        self._shadows = {role.name: new_player() for role in roles if role.cues is None}
        self._trunk.players += self._shadows.values()
        self._waiting = list(roles)
        self._rows = [self._trunk]
        self._state = state
        self._start = state
        self.found: dict[str, _Row] = {}

    def fork(self, first: int) -> None:
        """Let the branches begin that leave the trunk at this frame, and the trunk go when none waits any more."""
        if self._trunk not in self._rows:
            return
        moment = self._state.select([self._rows.index(self._trunk)])
        for role in [role for role in self._waiting if role.fork_frame <= first]:
            self._waiting.remove(role)
            player = self._player(role, first)
            row = _Row(name=role.name, players=[player], chunks=list(self._trunk.chunks), total=self._trunk.total)
            self.found[role.name] = row
            self._rows.append(row)
            self._state = EnvState.cat([self._state, _reseeded(moment, role.noise)])
        if not self._waiting:
            self._keep([row is not self._trunk for row in self._rows])

    def _player(self, role: Role, first: int) -> Player:
        if role.cues is not None:
            return self._new_player(role.cues, first)
        player = self._shadows[role.name]
        self._trunk.players.remove(player)
        return player

    def step(self, first: int) -> int:
        """Play the step that begins with this frame; gives how many rows lived."""
        lived = len(self._rows)
        if not lived:
            return 0
        num_frames = self._core.world.config.frames_per_step
        seen = [row.chunks[-1].frames if row.chunks else _host(self._start)[0] for row in self._rows]
        played = [row.play(first, num_frames, frames) for row, frames in zip(self._rows, seen, strict=True)]
        self._state, out = self._core.advance(self._state, torch.stack([one.actions for one in played]))
        frames = _host(self._state)
        unknown = np.full(lived, np.nan, np.float32)
        for place, row in enumerate(self._rows):
            chunk = _Chunk(
                frames=frames[place],
                played=played[place],
                reward=out.infos["reward_frames"][place],
                hazard=out.infos["hazard"][place],
                novelty=float(out.infos.get("novelty", unknown)[place]),
                end_frame=int(out.infos["end_frame"][place]),
            )
            row.chunks.append(chunk)
            row.total += float(out.reward[place])
            signals = {
                "reward": float(out.reward[place]),
                "hazard": float(chunk.hazard.max()),
                "novelty": chunk.novelty,
                "return": row.total,
            }
            for player in row.players:
                player.watch(first + num_frames, signals)
        self._keep([not ended for ended in out.terminated])
        return lived

    def finish(self) -> None:
        """Give those that still wait, because the trunk ended before their moment, the trunk's own end."""
        for role in self._waiting:
            self.found[role.name] = self._trunk

    def _keep(self, mask: Sequence[bool]) -> None:
        self._rows = [row for row, kept in zip(self._rows, mask, strict=True) if kept]
        if self._rows and not all(mask):
            self._state = self._state.select(np.array(mask))


def play(
    core: EnvCore,
    state: EnvState,
    roles: Sequence[Role],
    new_player: Callable[..., Player],
    num_frames: int,
    on_step: Callable[[int], Any] | None = None,
) -> list[BranchResult]:
    """Generate every branch.

    Args:
        core: how episodes go on.
        state: where the episode begins, one row.
        roles: the branches.
        new_player: from the cues of a branch and the frame of its fork to its player; from nothing to the trunk's.
        num_frames: T, at which every episode is cut off.
        on_step: is told after every step how many rows it had.

    Returns:
        A record for each of the roles.
    """
    stage = _Stage(core, state, roles, new_player)
    for first in range(0, num_frames, core.world.config.frames_per_step):
        stage.fork(first)
        lived = stage.step(first)
        if on_step is not None:
            on_step(lived)
    stage.finish()
    opening = _host(state)[0, -1:]
    return [_record(role, stage.found[role.name], opening, num_frames, core.world.config.fps) for role in roles]


def _record(role: Role, row: _Row, opening: np.ndarray, num_frames: int, fps: int) -> BranchResult:
    """What a row has been through, cut off at `num_frames` or after its end."""
    chunks, size = row.chunks, len(row.chunks[0].reward)
    end = (len(chunks) - 1) * size + chunks[-1].end_frame
    terminated = chunks[-1].end_frame < size and end < num_frames
    kept = slice(0, end + 1 if terminated else num_frames)
    return BranchResult(
        name=role.name,
        fork=role.fork_frame / fps,
        noise=role.noise,
        fps=fps,
        frames=np.concatenate([opening, np.concatenate([chunk.frames for chunk in chunks])[kept]]),
        actions=torch.cat([chunk.played.actions for chunk in chunks])[kept].cpu().numpy(),
        labels=tuple([label for chunk in chunks for label in chunk.played.labels][kept]),
        reward=np.concatenate([chunk.reward for chunk in chunks])[kept],
        hazard=np.concatenate([chunk.hazard for chunk in chunks])[kept],
        novelty=np.array([chunk.novelty for chunk in chunks], np.float32).repeat(size)[kept],
        terminated=terminated,
    )


def _reseeded(moment: EnvState, noise: int) -> EnvState:
    if moment.seeds == (noise,):
        return moment
    return dataclasses.replace(moment, world=moment.world.reseeded([noise]), seeds=(noise,))


def _host(state: EnvState) -> np.ndarray:
    assert state.frames is not None
    return state.frames.cpu().numpy()
