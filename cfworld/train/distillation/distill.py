"""What Stage 1 and Stage 2 share: a student, the critic that follows it, the frozen teacher, and their losses.

Both stages are distribution matching (Eq. 4 and Eq. 6, `cfworld.train.dmd`). The critic learns at every step, the
student at every `generator_every`-th (two time scales, DMD2). They differ in the rollouts that are judged.
"""

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from cfworld.advice import advise
from cfworld.errors import ConfigError
from cfworld.memory import MemoryConfig
from cfworld.model import Generator
from cfworld.settings import Choice, check_counts
from cfworld.train.banks.latent_bank import LatentBank
from cfworld.train.clip_stage import WorldStage
from cfworld.train.distillation.anchor import Anchor, AnchorConfig
from cfworld.train.distillation.curriculum import CurriculumConfig, draw_exit
from cfworld.train.distillation.rollouts import RolloutSource
from cfworld.train.distillation.scores import fake_score_loss, student_loss
from cfworld.train.distillation.self_rollout import Rollout, SelfRollout, Target
from cfworld.train.exports import check_sampler
from cfworld.train.forcing.clip_losses import ClipStep, masked_mean
from cfworld.train.key_centre import centre_clips
from cfworld.train.loop_config import LoopConfig, check_betas
from cfworld.train.optim import Role
from cfworld.train.processes.team import ALONE, Team
from cfworld.train.student_world import few_step_sampler, student_world
from cfworld.world import World

__all__ = ["DistillConfig", "DistillStage", "Shown", "rollout_metrics"]


class Shown(Choice):
    """What a network is shown of the past."""

    MEMORY = "memory"
    """The world's memory: sink, slow and fast."""
    WINDOW = "window"
    """Its fast part alone."""

    def of(self, memory: MemoryConfig) -> MemoryConfig:
        """The memory that shows it."""
        return memory if self is Shown.MEMORY else replace(memory, num_sink=0, num_slow=0)


@dataclass(kw_only=True, slots=True)
class DistillConfig:
    """How a student is distilled on its own rollouts.

    Attributes:
        name: The stage's name; its runs lie in runs/<world>/<name>.
        teacher: Folder of the teacher's export, the real score; empty for runs/<world>/teacher/export.
        student: Folder where the student begins; empty for the export of the stage before.
        loop: Length, rates and cadence; lr, betas and ema_decay are the student's. The average moves at every step,
            so that between two updates of the student it decays by ema_decay ** generator_every.
        generator_every: Steps from one update of the student to the next; the critic learns at every step.
        critic_lr_ratio: The critic's learning rate as a share of the student's.
        critic_betas: AdamW's decay rates for the critic.
        prefix_latents: Real latents that a rollout begins with; 0 for as many as a start of the world has.
        min_latents: Latents of an episode that follow a start at least. Where a rollout goes on for longer, their
            actions are repeated, so that where it begins does not depend on how long it is.
        curriculum: How many chunks are generated between prefix and targets.
        num_targets: Targets of a step, one after the other along the rollout.
        score_window: Chunks of a target: the scores read them together, attending to each other.
        num_steps: Denoising steps of the student: those that it was distilled for, if it was.
        sigma_shift: Timestep shift of its grid, likewise.
        score_shift: Shift of the noise levels at which the scores are compared and the critic learns.
        score_copies: Noisy copies of a target, each with a level of its own, that the scores are compared in and the
            critic learns from: the losses are means over them, and the rollout is the same.
        anchor: What holds the student to its teacher on real clips besides.
        guidance: Textbook guidance of the teacher; 1 for none (Self-Forcing's 3.0 is 4.0 here).
        normalise_chunks: Normalise the direction by chunk instead of by target.
        score_memory: What teacher and critic are shown of the rollout.
        student_memory: What the student is shown of it, and the memory of the world that comes out.
        checkpointed: Compute activations again in the backward pass instead of keeping them.
        sheet_rows: Episodes on a contact sheet.
        sheet_latents: Length of its rollouts.
    """

    name: str = "local"
    teacher: str = ""
    student: str = ""
    loop: LoopConfig = field(default_factory=LoopConfig)
    generator_every: int = 5
    critic_lr_ratio: float = 0.4
    critic_betas: list[float] = field(default_factory=lambda: [0.0, 0.99])
    prefix_latents: int = 0
    min_latents: int = 12
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    num_targets: int = 1
    score_window: int = 1
    num_steps: int = 4
    sigma_shift: float = 3.0
    score_shift: float = 3.0
    score_copies: int = 1
    anchor: AnchorConfig = field(default_factory=AnchorConfig)
    guidance: float = 1.0
    normalise_chunks: bool = False
    score_memory: Shown = Shown.MEMORY
    student_memory: Shown = Shown.MEMORY
    checkpointed: bool = False
    sheet_rows: int = 4
    sheet_latents: int = 40

    def __post_init__(self) -> None:
        self.score_memory, self.student_memory = Shown(self.score_memory), Shown(self.student_memory)
        check_counts(self, "generator_every", "num_targets", "score_window", "num_steps", "score_copies")
        check_counts(self, "sheet_rows", "sheet_latents")
        check_counts(self, "prefix_latents", least=0)
        for name in ("sigma_shift", "score_shift", "critic_lr_ratio"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"got {name}={getattr(self, name)}; expected a finite positive number.")
        if not math.isfinite(self.guidance):
            raise ConfigError(f"got guidance={self.guidance}; expected a finite number, where 1 leaves it out.")
        if self.anchor.weight > 0 and {self.score_memory, self.student_memory} != {Shown.MEMORY}:
            raise ConfigError(
                f"got anchor.weight={self.anchor.weight} with score_memory={self.score_memory} and "
                f"student_memory={self.student_memory}; expected anchor.weight=0, or memory for both: the loss on real "
                "clips shows both networks the world's whole memory."
            )
        check_betas("critic_betas", self.critic_betas)


