"""The anchor: a student that distribution matching moves is held to its teacher on real clips."""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cfworld import World
from cfworld.errors import ConfigError
from cfworld.train.consistency import InitStage, InitStageConfig
from cfworld.train.distillation.anchor import Anchor, AnchorConfig
from cfworld.train.distillation.distill import DistillConfig, Shown
from cfworld.train.loop_config import LoopConfig
from cfworld.train.processes.team import Alone
from cfworld.train.run_state import check_config
from cfworld.train.training_run import step_generator
from tests.toy import toy_world
from tests.train.resuming import assert_resumes_equally, trained
from tests.train.toy_bank import toy_bank
from tests.train.toy_distill import context_stage, local_stage, toy_loop

HELD = AnchorConfig(weight=0.5, clips=2, clip_latents=8, num_levels=4, spatial_balance=0.5)


def loss_of(anchor: Anchor | None, step: int) -> torch.Tensor:
    assert anchor
    return anchor.loss(step, step_generator(0, step))


def init_stage(student: World, seed: int = 0, **changes: Any) -> InitStage:
    """The stage whose loss the toy anchor takes."""
    values: dict[str, Any] = {"num_levels": 4, "spatial_balance": 0.5, "num_steps": 2, "sigma_shift": 3.0}
    values |= {"clip_latents": 8, "min_latents": 4, "reward_weight": 0.0, "hazard_weight": 0.0}
    config = InitStageConfig(loop=LoopConfig(batch_size=2, seed=seed), **values | changes)
    bank = toy_bank(14, 7, 12)
    return InitStage(config, toy_world(), bank, bank, student)


@pytest.mark.parametrize(
    ("held", "asked"),
    [
        ({}, {}),
        ({"num_substeps": 2}, {"num_substeps": 2}),
        ({"promotion_interval": 2}, {"promotion_interval": 2}),
        ({"promotion_cadence": 3}, {"promotion_cadence": 3}),
    ],
)
def test_it_is_the_weighted_loss_of_init_with_the_student_as_it_began_for_its_average(held: dict, asked: dict):
    made, stage = context_stage(anchor=replace(HELD, **held)), init_stage(toy_world(seed=1), **asked)
    for step in range(2):
        expected, _ = stage.loss(stage.batch(step), step_generator(0, step))
        assert expected > 0
        torch.testing.assert_close(loss_of(made.anchor, step), 0.5 * expected)


def test_its_clips_are_drawn_by_the_seed_of_the_run():
    made = context_stage(anchor=HELD, loop=toy_loop(seed=5))
    stage = init_stage(toy_world(seed=1), seed=5)
    expected, _ = stage.loss(stage.batch(0), step_generator(0, 0))
    torch.testing.assert_close(loss_of(made.anchor, 0), 0.5 * expected)


@pytest.mark.parametrize("setting", [{"guidance": 3.0}, {"sigma_shift": 2.0}])
def test_its_teacher_is_guided_as_the_score_is_and_its_grid_is_the_students(setting: dict[str, Any]):
    made, stage = context_stage(anchor=HELD, **setting), init_stage(toy_world(seed=1), **setting)
    expected, _ = stage.loss(stage.batch(0), step_generator(0, 0))
    torch.testing.assert_close(loss_of(made.anchor, 0), 0.5 * expected)


def test_the_student_alone_is_moved_and_the_targets_stay_where_it_began():
    made, moved, stage = context_stage(anchor=HELD), context_stage(anchor=HELD), init_stage(toy_world(seed=1))
    loss_of(made.anchor, 0).backward()
    assert all(parameter.grad is None for parameter in made.critic.parameters())
    assert all(parameter.grad is None for parameter in made.teacher.generator.parameters())
    head = made.student.transformer.head.head.weight
    assert head.grad is not None
    assert head.grad.abs().max() > 0
    torch.nn.init.normal_(moved.student.transformer.head.head.weight, std=1.0)
    stage.module = moved.student
    expected, _ = stage.loss(stage.batch(0), step_generator(0, 0))
    torch.testing.assert_close(loss_of(moved.anchor, 0), 0.5 * expected)


def test_it_counts_at_the_students_turns_alone():
    made, free = local_stage(anchor=HELD), local_stage()
    assert free.anchor is None
    losses = {}
    for step in range(2):
        total, metrics = made.loss(made.batch(step), step_generator(0, step))
        plain, _ = free.loss(free.batch(step), step_generator(0, step))
        losses[step] = float((total - plain).detach())
        assert ("anchor" in metrics) == (step == 1)
        assert losses[step] == pytest.approx(float(metrics["anchor"].detach() if "anchor" in metrics else 0), rel=1e-5)
    assert losses[0] == 0 < losses[1]


def test_a_resumed_run_has_bit_identical_losses(tmp_path: Path):
    assert_resumes_equally(partial(context_stage, anchor=HELD), tmp_path, steps=4)


@pytest.mark.parametrize("change", [{"weight": -1.0}, {"weight": float("nan")}, {"weight": float("inf")}, {"clips": 0}])
def test_settings_out_of_range_are_refused(change: dict):
    with pytest.raises(ConfigError, match=f"anchor.{next(iter(change))}="):
        AnchorConfig(**change)


@pytest.mark.parametrize("shown", [{"score_memory": Shown.WINDOW}, {"student_memory": Shown.WINDOW}])
def test_networks_that_see_no_more_than_a_window_are_not_held(shown: dict):
    DistillConfig(**shown)
    with pytest.raises(ConfigError, match=r"expected anchor\.weight=0, or memory for both"):
        DistillConfig(anchor=HELD, **shown)


def test_settings_that_do_not_fit_together_are_refused_in_its_name():
    with pytest.raises(ConfigError, match=r"stage\.anchor: num_levels must be a multiple of num_steps 2"):
        context_stage(anchor=replace(HELD, num_levels=5))


def test_a_run_that_knew_neither_anchor_nor_copies_goes_on_without_them(tmp_path: Path):
    before, off = {"name": "context"}, {"weight": 0.0, "clips": 2}
    now = before | {"score_copies": 1, "anchor": off}
    check_config(before, now, tmp_path, 0)
    with pytest.raises(ConfigError, match=r"anchor\.weight: 0\.0 -> 0\.5"):
        check_config(before, now | {"anchor": off | {"weight": 0.5}}, tmp_path, 0)
    with pytest.raises(ConfigError, match=r"score_copies: 1 -> 2"):
        check_config(before, now | {"score_copies": 2}, tmp_path, 0)


def test_a_run_that_was_held_is_not_gone_on_with_without_it(tmp_path: Path):
    def gone_on_with(held: AnchorConfig, steps: int) -> list[dict[str, float]]:
        return trained(context_stage(anchor=held), tmp_path, steps, details={"stage": {"anchor": asdict(held)}})

    gone_on_with(HELD, 1)
    with pytest.raises(ConfigError, match=r"stage\.anchor\.weight: 0\.5 -> 0\.0\)\. Go back to it in order to resume"):
        gone_on_with(replace(HELD, weight=0.0), 2)
    assert len(gone_on_with(HELD, 2)) == 1


def test_clips_that_cannot_be_shared_out_are_refused():
    class OfThree(Alone):
        size = 3

    anchor = context_stage(anchor=HELD).anchor
    assert anchor
    with pytest.raises(ConfigError, match="clips=2 with 3 processes; expected a multiple of 3"):
        anchor.join(OfThree())
