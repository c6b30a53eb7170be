"""The stage that makes a few-step student of the teacher: causal consistency distillation on real clips.

The student begins with the teacher's weights. On the teacher's own trajectories, conditioned on the real context that
the memory would show, into which ERFT puts errors, it learns to jump from any noise level to the end: from one level
the frozen teacher takes a step to the next, and what the averaged student makes of that point is the target (Causal
Forcing++, arXiv 2605.15141; Consistency Models, arXiv 2303.01469). docs/adr/0007 says why, and what the alternative is.
"""

import copy
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cfworld.diffusion import denoised, euler, guided, heun, interpolate
from cfworld.diffusion.consistency import consistency_target, draw_levels, level_path, pseudo_huber
from cfworld.errors import ConfigError
from cfworld.model import Generator
from cfworld.rollout import SamplerConfig
from cfworld.settings import Choice, check_counts
from cfworld.train.banks.latent_bank import LatentBank
from cfworld.train.clip_stage import WorldStage
from cfworld.train.erft import ErftConfig, ErrorBank
from cfworld.train.forcing.clip_losses import ClipStep, check_head_weights, head_losses, masked_mean, random_promotions
from cfworld.train.forcing.gathered import (
    SlotSchedule,
    gathered_forward,
    gathered_keys,
    gathered_velocity,
    slot_schedule,
)
from cfworld.train.forcing.resampling import ResamplingConfig, resampled
from cfworld.train.forcing.spatial_balance import SpatialBalance
from cfworld.train.key_centre import centre_clips
from cfworld.train.loop_config import LoopConfig
from cfworld.train.processes.team import Team
from cfworld.train.student_world import few_step_sampler, student_world
from cfworld.world import World

__all__ = ["InitStage", "InitStageConfig", "TargetKind"]


class TargetKind(Choice):
    """What the student's jump from a noise level is compared with."""

    CONSISTENCY = "consistency"
    """The averaged student's jump from where the teacher's step to the next level leads."""
    TRAJECTORY = "trajectory"
    """The end of the teacher's own trajectory, all the way to the data: dearer, and nothing is bootstrapped."""


class TeacherSolver(Choice):
    """How the teacher moves along its trajectory."""

    EULER = "euler"
    HEUN = "heun"


@dataclass(kw_only=True, slots=True)
class InitStageConfig:
    """How the student is initialised.

    Attributes:
        name: The stage's name; its runs lie in runs/<world>/<name>.
        teacher: Folder of the teacher's export; empty for runs/<world>/teacher/export.
        student: Folder where the student begins; empty for the teacher.
        loop: Length, rates and cadence; ema_decay is that of the averaged student, which makes the targets.
        clip_latents: Latents of a clip.
        min_latents: Shortest episode that is used; shorter clips are padded.
        num_copies: Noise levels at which every latent is a target in one pass; the context is shared between them.
        target: What the student's jump is compared with.
        solver: How the teacher moves.
        num_levels: Noise levels of the grid, a multiple of num_steps.
        num_substeps: Teacher's steps from a level to the next one, or to the data under target=trajectory.
        step_share: Share of targets at the sampler's own levels; the rest is uniform over the grid.
        sigma_shift: Timestep shift of the grid, and of the student's sampler.
        guidance: Guidance of the teacher, which the student learns to do without; 1 leaves it out.
        huber: Scale of the pseudo-Huber loss in units of latents; 0 for squared error.
        num_steps: Steps of the student's sampler.
        promotion_cadence: As the teacher's.
        promotion_interval: As the teacher's.
        erft: Errors in the context, banked from the student's own predictions.
        resampling: Contexts that the student makes itself, with its own sampler.
        spatial_balance: As the teacher's, for the squared distances to the targets, before the pseudo-Huber's root.
        reward_weight: Weight of the squared error of the rewards.
        hazard_weight: Weight of the likelihood of the ends.
        sheet_rows: Episodes on a contact sheet.
        sheet_latents: Length of its rollouts.
    """

    name: str = "init"
    teacher: str = ""
    student: str = ""
    loop: LoopConfig = field(default_factory=LoopConfig)
    clip_latents: int = 40
    min_latents: int = 12
    num_copies: int = 2
    target: TargetKind = TargetKind.CONSISTENCY
    solver: TeacherSolver = TeacherSolver.EULER
    num_levels: int = 48
    num_substeps: int = 1
    step_share: float = 0.25
    sigma_shift: float = 3.0
    guidance: float = 1.0
    huber: float = 0.03
    num_steps: int = 4
    promotion_cadence: int = 1
    promotion_interval: int = 12
    erft: ErftConfig = field(default_factory=lambda: ErftConfig(start_step=20, max_sigma=0.6))
    resampling: ResamplingConfig = field(default_factory=ResamplingConfig)
    spatial_balance: float = 0.0
    reward_weight: float = 0.1
    hazard_weight: float = 1.0
    sheet_rows: int = 4
    sheet_latents: int = 40

    def __post_init__(self) -> None:
        self.target, self.solver = TargetKind(self.target), TeacherSolver(self.solver)
        if not 1 <= self.min_latents <= self.clip_latents:
            raise ConfigError(
                f"min_latents must lie between 1 and clip_latents {self.clip_latents}; got {self.min_latents}."
            )
        check_counts(self, "num_copies", "num_levels", "num_substeps", "num_steps")
        check_counts(self, "promotion_cadence", "promotion_interval", "sheet_rows", "sheet_latents")
        if self.num_levels % self.num_steps:
            raise ConfigError(
                f"num_levels must be a multiple of num_steps {self.num_steps}, so that the sampler's levels are "
                f"trained; got {self.num_levels}."
            )
        if not math.isfinite(self.guidance):
            raise ConfigError(f"got guidance={self.guidance}; expected a finite number, where 1 leaves it out.")
        if not 0 <= self.step_share <= 1 or not self.huber >= 0 or not self.sigma_shift > 0:
            raise ConfigError(
                f"got step_share={self.step_share}, huber={self.huber}, sigma_shift={self.sigma_shift}; expected a "
                "share in 0 to 1, a scale of 0 or more, and a positive shift."
            )
        check_head_weights(self.reward_weight, self.hazard_weight)
        SpatialBalance.check(self.spatial_balance)


