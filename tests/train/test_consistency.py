"""The init stage: the gathered jump is the rollout's, only the student moves, runs resume, a student comes out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from cfworld import World
from cfworld.errors import ConfigError
from cfworld.rollout import Solver
from cfworld.train import consistency
from cfworld.train.consistency import InitStage, InitStageConfig, TargetKind
from cfworld.train.ema import EMA
from cfworld.train.erft import ErftConfig
from cfworld.train.loop import run
from cfworld.train.loop_config import LoopConfig
from cfworld.train.training_run import TrainingRun, step_generator
from tests.toy import toy_world
from tests.train.resuming import assert_resumes_equally
from tests.train.toy_bank import toy_bank
from tests.train.toy_residuals import assert_one_step_errors, assert_padding_is_no_target, watched_loss


def stage(steps: int = 4, **changes) -> InitStage:
    settings = {
        "loop": LoopConfig(steps=steps, batch_size=2, warmup=0, save_every=2, sample_every=0, lr=3e-3, log_every=1),
        "clip_latents": 8,
        "min_latents": 4,
        "num_levels": 8,
        "erft": ErftConfig(start_step=1, per_step=4, max_sigma=1.0),
        "sheet_rows": 1,
        "sheet_latents": 8,
    }
    config = InitStageConfig(**(settings | changes))
    made = InitStage(config, toy_world(), toy_bank(14, 7, 12), toy_bank(20, seed=1))
    assert made.average is made.module, "until a run has one"
    made.average = EMA(made.module, config.loop.ema_decay).module
    return made


def test_only_the_student_gets_a_gradient():
    made = stage()
    made.loss(made.batch(0), step_generator(0, 0))[0].backward()
    untouched = {name for name, parameter in made.module.named_parameters() if parameter.grad is None}
    assert untouched == {"prompts.null"}, "no prompt is dropped"
    for frozen in (made.teacher.generator, made.average):
        assert all(parameter.grad is None and not parameter.requires_grad for parameter in frozen.parameters())


def test_the_bank_gets_the_students_one_step_errors(monkeypatch: pytest.MonkeyPatch):
    made = stage()
    batch, passes, residuals = watched_loss(monkeypatch, consistency, made)
    (of_student,) = (seen for seen in passes if seen.network is made.module)
    assert_one_step_errors(batch, of_student, residuals)


def test_the_centre_is_measured_over_the_same_clips_whatever_the_stage_learns_from(tmp_path: Path):
    """Clips of 8 latents need no padding here, those of 16 do."""
    centres = []
    for length in (8, 16):
        made = stage(clip_latents=length)
        made.export(made.module, tmp_path / str(length))
        centres.append(World.from_pretrained(tmp_path / str(length)).generator.key_centre)
    assert centres[0].abs().sum() > 0
    assert torch.equal(*centres)


def test_a_student_that_is_its_own_teacher_misses_the_ends_of_trajectories_but_not_of_the_last_step():
    """From the last level the teacher's Euler step to the data is the student's jump."""
    whole, last = stage(num_levels=4), stage(num_levels=1, num_steps=1)
    assert whole.loss(whole.batch(0), step_generator(0, 0))[1]["squared"] > 1e-4
    assert last.loss(last.batch(0), step_generator(0, 0))[1]["squared"] < 1e-10


@pytest.mark.parametrize("changes", [{"target": TargetKind.TRAJECTORY, "num_substeps": 2}, {"guidance": 2.0}])
def test_training_brings_the_student_closer_to_its_targets(changes: dict):
    made = stage(huber=0.0, **changes)
    optimizer = torch.optim.Adam(made.module.parameters(), lr=3e-3)
    squared = []
    for _ in range(15):
        loss, metrics = made.loss(made.batch(0), step_generator(5, 0))
        squared.append(metrics["squared"].item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert squared[-1] < 0.7 * squared[0]


def test_guidance_leads_the_targets_away_from_those_of_the_null_prompt(monkeypatch: pytest.MonkeyPatch):
    """Over one Euler step of the teacher to the data, targets are linear in its velocity."""
    targets = []
    plain = consistency.consistency_target

    def watched(*args: Any, **options: Any) -> Tensor:
        targets.append(plain(*args, **options))
        return targets[-1]

    monkeypatch.setattr(consistency, "consistency_target", watched)
    for guidance in (1.0, 0.0, 3.0):
        made = stage(guidance=guidance, target=TargetKind.TRAJECTORY, num_substeps=1)
        weight = made.teacher.generator.get_parameter("transformer.head.head.weight")
        torch.nn.init.normal_(weight, std=0.2, generator=torch.Generator().manual_seed(0))
        made.loss(made.batch(0), step_generator(0, 0))
    prompted, null, strong = targets
    assert (prompted - null).abs().max() > 1e-3
    torch.testing.assert_close(strong, null + 3 * (prompted - null), rtol=1e-4, atol=1e-4)


def test_without_a_run_the_targets_are_the_students_own():
    """Its average is then the student itself, which gets no gradient through them."""
    averaged, alone = stage(), stage()
    alone.average = alone.module
    for made in (averaged, alone):
        made.loss(made.batch(0), step_generator(0, 0))[0].backward()
    one, other = ({name: p.grad for name, p in made.module.named_parameters()} for made in (averaged, alone))
    assert {name for name, gradient in other.items() if gradient is None} == {"prompts.null"}
    torch.testing.assert_close(other, one, rtol=0, atol=0)


def test_the_average_follows_every_step(tmp_path: Path):
    made = stage()
    training = TrainingRun(made, made.config.loop, tmp_path, torch.device("cpu"), {})
    training.resume()
    for step in range(2):
        before = parameters_to_vector(made.average.parameters())
        training.take_step()
        student = parameters_to_vector(made.module.parameters()).detach()
        expected = before.lerp(student, 1 - training.ema.decay_at(step))
        torch.testing.assert_close(parameters_to_vector(made.average.parameters()), expected)
    training.log.close()


def test_the_targets_are_made_by_the_average_that_the_run_keeps(tmp_path: Path):
    made = stage()
    training = TrainingRun(made, made.config.loop, tmp_path, torch.device("cpu"), {})
    assert made.average is training.ema.module
    _, metrics = made.loss(made.batch(0), step_generator(0, 0))
    with torch.no_grad():
        for parameter in made.average.parameters():
            parameter += 0.1
    _, moved = made.loss(made.batch(0), step_generator(0, 0))
    assert moved["distance"] != metrics["distance"]


def test_a_resumed_run_has_bit_identical_losses(tmp_path: Path):
    assert_resumes_equally(stage, tmp_path, steps=3)


def test_the_export_is_a_few_step_student_with_the_starts_of_its_teacher(tmp_path: Path):
    made = stage(steps=2)
    run(made, made.config.loop, tmp_path)
    world = World.from_pretrained(tmp_path / "export")
    assert (world.variant, world.sampler.solver, world.sampler.num_steps) == ("student", Solver.FEW_STEP, 4)
    assert torch.equal(world.starts.seeds, made.teacher.starts.seeds)
    assert world.generator.key_centre.abs().sum() > 0
    state, _ = world.initial(seeds=[0, 1])
    assert torch.isfinite(world.step(state, [0, 1])[1].latents).all()
    made.teacher.save_pretrained(tmp_path / "export")
    assert World.from_pretrained(tmp_path / "export", variant="teacher").sampler == made.teacher.sampler


def test_a_sheet_has_rows_and_latents():
    with pytest.raises(ConfigError, match="sheet_latents=0"):
        InitStageConfig(sheet_latents=0)


def test_guidance_is_a_number():
    with pytest.raises(ConfigError, match="got guidance=nan; expected a finite number"):
        InitStageConfig(guidance=float("nan"))


def test_the_levels_of_the_sampler_must_be_levels_of_the_grid():
    with pytest.raises(ConfigError, match="multiple of num_steps 4"):
        InitStageConfig(num_levels=10)


def test_what_stands_in_the_padding_of_clips_is_no_target():
    assert_padding_is_no_target(stage(clip_latents=14))


def test_noise_levels_from_which_no_error_can_be_banked_are_refused():
    """At shift 5 the four levels are 1, 0.94, 0.83 and 0.62."""
    with pytest.raises(ConfigError, match=r"max_sigma=0\.6 .* expected it to reach the lowest"):
        stage(num_levels=4, sigma_shift=5.0, erft=ErftConfig(max_sigma=0.6))
    stage(num_levels=4, sigma_shift=5.0, erft=ErftConfig(max_sigma=0.7))
