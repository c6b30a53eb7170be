"""Self-resampling: what a rollout from the true past would make, told from the truth, and no gradient through it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cfworld.errors import ConfigError
from cfworld.memory import MemoryConfig, PromotionRule
from cfworld.model import Generator
from cfworld.rollout import SamplerConfig, Solver, clean_pass, context_from_memory, denoise, prime
from cfworld.train.gathered import SlotSchedule, gathered_forward, slot_schedule
from cfworld.train.loop import run, step_generator
from cfworld.train.resampling import ResamplingConfig, draw_strengths, draw_stretches, resample, resampled
from cfworld.train.run_state import check_config
from tests.toy import toy_config, toy_generator
from tests.train.test_consistency import stage as init_stage
from tests.train.test_teacher import stage as teacher_stage

LENGTH = 12
CONFIG = toy_config(
    memory=MemoryConfig(num_sink=1, num_slow=2, num_fast=3, consolidate_every=2, rule=PromotionRule.UNIFORM)
)
NETWORK = toy_generator(CONFIG).eval()
SAMPLERS = pytest.mark.parametrize("solver", list(Solver))


def clips(rows: int = 2) -> tuple[Tensor, Tensor, SlotSchedule]:
    """Latents, actions, and a schedule that promotes as the memory does."""
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(rows, LENGTH, 4, 8, 8, generator=generator)
    actions = torch.randint(3, (rows, LENGTH, 4), generator=generator)
    flags = ((torch.arange(LENGTH) + 1) % 2 == 0).expand(rows, -1)
    return latents, actions, slot_schedule(CONFIG.memory, flags)


def still(rows: int, value: float = 0.1) -> Callable[[], Tensor]:
    """The same noise at every draw."""
    noise = torch.linspace(-1, 1, 4 * 64).view(1, 1, 4, 8, 8).expand(rows, 1, -1, -1, -1) + value
    return lambda: noise


def made(starts: list[int], *, strength: float = 1.0, solver: Solver = Solver.EULER, rows: int = 2) -> Tensor:
    latents, actions, schedule = clips(rows)
    sampler = SamplerConfig(solver=solver, num_steps=2, shift=1.0)
    strengths = torch.full((rows, len(starts)), strength)
    noise = still(rows * len(starts))
    return resample(NETWORK, sampler, schedule, latents, actions, torch.tensor(starts), strengths, noise)


def rolled_out(network: Generator, sampler: SamplerConfig, start: int) -> Tensor:
    """The same by the world's own steps: a memory primed with the truth, a chunk generated, read, and so on."""
    latents, actions, _ = clips()
    noise = still(len(latents))
    with torch.no_grad():
        memory = prime(network, CONFIG.memory, latents[:, :start], actions[:, :start])
        chunks = []
        for index in range(start, LENGTH):
            done = actions[:, index : index + 1]
            context = context_from_memory(network, CONFIG.memory, memory)
            chunks.append(denoise(network, sampler, context, done, lambda _pass: noise()))
            memory = clean_pass(network, CONFIG.memory, memory, context, chunks[-1], done).memory
    return torch.cat([latents[:, :start], *chunks], dim=1)


@SAMPLERS
def test_a_stretch_is_what_a_rollout_from_there_makes(solver: Solver):
    sampler = SamplerConfig(solver=solver, num_steps=2, shift=1.0)
    torch.testing.assert_close(made([5], solver=solver), rolled_out(NETWORK, sampler, 5), atol=1e-5, rtol=1e-4)


def test_every_stretch_begins_in_the_true_past():
    together, first, second = made([3, 7]), made([3]), made([7])
    torch.testing.assert_close(together[:, :7], first[:, :7])
    torch.testing.assert_close(together[:, 7:], second[:, 7:])
    assert (together[:, 7:] - first[:, 7:]).abs().max() > 0.01


def test_what_comes_before_the_first_stretch_is_true():
    assert torch.equal(made([4])[:, :4], clips()[0][:, :4])


@SAMPLERS
def test_the_less_noise_the_nearer_to_the_truth(solver: Solver):
    truth = clips()[0]
    distances = [(made([2], strength=s, solver=solver) - truth).square().mean() for s in (1e-4, 0.5, 1.0)]
    assert distances[0] < 1e-5
    assert distances[0] < distances[1] < distances[2]


def test_nothing_carries_a_gradient():
    assert not made([2]).requires_grad


@pytest.mark.parametrize("stretch", [1, 4, 30])
def test_stretches_follow_each_other_after_at_least_one_true_chunk(stretch: int):
    firsts = set()
    for seed in range(200):
        starts = draw_stretches(20, stretch, torch.Generator().manual_seed(seed)).tolist()
        assert starts == list(range(starts[0], 20, stretch))
        firsts.add(starts[0])
    assert firsts == set(range(1, min(stretch, 19) + 1))


def test_strengths_are_uniform_between_the_lowest_and_1():
    drawn = draw_strengths((100, 100), 0.6, torch.Generator().manual_seed(0))
    assert 0.6 <= drawn.min() < 0.605
    assert 0.995 < drawn.max() <= 1
    assert drawn.mean().item() == pytest.approx(0.8, abs=0.005)


def test_strengths_above_a_lowest_of_1_are_1():
    assert draw_strengths((2, 3), 1.0, torch.Generator().manual_seed(0)).unique().tolist() == [1.0]


