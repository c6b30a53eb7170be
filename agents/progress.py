"""How far the training of an agent has come: its curve, and when it is enough."""

from dataclasses import asdict, dataclass, field
from typing import Any

from cfworld.agents.config import AgentTrainConfig

__all__ = ["Point", "TrainProgress"]

_PATIENCE = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One evaluation."""

    steps: int
    """Steps of training so far."""
    minutes: float
    """Minutes of training so far, evaluations included."""
    training: float | None
    """Mean return of the last episodes of training, as the agent plays while it learns; None before the first."""
    real: float
    """Mean return in the simulator."""
    error: float
    """Standard error of `real`."""

    @property
    def ratio(self) -> float:
        """How many times better training looks than the simulator."""
        return self.training / self.real if self.training is not None and self.real > 0 else 1.0


@dataclass(kw_only=True, slots=True)
class TrainProgress:
    """What of a training is kept besides weights."""

    steps: int = 0
    minutes: float = 0.0
    stopped: str = ""
    """Why it stopped before its last step; empty if it did not."""
    curve: list[Point] = field(default_factory=list)

    @property
    def best(self) -> Point | None:
        """The evaluation with the best score in the simulator."""
        return max(self.curve, key=lambda point: point.real, default=None)

    def reason_to_stop(self, config: AgentTrainConfig) -> str:
        """Why the training should go no further; empty if it should."""
        if config.max_minutes is not None and self.minutes >= config.max_minutes:
            return f"{config.max_minutes:g} minutes are over"
        if self.best is not None and config.patience is not None:
            since = len(self.curve) - 1 - self.curve.index(self.best)
            if since >= config.patience:
                return f"no better score in the simulator in {since} evaluations"
        window = self.curve[-(config.patience or _PATIENCE) :]
        far = config.max_ratio is not None and all(point.ratio > config.max_ratio for point in window)
        if far and len(window) == (config.patience or _PATIENCE):
            return (
                f"training has scored more than {config.max_ratio:g} times the simulator in {len(window)} evaluations"
            )
        return ""

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainProgress":
        """Undo `as_dict`."""
        return cls(**{**values, "curve": [Point(**point) for point in values["curve"]]})
