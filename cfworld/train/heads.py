"""The stage that trains reward and hazard on a frozen generator: likelihood on real clips, then a calibration."""

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cfworld.data import ClipSampler
from cfworld.diffusion import denoised, interpolate, sigmas
from cfworld.errors import ConfigError
from cfworld.model import Generator
from cfworld.settings import check_counts
from cfworld.train.banks.latent_bank import ClipBatch, LatentBank
from cfworld.train.calibration import calibrate
from cfworld.train.clip_stage import ClipStage
from cfworld.train.erft import ErftConfig, ErrorBank
from cfworld.train.forcing.clip_losses import ClipStep, check_head_weights, head_losses, random_promotions
from cfworld.train.forcing.gathered import GatheredOutput, gathered_forward, slot_schedule
from cfworld.train.loop_config import LoopConfig
from cfworld.train.novelty import NoveltyFitConfig, measure_novelty
from cfworld.train.processes.team import ALONE, Team
from cfworld.world import World

__all__ = ["HeadsStage", "HeadsStageConfig"]


@dataclass(kw_only=True, slots=True)
class HeadsStageConfig:
    """How the heads are trained.

    Attributes:
        name: The stage's name; its runs lie in runs/<world>/<name>.
        student: Folder of the world whose heads are trained; empty for the export of the stage before: of `context`
            for the student, of `teacher` for the teacher.
        variant: Which of its variants: "student" or "teacher".
        loop: Length, rates and cadence.
        clip_latents: Latents of a clip; it may reach over the beginning or the end of an episode.
        promotion_cadence: As the teacher's.
        promotion_interval: As the teacher's.
        erft: Errors in all that is read, as generated latents have them: the generator's own, and white noise.
        reward_weight: Weight of the squared error of the rewards.
        hazard_weight: Weight of the likelihood of the ends.
        calibration_rollouts: Rollouts over which the heads are shifted in the end; 0 leaves that out.
        calibration_latents: Their length: so short that the twin's course is still theirs.
        calibration_prior: Standard deviation, in logits, of the shift that is expected beforehand.
        eval_clips: Held-out clips for the figures.
        novelty: On how many real clips the novelty score of what is exported is measured.
    """

    name: str = "heads"
    student: str = ""
    variant: str = "student"
    loop: LoopConfig = field(default_factory=LoopConfig)
    clip_latents: int = 40
    promotion_cadence: int = 1
    promotion_interval: int = 12
    erft: ErftConfig = field(default_factory=lambda: ErftConfig(start_step=5, max_sigma=0.6))
    reward_weight: float = 1.0
    hazard_weight: float = 1.0
    calibration_rollouts: int = 256
    calibration_latents: int = 16
    calibration_prior: float = 1.0
    eval_clips: int = 32
    novelty: NoveltyFitConfig = field(default_factory=NoveltyFitConfig)

    def __post_init__(self) -> None:
        if self.variant not in ("student", "teacher"):
            raise ConfigError(f"got variant={self.variant!r}; expected 'student' or 'teacher'.")
        check_counts(
            self, "clip_latents", "promotion_cadence", "promotion_interval", "calibration_latents", "eval_clips"
        )
        check_counts(self, "calibration_rollouts", least=0)
        if not self.calibration_prior > 0:
            raise ConfigError(f"got calibration_prior={self.calibration_prior}; expected a positive deviation.")
        check_head_weights(self.reward_weight, self.hazard_weight)


