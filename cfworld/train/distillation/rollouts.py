"""Where the rollouts that are judged come from: fresh ones from real starts, or ones that go on from step to step."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Num
from torch import Tensor

from cfworld.train.distillation.curriculum import CurriculumConfig, draw_horizons
from cfworld.train.distillation.self_rollout import Rollout, SelfRollout, Target
from cfworld.train.forcing.clip_losses import ClipStep
from cfworld.train.processes.team import ALONE, Team

__all__ = ["FreshRollouts", "Judged", "OngoingRollouts", "RolloutSource", "looped_actions"]

SEEDS = 2**62


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What a step's losses are taken on.

    Attributes:
        target: All targets of the step, as rows.
        rollout: Where the rollouts are after them.
    """

    target: Target
    rollout: Rollout


@runtime_checkable
class RolloutSource(Protocol):
    """Gives every step its targets."""

    team: Team
    """Who has the other rows."""

    def judged(self, batch: ClipStep, exit_step: int, generator: torch.Generator, *, grad: bool) -> Judged:
        """Roll out, and generate the targets of a step, with the student's gradient if `grad`."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What goes on from step to step."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


class FreshRollouts:
    """Every step begins at real prefixes and rolls out to one horizon, drawn for all rows.

    Context chunks are denoised to the end; targets leave at the exit pass and are remembered as they left, as in
    Self-Forcing and in Context Forcing's clean-context policy.

    Args:
        machine: Rolls out.
        curriculum: Law of the horizon.
        prefix: Latents of a prefix.
        num_targets: Targets at the end of the horizon, one after the other.
    """

    def __init__(self, machine: SelfRollout, curriculum: CurriculumConfig, prefix: int, num_targets: int) -> None:
        self.machine, self.curriculum = machine, curriculum
        self.prefix, self.num_targets = prefix, num_targets
        self.team: Team = ALONE

    def judged(self, batch: ClipStep, exit_step: int, generator: torch.Generator, *, grad: bool) -> Judged:
        """Roll out from the clips' prefixes, and generate the targets of a step."""
        rows, device = len(batch.clips.latents), batch.clips.latents.device
        horizon = int(draw_horizons(self.curriculum, batch.step, (), generator))
        seeds = self.team.own(torch.randint(SEEDS, (rows * self.team.size,), generator=generator, device=device))
        chunk, window = self.machine.chunk, self.machine.chunk * self.machine.score_window
        end = self.prefix + horizon * chunk + self.num_targets * window
        actions = looped_actions(batch.clips.actions, batch.clips.present, self.prefix, end)
        rollout = self.machine.begin(batch.clips.latents[:, : self.prefix], actions[:, : self.prefix], seeds)
        context, last = actions[:, self.prefix :].split([horizon * chunk, self.num_targets * window], dim=1)
        for piece in context.split(chunk, dim=1) if horizon else ():
            rollout, _ = self.machine.advance(rollout, piece)
        targets = []
        for piece in last.split(window, dim=1):
            rollout, target = self.machine.target(rollout, piece, exit_step, grad=grad, finish=False)
            targets.append(target)
        return Judged(target=Target.cat(targets), rollout=rollout)

    def state_dict(self) -> dict[str, Any]:
        """Nothing: a step's rollouts end with it."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore nothing."""


