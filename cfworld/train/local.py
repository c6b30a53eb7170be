"""Stage 1: distribution matching on short rollouts (Context Forcing, Eq. 4).

Every chunk after a real prefix is a target, and the chunks leave their denoising at one exit pass that all share, as
in Self-Forcing. The student learns to stand on its own output, over a short window.
"""

from dataclasses import dataclass

from cfworld.errors import ConfigError
from cfworld.train.distillation.distill import DistillConfig, DistillStage
from cfworld.train.distillation.rollouts import FreshRollouts, RolloutSource

__all__ = ["LocalStage", "LocalStageConfig"]


@dataclass(kw_only=True, slots=True)
class LocalStageConfig(DistillConfig):
    """How Stage 1 is trained; its window is num_targets x score_window chunks, and all of them are targets."""

    name: str = "local"
    num_targets: int = 8

    def __post_init__(self) -> None:
        DistillConfig.__post_init__(self)
        if self.curriculum.last:
            raise ConfigError(
                f"Stage 1 judges every chunk of a short window; got curriculum.last={self.curriculum.last}. Make the "
                "window longer by num_targets, or train stage=context."
            )


class LocalStage(DistillStage):
    """Stage 1: every chunk of a short rollout is a target."""

    def rollouts(self) -> RolloutSource:
        """Short rollouts from real prefixes."""
        return FreshRollouts(self.machine, self.config.curriculum, self.prefix, self.config.num_targets)
