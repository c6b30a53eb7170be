"""What came of a scenario: a record per branch, and which of its assertions hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from cfworld.envs.scenarios.conditions import Quantity
from cfworld.envs.scenarios.schema import Assertion, nearest_frame

__all__ = ["BranchResult", "CheckResult", "ScenarioResult", "judge"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class BranchResult:
    """One continuation, from the beginning of the episode to its end: T frames."""

    name: str
    fork: float
    """When it left the scenario's own timeline, in seconds: at the first step from the second that was asked for on."""
    noise: int
    """The seed of its noise from there on."""
    fps: int
    frames: UInt8[np.ndarray, "T1 H W 3"]
    """[T + 1, H, W, 3]: the last frame of the start, and all that followed."""
    actions: np.ndarray
    """What each frame was made under, [T, ...], as `World.step` takes it."""
    labels: tuple[str, ...]
    """The same for people, T of them."""
    reward: Float32[np.ndarray, " T"]
    hazard: Float32[np.ndarray, " T"]
    """Probability of ending at each frame."""
    novelty: Float32[np.ndarray, " T"]
    """Of the step that each frame belongs to; NaN in a world without a score."""
    terminated: bool
    """Whether the episode ended; if not, it was cut off by the scenario's seconds."""

    @property
    def seconds(self) -> float:
        """How long the episode lasted."""
        return len(self.reward) / self.fps

    def measure(self, quantity: Quantity, first: float, last: float) -> float | None:
        """The value of one side of a check.

        Args:
            quantity: what is asked for.
            first: frames count from this second on.
            last: and up to this one.

        Returns:
            The value; None if the episode has no such frames.
        """
        if quantity.number is not None:
            return quantity.number
        if not quantity.signal:
            return self.seconds
        signal: np.ndarray = getattr(self, quantity.signal)
        values = signal[nearest_frame(first * self.fps) : nearest_frame(last * self.fps)].astype(np.float64)
        if not len(values):
            return None
        return float(values[-1] if quantity.statistic == "last" else getattr(np, quantity.statistic)(values))

    def figures(self) -> dict[str, Any]:
        """The record as plain values, all but the frames."""
        known = not np.isnan(self.novelty).any()
        return {
            "name": self.name,
            "fork": self.fork,
            "noise": self.noise,
            "seconds": self.seconds,
            "frames": len(self.reward),
            "terminated": self.terminated,
            "return": float(self.reward.sum(dtype=np.float64)),
            "mean_reward": float(self.reward.mean(dtype=np.float64)),
            "max_hazard": float(self.hazard.max()),
            "max_novelty": float(self.novelty.max()) if known else None,
            "actions": list(self.labels),
            "reward": self.reward,
            "hazard": self.hazard,
            "novelty": self.novelty,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckResult:
    """Whether an assertion holds of a branch."""

    text: str
    branch: str
    """Empty for a check that names its branches itself."""
    holds: bool
    got: str
    """What was found in the place of what was asked for."""
    line: int
    """Of the scenario's file."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ScenarioResult:
    """What came of a scenario."""

    name: str
    world: str
    """The world's fingerprint: name, variant and weights."""
    source: str
    """What the world calls the simulator that it was learned from."""
    seed: int
    start: int | str
    fps: int
    seconds: float
    """How long the scenario lets an episode last, rounded to frames."""
    branches: tuple[BranchResult, ...]
    checks: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        """Whether every assertion holds."""
        return all(check.holds for check in self.checks)

    def __getitem__(self, name: str) -> BranchResult:
        """The branch of this name."""
        return {branch.name: branch for branch in self.branches}[name]

    def figures(self) -> dict[str, Any]:
        """The result as plain values, all but the frames."""
        return {
            "scenario": self.name,
            "world": self.world,
            "seed": self.seed,
            "start": self.start,
            "game_fps": self.fps,
            "seconds": self.seconds,
            "passed": self.passed,
            "checks": [
                {name: getattr(check, name) for name in ("text", "branch", "holds", "got", "line")}
                for check in self.checks
            ],
            "branches": [branch.figures() for branch in self.branches],
        }


def judge(assertions: Sequence[Assertion], branches: Mapping[str, BranchResult]) -> tuple[CheckResult, ...]:
    """Check every assertion, of each branch that it is about."""
    results: list[CheckResult] = []
    for assertion in assertions:
        if assertion.check is not None and assertion.check.names_all:
            results.append(_compared(assertion, "", branches))
            continue
        for name in assertion.branches:
            judged = _compared if assertion.check is not None else _lasted
            results.append(judged(assertion, name, branches))
    return tuple(results)


def _lasted(assertion: Assertion, name: str, branches: Mapping[str, BranchResult]) -> CheckResult:
    branch = branches[name]
    limit = assertion.ended if assertion.alive is None else assertion.alive
    assert limit is not None
    ended = branch.terminated and branch.seconds <= limit
    return CheckResult(
        text=f"ended by {limit:g} s" if assertion.alive is None else f"alive at {limit:g} s",
        branch=name,
        holds=ended == (assertion.alive is None),
        got=f"ended at {branch.seconds:.1f} s" if branch.terminated else f"alive at {branch.seconds:.1f} s",
        line=assertion.place.line,
    )


def _compared(assertion: Assertion, name: str, branches: Mapping[str, BranchResult]) -> CheckResult:
    check = assertion.check
    assert check is not None
    values: list[float | None] = []
    for side in (check.left, check.right):
        branch = branches[side.branch or name] if side.number is None else next(iter(branches.values()))
        values.append(branch.measure(side, assertion.first, assertion.last))
    left, right = values
    window = "" if assertion.whole else f", {assertion.first:g} to {assertion.last:g} s"
    return CheckResult(
        text=check.text + window,
        branch=name,
        holds=left is not None and right is not None and check.holds(left, right),
        got=f"{_shown(left)} against {_shown(right)}" if check.right.number is None else _shown(left),
        line=assertion.place.line,
    )


def _shown(value: float | None) -> str:
    return "no frame" if value is None else f"{value:.4g}"