class OngoingRollouts:
    """Every row is a rollout that goes on by the targets of each step, until its horizon; then it begins anew.

    A step costs the same whatever the horizon. In return a row's remembered keys were written by the weights of the
    steps before, and ages tilt towards the young: a row of horizon k is judged at every age up to k. Targets are
    denoised to the end after they were judged, for what is remembered is always clean.

    Args:
        machine: Rolls out.
        curriculum: Law of the horizon.
        prefix: Latents of a prefix.
        num_targets: Targets by which a row goes on in a step.
    """

    def __init__(self, machine: SelfRollout, curriculum: CurriculumConfig, prefix: int, num_targets: int) -> None:
        self.machine, self.curriculum = machine, curriculum
        self.prefix, self.num_targets = prefix, num_targets
        self.team: Team = ALONE
        self.rollout: Rollout | None = None
        self.horizon = torch.zeros(0, dtype=torch.int64)
        self.actions = torch.zeros(0)

    def judged(self, batch: ClipStep, exit_step: int, generator: torch.Generator, *, grad: bool) -> Judged:
        """Begin anew where a row is over, and generate the targets of a step."""
        rollout = self._renewed(batch, generator)
        window = self.machine.score_window
        targets = []
        for _ in range(self.num_targets):
            piece = self._next_actions(rollout.step, window)
            rollout, target = self.machine.target(rollout, piece, exit_step, grad=grad, finish=True)
            targets.append(target)
        self.rollout = rollout
        return Judged(target=Target.cat(targets), rollout=rollout)

    def state_dict(self) -> dict[str, Any]:
        """The rollouts as they stand."""
        if self.rollout is None:
            return {}
        mark = self.team.by_rows
        rollout = {name: mark(value, Rollout.row_axis(name)) for name, value in self.rollout.state_dict().items()}
        return {"rollout": rollout, "horizon": mark(self.horizon), "actions": mark(self.actions)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        if state:
            device = next(self.machine.student.parameters()).device
            own, kept = self.team.own_rows, state["rollout"]
            rows = {name: own(value, Rollout.row_axis(name)) for name, value in kept.items()}
            self.rollout = Rollout.from_state_dict(rows, device)
            self.horizon, self.actions = (own(state[name]).to(device) for name in ("horizon", "actions"))

    def _renewed(self, batch: ClipStep, generator: torch.Generator) -> Rollout:
        """The rollouts, of which those that reached their horizon have begun anew from the step's clips."""
        clips, device, team = batch.clips, batch.clips.latents.device, self.team
        rows = len(clips.latents) * team.size
        seeds = team.own(torch.randint(SEEDS, (rows,), generator=generator, device=device))
        horizon = team.own(draw_horizons(self.curriculum, batch.step, (rows,), generator))
        chunk = self.machine.chunk
        end = self.prefix + (self.curriculum.last + self.num_targets * self.machine.score_window) * chunk
        actions = looped_actions(clips.actions, clips.present, self.prefix, end)
        if self.rollout is None:
            self.horizon, self.actions = horizon, actions
            return self.machine.begin(clips.latents[:, : self.prefix], actions[:, : self.prefix], seeds)
        over = self.rollout.step > self.horizon
        index = over.nonzero()[:, 0]
        if not team.any(len(index) > 0):
            return self.rollout
        # All processes begin as soon as one does, a row that comes to nothing if need be: networks that are shared out
        # must run everywhere at once.
        begin = index if len(index) else torch.zeros(1, dtype=torch.int64, device=device)
        begun = self.machine.begin(clips.latents[begin, : self.prefix], actions[begin, : self.prefix], seeds[begin])
        if not len(index):
            return self.rollout
        self.horizon = torch.where(over, horizon, self.horizon)
        self.actions = self.actions.index_copy(0, index, actions[index])
        return self.rollout.replace(index, begun)

    def _next_actions(self, step: Tensor, num_chunks: int) -> Tensor:
        chunk = self.machine.chunk
        offsets = torch.arange(num_chunks * chunk, device=step.device)
        index = self.prefix + step[:, None] * chunk + offsets
        return self.actions[torch.arange(len(step), device=step.device)[:, None], index]


def looped_actions(
    actions: Num[Tensor, "B T f *action"], present: Bool[Tensor, "B T"], prefix: int, length: int
) -> Num[Tensor, "B {length} f *action"]:
    """Actions of a rollout of `length` latents: those of the clip, and after its end those after its prefix again.

    Args:
        actions: One action per frame of every clip.
        present: Which latents are no padding; at least one more than the prefix in every row.
        prefix: Latents of the prefix.
        length: Latents of the rollout, its prefix among them.
    """
    offsets = torch.arange(length, device=actions.device)
    rest = present.sum(dim=1, keepdim=True) - prefix
    index = torch.where(offsets < prefix, offsets, prefix + (offsets - prefix) % rest)
    return actions[torch.arange(len(actions), device=actions.device)[:, None], index]