class HeadsStage(ClipStage):
    """Trains the heads of a world and nothing else.

    Clips are drawn evenly: every frame counts once, the last one of an episode too, so that the likelihood's hazard is
    that of the data. Their latents carry the generator's own errors, as what it reads at inference does.

    Args:
        config: How.
        world: Its generator is frozen but for its heads.
        train: Latents to learn from.
        held_out: Latents of other episodes, for the figures.
    """

    def __init__(self, config: HeadsStageConfig, world: World, train: LatentBank, held_out: LatentBank) -> None:
        if not world.config.transformer.heads:
            raise ConfigError(f"The world {world.config.name} has no heads, as Wan's have none: nothing to train.")
        chunk = world.config.latents_per_chunk
        if config.clip_latents % chunk or config.calibration_latents % chunk:
            raise ConfigError(
                f"clip_latents {config.clip_latents} and calibration_latents {config.calibration_latents} must be "
                f"multiples of latents_per_chunk {chunk}."
            )
        self.config, self.world = config, world
        super().__init__(config.loop, config.clip_latents, train, held_out, world.device, even=True)
        self.generator = copy.deepcopy(world.generator).requires_grad_(False)
        self.generator.heads.requires_grad_(True)
        self.module: nn.Module = self.generator
        self.grid = sigmas(world.sampler.num_steps, world.sampler.shift, self.device)[:-1]
        config.erft.check_reach(self.grid)
        self.errors = ErrorBank(config.erft, world.tokenizer.latent_shape, self.device)

    def loss(self, batch: ClipStep, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Squared error of the rewards and likelihood of the ends, read off latents with errors in them."""
        config, clips, team = self.config, batch.clips, self.team
        read = self.errors.inject(clips.latents, batch.step, generator, team)
        level = self._levels(clips, generator)
        shape = (len(clips.latents) * team.size, *clips.latents.shape[1:])
        noise = team.own(torch.randn(shape, generator=generator, device=self.device))
        noisy = interpolate(clips.latents, noise, level)
        output = self._output(self.generator, clips, read, noisy, level, generator, team)
        reward, hazard = head_losses(output, clips, team)
        residual = denoised(noisy, output.velocity[:, 0].detach(), level) - clips.latents
        self.errors.add(residual[clips.present], level[clips.present], generator, team)
        squared = team.mean_of_all(residual[clips.present].square())
        metrics = {"reward": reward, "hazard": hazard, "residual": squared}
        return config.reward_weight * reward + config.hazard_weight * hazard, metrics

    def state_dict(self) -> dict[str, Any]:
        """The error bank."""
        return self.errors.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the error bank."""
        self.errors.load_state_dict(state)

    def sample(self, ema_module: nn.Module, step: int, folder: Path) -> Mapping[str, float]:
        """Return figures on held-out clips: losses, and expected ends beside those that were."""
        assert isinstance(ema_module, Generator)
        del step, folder
        config = self.config
        sampler = ClipSampler(self.held_out.num_latents, config.clip_latents, config.loop.seed, even=True)
        clips = self.held_out.clips(sampler.batch(0, config.eval_clips), config.clip_latents, self.device)
        generator = torch.Generator(self.device).manual_seed(config.loop.seed)
        level = torch.ones(clips.present.shape, device=self.device)
        with torch.no_grad():
            output = self._output(ema_module, clips, clips.latents, clips.latents, level, generator)
        reward, hazard = head_losses(output, clips)
        return {
            "reward": float(reward),
            "hazard": float(hazard),
            "ends_expected": float(output.hazard_logit[clips.mortal].sigmoid().sum()),
            "ends": float(clips.ends[clips.mortal].sum()),
        }

    def export(self, ema_module: nn.Module, folder: Path) -> Mapping[str, Any]:
        """Write the world with the averaged heads, calibrated on its own rollouts, and with its novelty score."""
        assert isinstance(ema_module, Generator)
        config, like = self.config, self.world
        world = World(
            like.config,
            like.tokenizer,
            copy.deepcopy(ema_module),
            like.starts,
            variant=like.variant,
            device=self.device,
        )
        figures: dict[str, Any] = {}
        if config.calibration_rollouts:
            length = like.config.prefix_latents + config.calibration_latents
            sampler = ClipSampler(self.train.num_latents, length, config.loop.seed + 1, even=True)
            clips = self.train.clips(sampler.batch(0, config.calibration_rollouts), length, self.device)
            figures = {"calibration": asdict(calibrate(world, clips, config.calibration_prior))}
        if config.novelty.clips:
            novelty, figures["novelty"] = measure_novelty(world, self.train, self.held_out, config.novelty)
            world.novelty = novelty.to(self.device)
        world.save_pretrained(folder)
        return figures

    def _levels(self, clips: ClipBatch, generator: torch.Generator) -> Tensor:
        """Noise levels of the copies that give the errors: those of the world's own sampler, [B, T]."""
        chunk = self.world.config.latents_per_chunk
        shape = (len(clips.present) * self.team.size, clips.present.shape[1] // chunk)
        pick = torch.randint(len(self.grid), shape, generator=generator, device=self.device)
        return self.grid[self.team.own(pick)].repeat_interleave(chunk, dim=1)

    def _output(
        self,
        network: Generator,
        clips: ClipBatch,
        read: Tensor,
        noisy: Tensor,
        level: Tensor,
        generator: torch.Generator,
        team: Team = ALONE,
    ) -> GatheredOutput:
        rows, length = clips.present.shape
        num_chunks = length // self.world.config.latents_per_chunk
        promotions = random_promotions(
            rows * team.size, num_chunks, self.config.promotion_cadence, self.config.promotion_interval, generator
        )
        schedule = slot_schedule(self.world.config.memory, team.own(promotions))
        return gathered_forward(network, schedule, read, noisy[:, None], level[:, None], clips.actions)