class InitStage(WorldStage):
    """Distils a teacher into a few-step student, on real clips under gathered teacher forcing.

    At a prompt switch slots are not read anew; see `TeacherStage`.

    Args:
        config: How.
        teacher: The frozen teacher's world; its memory, starts and tokenizer become the student's.
        train: Latents to learn from.
        held_out: Latents of other episodes, for the sheets.
        student: Where the student begins; None for the teacher.

    Raises:
        ConfigError: If clips and chunks do not fit together, or no noise level gives errors that ERFT may use.

    Attributes:
        average: The averaged student, which makes the targets; until a run has one, the student itself.
    """

    def __init__(
        self,
        config: InitStageConfig,
        teacher: World,
        train: LatentBank,
        held_out: LatentBank,
        student: World | None = None,
    ) -> None:
        chunk = teacher.config.latents_per_chunk
        if config.clip_latents % chunk:
            raise ConfigError(f"clip_latents {config.clip_latents} must be a multiple of latents_per_chunk {chunk}.")
        self.config, self.teacher = config, teacher
        super().__init__(config, config.clip_latents, train, held_out, teacher.device)
        self.module: nn.Module = copy.deepcopy((student or teacher).generator).requires_grad_(True)
        self.average: nn.Module = self.module
        grid = level_path(torch.arange(config.num_levels), config.num_levels, 1, config.sigma_shift)[0]
        config.erft.check_reach(grid)
        self.errors = ErrorBank(config.erft, teacher.tokenizer.latent_shape, self.device)
        self.balance = SpatialBalance(config.spatial_balance, teacher.tokenizer.latent_shape[1:], self.device)

    def join(self, team: Team) -> None:
        """Share out the clips and the teacher."""
        super().join(team)
        team.shard(self.teacher.generator)

    def loss(self, batch: ClipStep, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Distance of the student's jump from its target, and the heads' losses."""
        assert isinstance(self.module, Generator)
        config, clips, team = self.config, batch.clips, self.team
        rows, length = len(clips.latents) * team.size, clips.latents.shape[1]
        num_chunks = length // self.teacher.config.latents_per_chunk
        promotions = random_promotions(rows, num_chunks, config.promotion_cadence, config.promotion_interval, generator)
        schedule = slot_schedule(self.teacher.config.memory, team.own(promotions))
        path = team.own(self._path(rows, num_chunks, generator).transpose(0, 1)).transpose(0, 1)
        sigma = path[0]
        latents = clips.latents[:, None].expand(-1, config.num_copies, -1, -1, -1, -1)
        noise = torch.randn(rows, *latents.shape[1:], generator=generator, device=self.device)
        noisy = interpolate(latents, team.own(noise), sigma)
        injected = self.errors.inject(clips.latents, batch.step, generator, team)
        seen = resampled(config.resampling, self._sampler, self.module, schedule, clips, injected, generator, team)
        target = self._targets(schedule, injected, seen.context, noisy, path, clips.actions)

        output = gathered_forward(self.module, schedule, seen.context, noisy, sigma, clips.actions)
        estimate = denoised(noisy, output.velocity, sigma)
        present = clips.present[:, None].expand(sigma.shape)
        known = present & seen.true[:, None]
        asked = present & seen.asked.any(dim=(-2, -1))[:, None]
        difference = (estimate - target) * seen.asked[:, None, :, None]
        distance = masked_mean(pseudo_huber(difference, config.huber), asked, team)
        balanced = distance
        if self.balance.exponent:
            weighted = self.balance.weights().sqrt() * difference
            balanced = masked_mean(pseudo_huber(weighted, config.huber), asked, team)
        self.balance.add(difference, known, team)
        reward, hazard = head_losses(output, clips, team, seen.true)
        residual = (estimate.detach() - latents)[known]
        self.errors.add(residual, sigma[known], generator, team)
        metrics = {
            "distance": distance,
            "squared": team.mean_of_all(difference[known].square()),
            "residual": team.mean_of_all(residual.square()),
            "reward": reward,
            "hazard": hazard,
        }
        if config.resampling.share:
            metrics["asked"] = seen.asked_of_made(clips.present, team)
        return balanced + config.reward_weight * reward + config.hazard_weight * hazard, metrics

    def state_dict(self) -> dict[str, Any]:
        """The error bank, and the running errors of the positions."""
        return {"errors": self.errors.state_dict(), "balance": self.balance.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.errors.load_state_dict(state["errors"])
        if "balance" in state:
            self.balance.load_state_dict(state["balance"])

    def world_of(self, module: nn.Module) -> World:
        """A world of variant "student" with a copy of this generator."""
        assert isinstance(module, Generator)
        clips = centre_clips(self.train, self.teacher.config.latents_per_chunk, self.loop.seed, self.device)
        return student_world(self.teacher, module, self._sampler, clips)

    @property
    def _sampler(self) -> SamplerConfig:
        return few_step_sampler(self.config.num_steps, self.config.sigma_shift)

    def _path(self, rows: int, num_chunks: int, generator: torch.Generator) -> Float[Tensor, " points B M T"]:
        """The teacher's noise levels for every target, one path per chunk and copy."""
        config = self.config
        lead = (rows, config.num_copies, num_chunks)
        level = draw_levels(lead, config.num_levels, config.num_steps, config.step_share, generator)
        level = level.repeat_interleave(self.teacher.config.latents_per_chunk, dim=2)
        to_data = config.target is TargetKind.TRAJECTORY
        return level_path(level, config.num_levels, config.num_substeps, config.sigma_shift, to_data=to_data)

    @torch.no_grad()
    def _targets(
        self, schedule: SlotSchedule, recorded: Tensor, context: Tensor, noisy: Tensor, path: Tensor, actions: Tensor
    ) -> Float[Tensor, "B M T C h w"]:
        """What the student's jumps shall be.

        The teacher reads the recorded context, errors of the bank included, by which it knows where the recording goes
        on; the averaged student the one that the student reads, of which a stretch may be its own. Each has its own
        keys.
        """
        network = self.teacher.generator
        known = gathered_keys(network, schedule, recorded, actions)

        def teacher(x: Tensor, sigma: Tensor) -> Tensor:
            scale, copies = self.config.guidance, x.shape[1]
            if scale == 1:
                return gathered_velocity(network, schedule, known, x, sigma, actions)
            dropped = torch.zeros_like(sigma, dtype=torch.bool).repeat(1, 2, 1)
            dropped[:, copies:] = True
            x, sigma = x.repeat(1, 2, 1, 1, 1, 1), sigma.repeat(1, 2, 1)
            both = gathered_velocity(network, schedule, known, x, sigma, actions, dropped)
            return guided(both[:, :copies], both[:, copies:], scale)

        def student(x: Tensor, sigma: Tensor) -> Tensor:
            assert isinstance(self.average, Generator)
            return gathered_forward(self.average, schedule, context, x, sigma, actions).velocity

        solver = euler if self.config.solver is TeacherSolver.EULER else heun
        to_data = self.config.target is TargetKind.TRAJECTORY
        return consistency_target(teacher, student, noisy, path, solver, to_data=to_data)
