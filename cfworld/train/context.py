"""Stage 2: contextual distribution matching on long rollouts (Context Forcing, Eq. 5 and Eq. 6).

The student rolls out over its memory to a horizon that grows by a linear curriculum. There both scores judge the next
target under the slots that the student's own rollout has left in memory, so that what the teacher would have kept
consistent with the remembered past becomes the student's to keep.
"""

from dataclasses import dataclass, field

from cfworld.train.distillation.curriculum import CurriculumConfig
from cfworld.train.distillation.distill import DistillConfig, DistillStage
from cfworld.train.distillation.rollouts import FreshRollouts, OngoingRollouts, RolloutSource

__all__ = ["ContextStage", "ContextStageConfig"]


@dataclass(kw_only=True, slots=True)
class ContextStageConfig(DistillConfig):
    """How Stage 2 is trained.

    Attributes:
        ongoing: Keep the rollouts from step to step, each to a horizon of its own, so that a step costs the same at
            any horizon; what is remembered was then written by slightly older weights. Otherwise every step rolls
            out from real prefixes, to one horizon, as in the paper.
    """

    name: str = "context"
    curriculum: CurriculumConfig = field(
        default_factory=lambda: CurriculumConfig(shortest=4, first=12, last=96, ramp_steps=1000)
    )
    ongoing: bool = True


class ContextStage(DistillStage):
    """Stage 2: targets at the ends of long rollouts."""

    def rollouts(self) -> RolloutSource:
        """Long rollouts, ongoing or from real prefixes."""
        config = self.config
        assert isinstance(config, ContextStageConfig)
        kind = OngoingRollouts if config.ongoing else FreshRollouts
        return kind(self.machine, config.curriculum, self.prefix, config.num_targets)
