"""Stage 1: only student and critic move, each at its turn and pace; runs resume; a student comes out."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from cfworld import World
from cfworld.diffusion import denoised, interpolate
from cfworld.errors import ConfigError
from cfworld.rollout import Solver
from cfworld.train import run_state
from cfworld.train.distillation.curriculum import CurriculumConfig, draw_exit
from cfworld.train.distillation.distill import DistillConfig, DistillStage, Shown
from cfworld.train.distillation.rollouts import looped_actions
from cfworld.train.distillation.scores import score_velocity
from cfworld.train.dmd import critic_loss, dmd_direction, score_sigma
from cfworld.train.local import LocalStageConfig
from cfworld.train.loop import run
from cfworld.train.student_world import few_step_sampler
from cfworld.train.training_run import TrainingRun, step_generator
from tests.toy import toy_config, toy_world
from tests.train.resuming import assert_resumes_equally, trained
from tests.train.toy_bank import toy_bank
from tests.train.toy_distill import local_stage


def with_gradient(module: torch.nn.Module) -> set[str]:
    """The parts whose parameters got a gradient."""
    return {name.split(".")[0] for name, parameter in module.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize(("step", "moved"), [(0, {"critic"}), (1, {"critic", "student"})])
def test_the_critic_learns_at_every_step_and_the_student_at_its_turn(step: int, moved: set[str]):
    made = local_stage(generator_every=2)
    loss, metrics = made.loss(made.batch(step), step_generator(0, step))
    loss.backward()
    assert with_gradient(made.module) == moved
    assert with_gradient(made.student) <= {"transformer", "prompts"}
    assert with_gradient(made.critic) == {"transformer", "prompts"}
    assert all(parameter.grad is None for parameter in made.teacher.generator.parameters())
    assert ("direction" in metrics) == ("student" in moved)


def test_the_losses_do_not_mix_the_critic_learns_nothing_from_matching_and_the_student_nothing_from_following():
    """The critic has left the teacher, so that the student has something to learn."""
    made = local_stage(generator_every=1)
    torch.nn.init.normal_(made.critic.transformer.head.head.weight, std=0.2)
    total, metrics = made.loss(made.batch(0), step_generator(0, 0))
    student, critic = list(made.student.parameters()), list(made.critic.parameters())

    def gradients(loss: Tensor, parameters: list[torch.nn.Parameter]) -> tuple[Tensor | None, ...]:
        return torch.autograd.grad(
            loss, [p for p in parameters if p.requires_grad], retain_graph=True, allow_unused=True
        )

    assert max(gradient.abs().max() for gradient in gradients(total, student) if gradient is not None) > 0
    assert all(gradient is None for gradient in gradients(metrics["critic"], student))
    both, alone = gradients(total, critic), gradients(metrics["critic"], critic)
    assert max(gradient.abs().max() for gradient in alone if gradient is not None) > 0
    for one, other in zip(both, alone, strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or torch.equal(one, other)


def test_in_several_noisy_copies_both_losses_are_means_over_them_and_the_rollout_is_one():
    copies, made = 3, local_stage(generator_every=1, score_copies=3)
    torch.nn.init.normal_(made.critic.transformer.head.head.weight, std=0.2)
    batch, weight = made.batch(0), made.student.transformer.head.head.weight
    total, metrics = made.loss(batch, step_generator(0, 0))
    (gradient,) = torch.autograd.grad(total, weight)

    draw = step_generator(0, 0)
    target = made.source.judged(batch, draw_exit(2, draw), draw, grad=True).target
    x = target.latents

    def x0_and_loss(sigma: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        noisy = interpolate(x.detach(), noise, sigma)
        fake = score_velocity(made.critic, noisy, sigma, target.actions, target.fake)
        real = score_velocity(made.teacher.generator, noisy, sigma, target.actions, target.real)
        return denoised(noisy, fake, sigma), denoised(noisy, real, sigma), critic_loss(fake, x, noise)

    def found() -> list[tuple[Tensor, Tensor, Tensor]]:
        levels = score_sigma(copies * len(x), made.config.score_shift, draw).split(len(x))
        noises = torch.randn(copies * len(x), *x.shape[1:], generator=draw).split(len(x))
        return [x0_and_loss(sigma, noise) for sigma, noise in zip(levels, noises, strict=True)]

    critic = torch.stack([loss for _, _, loss in found()]).mean()
    torch.testing.assert_close(metrics["critic"], critic)
    direction = torch.stack([dmd_direction(x, fake, real) for fake, real, _ in found()]).mean(dim=0)
    assert direction.abs().max() > 0
    (expected,) = torch.autograd.grad(x, weight, (direction / x.numel()).to(x))
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-7)


def test_a_student_whose_critic_agrees_with_the_teacher_stays():
    """At the first step the critic is the teacher, so that the direction is zero whatever the student does."""
    made = local_stage(generator_every=1)
    loss, metrics = made.loss(made.batch(0), step_generator(0, 0))
    loss.backward()
    assert metrics["direction"] == 0
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in made.student.parameters())


def test_student_and_critic_have_rates_and_betas_of_their_own(tmp_path: Path):
    made = local_stage(generator_every=2, critic_lr_ratio=0.5, critic_betas=[0.1, 0.2])
    training = TrainingRun(made, replace(made.config.loop, clip=0.0), tmp_path, torch.device("cpu"), {})
    training.resume()
    before = parameters_to_vector(made.student.parameters()), parameters_to_vector(made.critic.parameters())
    training.take_step()
    assert torch.equal(parameters_to_vector(made.student.parameters()), before[0]), "it is not the student's turn"
    assert not torch.equal(parameters_to_vector(made.critic.parameters()), before[1])
    training.take_step()
    assert not torch.equal(parameters_to_vector(made.student.parameters()), before[0])
    student, critic = (optimizer.param_groups[0] for optimizer in training.optimizers)
    assert critic["lr"] == pytest.approx(0.5 * student["lr"])
    assert (student["betas"], critic["betas"]) == ((0.9, 0.99), (0.1, 0.2))
    training.log.close_bar()
    training.log.close()


def test_each_role_is_clipped_on_its_own(tmp_path: Path):
    made = local_stage(generator_every=1)
    training = TrainingRun(made, replace(made.config.loop, clip=1e-3), tmp_path, torch.device("cpu"), {})
    training.resume()
    for _ in range(2):
        training.take_step()
    for network in (made.student, made.critic):
        norm = torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None]).norm()
        assert norm.item() == pytest.approx(1e-3, rel=1e-2)
    assert {"grad_norm_student", "grad_norm_critic"} <= set(training.scalars)
    training.log.close_bar()
    training.log.close()


def test_the_student_alone_is_averaged(tmp_path: Path):
    made = local_stage(generator_every=1)
    training = TrainingRun(made, made.config.loop, tmp_path, torch.device("cpu"), {})
    before = parameters_to_vector(training.ema.module.parameters())
    assert torch.equal(before, parameters_to_vector(made.student.parameters()))
    training.resume()
    training.take_step()
    expected = before.lerp(parameters_to_vector(made.student.parameters()), 1 - training.ema.decay_at(0))
    torch.testing.assert_close(parameters_to_vector(training.ema.module.parameters()), expected)
    training.log.close_bar()
    training.log.close()


def test_a_run_whose_checkpoint_averages_the_critic_too_goes_on_with_the_students_average(tmp_path: Path):
    made = local_stage(generator_every=1)
    trained(made, tmp_path, steps=1)
    checkpoint = run_state.latest_checkpoint(tmp_path)
    assert checkpoint is not None
    averages = checkpoint / "ema.safetensors"
    own = load_file(averages)
    both = {f"student.{name}": value for name, value in own.items()}
    save_file(both | {f"critic.{name}": value + 1 for name, value in own.items()}, averages)
    resumed = TrainingRun(local_stage(generator_every=1), made.config.loop, tmp_path, torch.device("cpu"), {})
    resumed.resume()
    resumed.log.close()
    for name, value in resumed.ema.module.state_dict().items():
        assert torch.equal(value, own[name]), name


def test_a_resumed_run_has_bit_identical_losses(tmp_path: Path):
    assert_resumes_equally(local_stage, tmp_path, steps=4)


def test_the_export_is_a_few_step_student_beside_its_teacher(tmp_path: Path):
    made = local_stage(steps=2, num_steps=4)
    run(made, made.config.loop, tmp_path)
    world = World.from_pretrained(tmp_path / "export")
    assert (world.variant, world.sampler.solver, world.sampler.num_steps) == ("student", Solver.FEW_STEP, 4)
    assert torch.equal(world.starts.seeds, made.teacher.starts.seeds)
    assert world.generator.key_centre.abs().sum() > 0
    assert list((tmp_path / "samples").glob("*.png"))
    made.teacher.save_pretrained(tmp_path / "export")
    assert World.from_pretrained(tmp_path / "export", variant="teacher").sampler == made.teacher.sampler


def test_the_paradigms_show_scores_and_student_what_they_say():
    memory = toy_config().memory
    window = replace(memory, num_sink=0, num_slow=0)
    for score, student in ((Shown.MEMORY, Shown.MEMORY), (Shown.WINDOW, Shown.MEMORY), (Shown.WINDOW, Shown.WINDOW)):
        made: DistillStage = local_stage(score_memory=score, student_memory=student)
        assert made.machine.score_memory == (memory if score is Shown.MEMORY else window)
        assert made.machine.student_memory == (memory if student is Shown.MEMORY else window)
    assert made.batch(0).clips.latents.shape[1] == 2 + 2, "prefix and window"


def test_what_is_held_out_has_no_part_in_the_export():
    made = local_stage()
    before = made.world_of(made.student).generator.key_centre
    made.held_out = toy_bank(20, seed=9)
    assert torch.equal(made.world_of(made.student).generator.key_centre, before)


def test_a_short_student_is_exported_with_its_short_memory(tmp_path: Path):
    made = local_stage(student_memory=Shown.WINDOW, score_memory=Shown.WINDOW)
    made.export(made.student, tmp_path)
    assert World.from_pretrained(tmp_path).config.memory.num_slots == 3


def test_after_a_clips_end_its_actions_come_again():
    actions = torch.arange(6)[None, :, None].repeat(2, 1, 1)
    present = torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    looped = looped_actions(actions, present, prefix=2, length=9)[..., 0]
    assert looped.tolist() == [[0, 1, 2, 3, 4, 5, 2, 3, 4], [0, 1, 2, 3, 2, 3, 2, 3, 2]]


@pytest.mark.parametrize(
    "change",
    [
        {"generator_every": 0},
        {"num_targets": 0},
        {"critic_lr_ratio": 0.0},
        {"critic_lr_ratio": math.inf},
        {"critic_betas": [0.9]},
        {"critic_betas": [2.0, 0.9]},
        {"guidance": math.nan},
        {"num_steps": 0},
        {"score_copies": 0},
    ],
)
def test_settings_out_of_range_are_refused(change: dict):
    with pytest.raises(ConfigError, match=f"{next(iter(change))}="):
        DistillConfig(**change)


def test_a_student_whose_turn_never_comes_is_warned_of(recwarn: pytest.WarningsRecorder):
    local_stage(3, generator_every=3)
    assert not recwarn
    with pytest.warns(
        UserWarning, match=r"loop\.steps=2 with generator_every=3: the student would come out as it went in"
    ):
        local_stage(2, generator_every=3)


def test_stage_1_has_no_curriculum_and_an_episode_must_reach_beyond_the_prefix():
    with pytest.raises(ConfigError, match=r"stage=context"):
        LocalStageConfig(curriculum=CurriculumConfig(last=4))
    with pytest.raises(ConfigError, match="min_latents=2"):
        local_stage(min_latents=2)
    assert local_stage(min_latents=3).prefix == 2, "one chunk of one latent after the prefix is enough"
    assert local_stage(min_latents=4, prefix_latents=3).prefix == 3


@pytest.mark.parametrize(("num_steps", "shift"), [(2, 5.0), (4, 3.0)])
def test_a_student_that_was_distilled_for_other_steps_is_refused(num_steps: int, shift: float):
    student = toy_world(seed=1, sampler=few_step_sampler(num_steps, shift))
    needed = rf"stage\.num_steps={num_steps} stage\.sigma_shift={shift:g}"
    with pytest.raises(ConfigError, match=rf"num_steps=2, sigma_shift=3\.0.*{needed}"):
        local_stage(student=student, num_steps=2, sigma_shift=3.0)
    made = local_stage(student=student, num_steps=num_steps, sigma_shift=shift)
    assert made.machine.sampler == student.sampler
