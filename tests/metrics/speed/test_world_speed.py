import pytest
import torch

from cfworld.metrics.speed.world_speed import PARTS, long_run, measure
from cfworld.model import ActionConfig
from tests.toy import toy_world


def test_figures_of_a_batch_agree_with_one_another() -> None:
    world = toy_world()
    ticks: list[int] = []
    speed = measure(world, batch=2, steps=6, warmup=1, part_steps=3, tick=lambda: ticks.append(1))
    assert len(ticks) == 1 + 6 + 3
    assert speed.frames_per_s == pytest.approx(speed.steps_per_s * 2 * 4)
    assert speed.step_ms_p50 <= speed.step_ms_p95
    assert 0 < speed.reset_ms_p50 < speed.step_ms_p50
    assert speed.parts_ms.keys() == set(PARTS)
    assert all(part > 0 for part in speed.parts_ms.values())


def test_measuring_leaves_the_world_as_it_was() -> None:
    world = toy_world()
    state, _ = world.initial([0])
    before = world.step(state, [1])[1].latents
    measure(world, batch=1, steps=2, warmup=0, part_steps=1)
    assert torch.equal(world.step(state, [1])[1].latents, before)
    assert not world.generator.transformer._forward_hooks


def test_a_long_run_compares_early_with_late_steps() -> None:
    ticks: list[int] = []
    run = long_run(toy_world(), batch=1, steps=20, timed=5, warmup=1, tick=lambda: ticks.append(1))
    assert len(ticks) == 20 + 2 * 5 + 1
    assert run.as_dict()["ratio"] == pytest.approx(run.after_ms_p50 / run.before_ms_p50)


def test_continuous_worlds_are_measured_too() -> None:
    world = toy_world(actions=ActionConfig(low=[-1.0], high=[1.0]))
    assert measure(world, batch=1, steps=2, warmup=0, part_steps=1).steps_per_s > 0
