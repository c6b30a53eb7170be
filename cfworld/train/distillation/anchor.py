"""What holds a student to its teacher on real clips, while distribution matching moves it on its own rollouts.

What must be exact may be lost there, as Panorama's heading is (docs/log.md). DMD (arXiv 2311.18828) keeps a regression
loss beside distribution matching. Here that is the consistency loss of `stage=init`, whose targets the student makes as
it was when the stage began.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cfworld.errors import ConfigError
from cfworld.model import Generator
from cfworld.settings import check_counts
from cfworld.train.banks.latent_bank import LatentBank
from cfworld.train.consistency import InitStage, InitStageConfig
from cfworld.train.distillation.self_rollout import recording
from cfworld.train.loop_config import LoopConfig
from cfworld.train.processes.team import Team
from cfworld.world import World

__all__ = ["Anchor", "AnchorConfig"]


@dataclass(kw_only=True, slots=True)
class AnchorConfig:
    """How a student is held to its teacher. What is not said here is as `InitStageConfig` has it.

    Attributes:
        weight: Weight of the consistency loss at the student's turns; 0 leaves it out.
        clips: Real clips that it is taken on.
        clip_latents: Their length.
        num_levels: Noise levels of the grid, a multiple of the student's steps.
        num_substeps: The teacher's steps from a level to the next one.
        promotion_cadence: As the teacher's stage has it.
        promotion_interval: As the teacher's stage has it.
        spatial_balance: As the teacher's stage has it, for the squared distances to the targets.
    """

    weight: float = 0.0
    clips: int = 2
    clip_latents: int = 40
    num_levels: int = 48
    num_substeps: int = 1
    promotion_cadence: int = 1
    promotion_interval: int = 12
    spatial_balance: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise ConfigError(f"got anchor.weight={self.weight}; expected a number of 0 or more.")
        check_counts(self, "clips", prefix="anchor.")


class Anchor:
    """The consistency loss of a student that is trained otherwise, too.

    Args:
        config: How, with a weight above 0.
        teacher: The frozen teacher's world, which takes the steps between noise levels.
        begun: The student's world as it begins, which makes the targets.
        student: The network in training.
        train: Latents to learn from.
        num_steps: Steps of the student's sampler.
        sigma_shift: Timestep shift of its grid.
        guidance: Textbook guidance of the teacher.
        min_latents: Shortest episode that is used.
        seed: Of the choice of clips.

    Raises:
        ConfigError: If settings do not fit together.
    """

    def __init__(
        self,
        config: AnchorConfig,
        teacher: World,
        begun: World,
        student: Generator,
        train: LatentBank,
        *,
        num_steps: int,
        sigma_shift: float,
        guidance: float,
        min_latents: int,
        seed: int,
    ) -> None:
        self.weight = config.weight
        try:
            settings = InitStageConfig(
                loop=LoopConfig(batch_size=config.clips, seed=seed),
                clip_latents=config.clip_latents,
                min_latents=min_latents,
                num_levels=config.num_levels,
                num_substeps=config.num_substeps,
                sigma_shift=sigma_shift,
                guidance=guidance,
                num_steps=num_steps,
                promotion_cadence=config.promotion_cadence,
                promotion_interval=config.promotion_interval,
                spatial_balance=config.spatial_balance,
                reward_weight=0.0,
                hazard_weight=0.0,
            )
            self._stage = InitStage(settings, teacher, train, train, begun)
        except ConfigError as error:
            raise ConfigError(f"stage.anchor: {error}") from error
        self._stage.module = student  # its average, which makes the targets, remains as it began

    def join(self, team: Team) -> None:
        """Share out the clips.

        Raises:
            ConfigError: If they cannot be.
        """
        clips = self._stage.config.loop.batch_size
        if clips % team.size:
            raise ConfigError(
                f"got anchor.clips={clips} with {team.size} processes; expected a multiple of {team.size}."
            )
        self._stage.team = team

    def loss(self, step: int, generator: torch.Generator) -> Tensor:
        """The weighted loss of a step."""
        with recording(True):
            loss, _ = self._stage.loss(self._stage.batch(step), generator)
        return self.weight * loss

    def state_dict(self) -> dict[str, Any]:
        """The errors that are put into contexts, and the running errors of the positions."""
        return self._stage.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._stage.load_state_dict(state)