class _Networks(nn.ModuleDict):
    """Student and critic; compiled, each one is."""

    def compile(self, *args: Any, **kwargs: Any) -> None:
        for network in self.values():
            network.compile(*args, **kwargs)


class DistillStage(WorldStage):
    """Distribution matching on a student's rollouts; the stages say where these come from.

    Args:
        config: How.
        teacher: The frozen teacher's world: the real score; its starts and tokenizer become the student's.
        student: The world whose generator the student begins as.
        train: Latents whose beginnings and actions rollouts take.
        held_out: Latents of other episodes, for the sheets.

    Raises:
        ConfigError: If prefix, episodes and chunks do not fit together, or the student was distilled for other steps.
    """

    def __init__(
        self, config: DistillConfig, teacher: World, student: World, train: LatentBank, held_out: LatentBank
    ) -> None:
        self.config, self.teacher = config, teacher
        chunk = teacher.config.latents_per_chunk
        self.prefix = config.prefix_latents or teacher.config.prefix_latents
        if self.prefix % chunk or config.min_latents < self.prefix + chunk:
            raise ConfigError(
                f"got prefix_latents={self.prefix} and min_latents={config.min_latents}; expected a prefix of whole "
                f"chunks of {chunk} latents, and at least one chunk of an episode after it, whose actions are taken."
            )
        sampler = few_step_sampler(config.num_steps, config.sigma_shift)
        check_sampler(student, sampler)
        targets = config.num_targets * config.score_window
        clip_latents = self.prefix + (config.curriculum.last + targets) * chunk
        super().__init__(config, clip_latents, train, held_out, teacher.device, shortest=config.min_latents)
        self.student = copy.deepcopy(student.generator).requires_grad_(True)
        self.student.heads.requires_grad_(False)
        self.critic = copy.deepcopy(teacher.generator).requires_grad_(True)
        self.critic.heads.requires_grad_(False)
        self.module: nn.Module = _Networks({"student": self.student, "critic": self.critic})
        self.machine = SelfRollout(
            self.student,
            self.teacher.generator,
            self.critic,
            student_memory=config.student_memory.of(teacher.config.memory),
            score_memory=config.score_memory.of(teacher.config.memory),
            sampler=sampler,
            score_window=config.score_window,
            checkpointed=config.checkpointed,
        )
        if config.loop.steps < config.generator_every:
            advise(
                f"got loop.steps={config.loop.steps} with generator_every={config.generator_every}: the student would "
                "come out as it went in, for its turn never comes; give more steps, or a smaller generator_every"
            )
        self.source = self.rollouts()
        self.anchor: Anchor | None = None
        if config.anchor.weight > 0:
            self.anchor = Anchor(
                config.anchor,
                teacher,
                student,
                self.student,
                train,
                num_steps=config.num_steps,
                sigma_shift=config.sigma_shift,
                guidance=config.guidance,
                min_latents=config.min_latents,
                seed=config.loop.seed,
            )

    @abstractmethod
    def rollouts(self) -> RolloutSource:
        """Where this stage's rollouts come from."""

    @property
    def product(self) -> str:
        """The student; nobody asks for the critic's average."""
        return "student"

    def roles(self) -> Mapping[str, Role]:
        """Student and critic, each with its rate."""
        betas = self.config.critic_betas[0], self.config.critic_betas[1]
        return {
            "student": Role(module=self.student),
            "critic": Role(module=self.critic, lr_ratio=self.config.critic_lr_ratio, betas=betas),
        }

    def join(self, team: Team) -> None:
        """Share out the clips, the rollouts, and the teacher."""
        super().join(team)
        self.source.team = self.machine.team = team
        if self.anchor:
            self.anchor.join(team)
        team.shard(self.teacher.generator)

    def loss(self, batch: ClipStep, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The critic's flow matching, and the student's distribution matching where it is the student's turn."""
        config, teacher = self.config, self.teacher.generator
        students_turn = (batch.step + 1) % config.generator_every == 0
        exit_step = draw_exit(config.num_steps, generator)
        judged = self.source.judged(batch, exit_step, generator, grad=students_turn)
        metrics = {
            "exit_step": torch.tensor(float(exit_step)),
            **rollout_metrics(judged.rollout, self.machine, self.team),
        }
        target = Target.cat([judged.target] * config.score_copies)
        critic = fake_score_loss(self.critic, target, generator, shift=config.score_shift, team=self.team)
        metrics["critic"] = critic
        if not students_turn:
            return critic, metrics
        matching, found = student_loss(
            teacher,
            self.critic,
            target,
            generator,
            shift=config.score_shift,
            guidance=config.guidance,
            num_chunks=config.score_window if config.normalise_chunks else 1,
            team=self.team,
        )
        loss, metrics = critic + matching, {**metrics, **found}
        if self.anchor:
            metrics["anchor"] = self.anchor.loss(batch.step, generator)
            loss = loss + metrics["anchor"]
        return loss, metrics

    def state_dict(self) -> dict[str, Any]:
        """The rollouts that go on, and what the anchor has seen."""
        state = self.source.state_dict()
        return {**state, "anchor": self.anchor.state_dict()} if self.anchor else state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        if self.anchor:
            self.anchor.load_state_dict(state["anchor"])
        self.source.load_state_dict({name: value for name, value in state.items() if name != "anchor"})

    def world_of(self, module: nn.Module) -> World:
        """A world of variant "student" with a copy of this generator, and the memory that it was shown."""
        assert isinstance(module, Generator)
        like = copy.copy(self.teacher)
        like.config = replace(self.teacher.config, memory=self.machine.student_memory)
        clips = centre_clips(self.train, self.machine.chunk, self.loop.seed, self.device)
        return student_world(like, module, self.machine.sampler, clips)


def rollout_metrics(rollout: Rollout, machine: SelfRollout, team: Team = ALONE) -> dict[str, Tensor]:
    """How far the rollouts have come, in chunks, and what the student's memory has made of them.

    The first check of a row has nothing to compare with and always promotes, so that rate and similarity begin with
    the second.

    Returns:
        Mean horizon, promotions a check, mean similarity at the last check, and the mean age of slow slots in latents;
        0 where there is nothing to count yet.
    """
    memory, config = rollout.student, machine.student_memory
    slow = slice(config.num_sink, config.num_sink + config.num_slow)
    valid = memory.valid[:, slow]
    age = (memory.count[:, None] - memory.source[:, slow]) * valid
    compared = (memory.checks - 1).clamp(min=0)
    promoted = (memory.promotions - 1).clamp(min=0)
    has_compared = compared > 0
    return {
        "horizon": rollout.step.float().mean(),
        "promotion_rate": team.sum(promoted.sum()) / team.sum(compared.sum()).clamp(min=1),
        "similarity": masked_mean(memory.similarity, has_compared, team),
        "slow_age": team.sum(age.sum()) / team.sum(valid.sum()).clamp(min=1),
    }