def contexts(**settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    """The truth, what a share of it became, and where that agrees."""
    latents, actions, schedule = clips(8)
    config = ResamplingConfig(**{"stretch": 3, **settings})
    generator = torch.Generator().manual_seed(1)
    seen = resampled(config, NETWORK, schedule, latents, latents + 5, actions, generator)
    return latents, seen.context, seen.agrees


def test_a_share_of_the_clips_is_resampled_and_the_others_are_as_they_were():
    latents, context, _ = contexts(share=0.5)
    others = (context == latents + 5).flatten(1).all(dim=1)
    assert 0 < others.sum() < 8
    assert torch.equal(context[~others, 0], latents[~others, 0])
    assert (context[~others] != latents[~others] + 5).all()


def test_a_share_of_none_draws_and_changes_nothing():
    latents, actions, schedule = clips()
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    seen = resampled(ResamplingConfig(share=0.0), NETWORK, schedule, latents, latents + 5, actions, generator)
    assert torch.equal(seen.context, latents + 5)
    assert seen.agrees.all()
    assert torch.equal(generator.get_state(), before), "runs from before go on to the same losses"


def test_a_clip_of_a_single_chunk_has_no_past_to_make():
    latents, actions, _ = clips()
    schedule = slot_schedule(CONFIG.memory, torch.zeros(2, 1, dtype=torch.bool))
    whole, only = ResamplingConfig(share=1.0), latents[:, :1]
    seen = resampled(whole, NETWORK, schedule, only, only, actions[:, :1], torch.Generator())
    assert torch.equal(seen.context, only)


def test_positions_farther_from_the_truth_than_the_tolerance_disagree():
    latents, context, agrees = contexts(share=1.0, tolerance=1.2)
    distance = (context - latents).square().mean(dim=2).sqrt()
    assert torch.equal(agrees, distance <= 1.2)
    assert 0.05 < agrees.float().mean() < 0.95


def test_what_is_not_resampled_agrees_whatever_its_errors():
    _, context, agrees = contexts(share=0.5, tolerance=1e-6)
    latents = clips(8)[0]
    assert agrees[(context == latents + 5).flatten(1).all(dim=1)].all()


@pytest.mark.parametrize("bad", [{"share": 1.5}, {"lowest": 0.0}, {"lowest": 1.1}, {"stretch": 0}, {"tolerance": 0.0}])
def test_settings_out_of_their_range_are_refused(bad: dict[str, Any]):
    (name, value), *_ = bad.items()
    with pytest.raises(ConfigError, match=rf"{name}={value}"):
        ResamplingConfig(**bad)


def test_guidance_is_refused():
    with pytest.raises(ConfigError, match=r"guidance=3\.0"):
        ResamplingConfig(sampler=SamplerConfig(guidance=3.0))


STAGES = pytest.mark.parametrize("make", [teacher_stage, init_stage], ids=["teacher", "init"])
WHOLE = ResamplingConfig(share=1.0, stretch=2, sampler=SamplerConfig(num_steps=1, shift=1.0))


@STAGES
def test_a_stage_learns_from_what_its_own_network_makes(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    stage = make(resampling=WHOLE)
    module = sys.modules[type(stage).__module__]
    made, read = [], []

    def watched_resampling(config: ResamplingConfig, network: Generator, *rest: Any) -> Any:
        made.append((network, resampled(config, network, *rest)))
        return made[-1][1]

    def watched_pass(network: Generator, schedule: SlotSchedule, clean: Tensor, *rest: Any) -> Any:
        read.append((network, clean))
        return gathered_forward(network, schedule, clean, *rest)

    monkeypatch.setattr(module, "resampled", watched_resampling)
    monkeypatch.setattr(module, "gathered_forward", watched_pass)
    batch = stage.batch(0)
    _, metrics = stage.loss(batch, step_generator(0, 0))

    ((network, seen),) = made
    assert network is stage.module
    assert not torch.equal(seen.context, batch.clips.latents)
    assert all(clean is seen.context for _, clean in read)
    assert stage.module in [network for network, _ in read]
    assert metrics["agrees"] == seen.agrees.float().mean()


def test_without_a_share_no_stage_says_how_much_agrees():
    for stage in (teacher_stage(), init_stage()):
        assert "agrees" not in stage.loss(stage.batch(0), step_generator(0, 0))[1]


@STAGES
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_a_stage_s_gradient_reaches_every_weight_under_autocast(make: Callable[..., Any]):
    stage = make(resampling=WHOLE)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = stage.loss(stage.batch(0), step_generator(0, 0))
    loss.backward()
    without = {name for name, parameter in stage.module.named_parameters() if parameter.grad is None}
    assert without <= {"prompts.null"}


@STAGES
def test_a_resumed_stage_has_the_same_losses(make: Callable[..., Any], tmp_path: Path):
    whole, parts = (make(resampling=WHOLE) for _ in range(2))
    expected = run(whole, whole.config.loop, tmp_path / "whole")
    parts.config.loop.max_minutes = 1e-9
    found = {}
    for _ in range(whole.config.loop.steps):
        found = run(make(resampling=WHOLE), parts.config.loop, tmp_path / "parts")
    assert found["last"] == expected["last"]


def test_a_run_that_knew_no_resampling_goes_on_without_it(tmp_path: Path):
    before, off, on = {"name": "init"}, {"share": 0.0, "stretch": 8}, {"share": 0.5, "stretch": 8}
    check_config(before, before | {"resampling": off}, tmp_path, 0)
    with pytest.raises(ConfigError, match=r"resampling\.share: 0\.0 -> 0\.5"):
        check_config(before, before | {"resampling": on}, tmp_path, 0)
    with pytest.raises(ConfigError, match=r"resampling\.new"):
        check_config(before | {"resampling": on}, before | {"resampling": on | {"new": 1}}, tmp_path, 0)
