"""The anchor: a student that distribution matching moves is held to its teacher on real clips."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from cfworld.errors import ConfigError
from cfworld.train.anchor import Anchor, AnchorConfig
from cfworld.train.consistency import InitStage, InitStageConfig
from cfworld.train.loop import LoopConfig, step_generator
from tests.toy import toy_world
from tests.train.resuming import assert_resumes_equally
from tests.train.toy_bank import toy_bank
from tests.train.toy_distill import context_stage, local_stage

HELD = AnchorConfig(weight=0.5, clips=2, clip_latents=8, num_levels=4, spatial_balance=0.5)


def loss_of(anchor: Anchor | None, step: int) -> torch.Tensor:
    assert anchor
    return anchor.loss(step, step_generator(0, step))


def test_it_is_the_weighted_loss_of_init_with_the_student_as_it_began_for_its_average():
    made = context_stage(anchor=HELD)
    config = InitStageConfig(
        loop=LoopConfig(batch_size=2),
        clip_latents=8,
        min_latents=4,
        num_levels=4,
        sigma_shift=made.config.sigma_shift,
        num_steps=2,
        spatial_balance=0.5,
        reward_weight=0.0,
        hazard_weight=0.0,
    )
    bank = toy_bank(14, 7, 12)
    stage = InitStage(config, made.teacher, bank, bank, toy_world(seed=1))
    for step in range(2):
        expected, _ = stage.loss(stage.batch(step), step_generator(0, step))
        assert expected > 0
        torch.testing.assert_close(loss_of(made.anchor, step), 0.5 * expected)


def test_the_student_is_moved_and_what_it_is_held_to_stays():
    made = context_stage(anchor=HELD)
    loss_of(made.anchor, 0).backward()
    assert all(parameter.grad is None for parameter in made.critic.parameters())
    assert all(parameter.grad is None for parameter in made.teacher.generator.parameters())
    head = made.student.transformer.head.head.weight
    assert head.grad is not None
    assert head.grad.abs().max() > 0
    before = loss_of(made.anchor, 0).detach()
    with torch.no_grad():
        head -= 0.01 * head.grad / head.grad.norm()
    assert loss_of(made.anchor, 0) < before, "the targets did not follow"


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


@pytest.mark.parametrize("change", [{"weight": -1.0}, {"weight": float("nan")}, {"clips": 0}])
def test_settings_out_of_range_are_refused(change: dict):
    with pytest.raises(ConfigError, match=f"anchor.{next(iter(change))}="):
        AnchorConfig(**change)


def test_clips_that_cannot_be_shared_out_are_refused():
    anchor = context_stage(anchor=HELD).anchor
    assert anchor
    with pytest.raises(ConfigError, match="clips=2 with 3 processes; expected a multiple of 3"):
        anchor.join(cast(Any, SimpleNamespace(size=3)))
