"""Self-resampling: what a rollout from the true past would make, told from the truth, and no gradient through it."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cfworld.errors import ConfigError
from cfworld.memory import MemoryConfig, PromotionRule
from cfworld.model import Generator
from cfworld.prefix import prime
from cfworld.rollout import SamplerConfig, Solver, clean_pass, context_from_memory, denoise
from cfworld.train.banks.latent_bank import ClipBatch
from cfworld.train.forcing.clip_losses import head_losses
from cfworld.train.forcing.gathered import GatheredOutput, SlotSchedule, gathered_forward, gathered_keys, slot_schedule
from cfworld.train.forcing.resampling import (
    Resampled,
    ResamplingConfig,
    before_padding,
    draw_starts,
    draw_strengths,
    resample,
    resampled,
)
from cfworld.train.run_state import check_config
from cfworld.train.training_run import step_generator
from tests.toy import toy_config, toy_generator
from tests.train.resuming import assert_resumes_equally
from tests.train.test_consistency import stage as init_stage
from tests.train.test_teacher import stage as teacher_stage

LENGTH = 12
NETWORK = toy_generator(toy_config()).eval()
WHOLE = ResamplingConfig(share=1.0, stretch=2)
STAGES = pytest.mark.parametrize("make", [teacher_stage, init_stage], ids=["teacher", "init"])
SAMPLERS = pytest.mark.parametrize("solver", list(Solver))


def memory_of(chunk: int = 1) -> MemoryConfig:
    return MemoryConfig(
        num_sink=1,
        num_slow=2,
        num_fast=2 + chunk,
        latents_per_chunk=chunk,
        consolidate_every=2,
        rule=PromotionRule.UNIFORM,
    )


def batch_of(latents: Tensor, actions: Tensor) -> ClipBatch:
    """Clips without padding, of which nobody asks for more than latents and actions."""
    frames = torch.ones(actions.shape[:3])
    always = frames.bool()
    return ClipBatch(
        latents=latents,
        actions=actions,
        rewards=frames,
        ends=frames,
        valid=always,
        mortal=always,
        present=always[..., 0],
    )


def clips(rows: int = 2, chunk: int = 1) -> tuple[Tensor, Tensor, SlotSchedule]:
    """Latents, actions, and a schedule that promotes as the memory does."""
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(rows, LENGTH, 4, 8, 8, generator=generator)
    actions = torch.randint(3, (rows, LENGTH, 4), generator=generator)
    flags = ((torch.arange(LENGTH // chunk) + 1) % 2 == 0).expand(rows, -1)
    return latents, actions, slot_schedule(memory_of(chunk), flags)


def still(rows: int, chunk: int = 1) -> Callable[[], Tensor]:
    """The same noise at every draw."""
    noise = torch.linspace(-0.9, 1.1, 4 * 64).view(1, 1, 4, 8, 8).expand(rows, chunk, -1, -1, -1)
    return lambda: noise


def sampler_of(solver: Solver) -> SamplerConfig:
    return SamplerConfig(solver=solver, num_steps=2, shift=1.0)


def made(
    starts: list[int],
    *,
    stretch: int = LENGTH,
    strengths: tuple[float, ...] = (1.0, 1.0),
    solver: Solver = Solver.EULER,
    chunk: int = 1,
) -> Tensor:
    """Two clips, of which each has its stretch."""
    latents, actions, schedule = clips(chunk=chunk)
    first, level = torch.tensor(starts), torch.tensor(strengths)
    noise = still(2, chunk)
    return resample(NETWORK, sampler_of(solver), schedule, latents, latents, actions, first, stretch, level, noise)


def rolled_out(row: int, start: int, solver: Solver, chunk: int = 1) -> Tensor:
    """The same by the world's own steps: a memory primed with the truth, a chunk generated, read, and so on."""
    memory_config, noise = memory_of(chunk), still(1, chunk)
    latents, actions, _ = clips(chunk=chunk)
    latents, actions, before = latents[row : row + 1], actions[row : row + 1], start * chunk
    with torch.no_grad():
        memory = prime(NETWORK, memory_config, latents[:, :before], actions[:, :before])
        chunks = []
        for index in range(before, LENGTH, chunk):
            done = actions[:, index : index + chunk]
            context = context_from_memory(NETWORK, memory_config, memory)
            chunks.append(denoise(NETWORK, sampler_of(solver), context, done, lambda _pass: noise()))
            memory = clean_pass(NETWORK, memory_config, memory, context, chunks[-1], done).memory
    return torch.cat([latents[:, :before], *chunks], dim=1)


@SAMPLERS
@pytest.mark.parametrize("chunk", [1, 2])
def test_a_stretch_is_what_a_rollout_from_there_makes(solver: Solver, chunk: int):
    stretches = made([1, 5], solver=solver, chunk=chunk)
    for row, start in enumerate([1, 5]):
        expected = rolled_out(row, start, solver, chunk)
        torch.testing.assert_close(stretches[row : row + 1], expected, atol=1e-5, rtol=1e-4)


def test_what_comes_before_a_stretch_and_after_it_is_true():
    truth, short, whole = clips()[0], made([4, 7], stretch=3), made([4, 7])
    for row, (first, end) in enumerate([(4, 7), (7, 10)]):
        assert torch.equal(short[row, :first], truth[row, :first])
        assert torch.equal(short[row, end:], truth[row, end:])
        torch.testing.assert_close(short[row, first:end], whole[row, first:end])
        assert ((short - truth)[row, first:end].abs().amax(dim=(1, 2, 3)) > 0.01).all()


def test_a_stretch_ends_where_its_clip_ends():
    assert torch.equal(made([11, 3], stretch=9)[0], made([11, 3], stretch=1)[0])


@SAMPLERS
def test_the_less_noise_the_nearer_to_the_truth(solver: Solver):
    truth = clips()[0]
    clean, half, lost = (made([2, 2], strengths=(s, s), solver=solver) for s in (1e-4, 0.5, 1.0))
    distances = [(latents - truth).square().mean() for latents in (clean, half, lost)]
    assert distances[0] < 1e-5
    assert distances[0] < distances[1] < distances[2]
    mixed = made([2, 2], strengths=(0.5, 1.0), solver=solver)
    torch.testing.assert_close(mixed[0], half[0])
    torch.testing.assert_close(mixed[1], lost[1])


def test_a_stretch_goes_on_from_the_past_that_is_given():
    latents, actions, schedule = clips()
    past = latents + 0.5
    first, level = torch.tensor([4, 7]), torch.ones(2)
    sampler = sampler_of(Solver.EULER)
    found = resample(NETWORK, sampler, schedule, latents, past, actions, first, 2, level, still(2))
    expected = resample(NETWORK, sampler, schedule, past, past, actions, first, 2, level, still(2))
    torch.testing.assert_close(found, expected)
    assert (found - made([4, 7], stretch=2))[0, 4:6].abs().max() > 1e-3


def test_nothing_carries_a_gradient():
    assert not made([2, 2]).requires_grad


def test_stretches_begin_at_any_chunk_but_the_first():
    drawn = draw_starts(2000, 6, torch.Generator().manual_seed(0))
    assert drawn.unique().tolist() == [1, 2, 3, 4, 5]
    assert drawn.bincount().tolist()[1:] == pytest.approx([400] * 5, abs=60)


@pytest.mark.parametrize("chunk", [1, 2])
def test_stretches_of_padded_clips_begin_before_the_padding_and_others_where_they_were_drawn(chunk: int):
    drawn = draw_starts(2000, 6, torch.Generator().manual_seed(0))
    whole, padded, single = (
        before_padding(drawn, (torch.arange(6 * chunk) < length).expand(2000, -1), 6)
        for length in (6 * chunk, 3 * chunk + 1, 1)
    )
    assert torch.equal(whole, drawn)
    assert padded.unique().tolist() == [1, 2, 3], "the fourth chunk begins before the padding"
    assert padded.bincount()[1:].min() > 300
    assert single.unique().tolist() == [1]


def test_strengths_are_uniform_between_the_lowest_and_1():
    drawn = draw_strengths(10_000, 0.6, torch.Generator().manual_seed(0))
    assert 0.6 <= drawn.min() < 0.605
    assert 0.995 < drawn.max() <= 1
    assert drawn.mean().item() == pytest.approx(0.8, abs=0.005)


def test_strengths_above_a_lowest_of_1_are_1():
    assert draw_strengths(3, 1.0, torch.Generator().manual_seed(0)).unique().tolist() == [1.0]


def contexts(*, chunk: int = 1, guidance: float = 1.0, **settings: Any) -> tuple[Tensor, Resampled]:
    """The truth, and what a share of its contexts became; what the others learn from lies 5 off."""
    latents, actions, schedule = clips(8, chunk)
    config = ResamplingConfig(**{"stretch": 3, **settings})
    sampler = SamplerConfig(num_steps=2, shift=1.0, guidance=guidance)
    generator = torch.Generator().manual_seed(1)
    return latents, resampled(config, sampler, NETWORK, schedule, batch_of(latents, actions), latents + 5, generator)


def test_a_share_of_the_clips_is_resampled_and_the_others_are_as_they_were():
    latents, seen = contexts(share=0.5)
    chosen = seen.made.any(dim=1)
    assert 0 < chosen.sum() < 8
    assert torch.equal(seen.context[~chosen], latents[~chosen] + 5)
    assert (seen.context[chosen, 0] == latents[chosen, 0] + 5).all(), "a clip that is resampled is as it was elsewhere"
    assert seen.true[~chosen].all()
    assert seen.asked[~chosen].all()


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_clip_is_true_then_made_and_then_neither(chunk: int):
    latents, seen = contexts(share=1.0, chunk=chunk)
    other = (seen.context != latents + 5).flatten(2).any(dim=2)
    assert torch.equal(seen.made, other)
    for made_T, true_T in zip(seen.made.tolist(), seen.true.tolist(), strict=True):
        first = made_T.index(True)
        count = min(3 * chunk, LENGTH - first)
        assert first % chunk == 0
        assert first >= chunk
        assert made_T == [False] * first + [True] * count + [False] * (LENGTH - first - count)
        assert true_T == [True] * first + [False] * (LENGTH - first)


def test_the_truth_is_a_target_where_it_came_before_or_nothing_else_is_shown():
    latents, seen = contexts(share=1.0, tolerance=1.2)
    near = (seen.context - latents).square().mean(dim=2).sqrt() <= 1.2
    first = seen.made & ~seen.made.roll(1, dims=1)
    assert seen.asked[seen.true].all()
    assert seen.asked[first].all(), "the context of a stretch's first chunk is true"
    rest = seen.made & ~first
    assert torch.equal(seen.asked[rest], near[rest])
    assert 0.05 < near[rest].float().mean() < 0.95
    after = ~seen.true & ~seen.made
    assert after.any()
    assert not seen.asked[after].any(), "slow memory holds what contradicts it"
    assert seen.asked_of_made(torch.ones_like(seen.made)).item() == pytest.approx(
        seen.asked[seen.made].float().mean().item()
    )
    present = (torch.arange(LENGTH) < 8).expand(8, -1)
    assert seen.asked_of_made(present).item() == pytest.approx(seen.asked[seen.made & present].float().mean().item())


def test_a_share_of_none_draws_and_changes_nothing():
    latents, actions, schedule = clips()
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    none, truth = ResamplingConfig(share=0.0), batch_of(latents, actions)
    seen = resampled(none, SamplerConfig(), NETWORK, schedule, truth, latents + 5, generator)
    assert torch.equal(seen.context, latents + 5)
    assert seen.asked.all()
    assert seen.true.all()
    assert not seen.made.any()
    assert torch.equal(generator.get_state(), before), "runs from before go on to the same losses"


def test_a_clip_of_a_single_chunk_has_no_past_to_make():
    latents, actions, _ = clips()
    schedule = slot_schedule(memory_of(), torch.zeros(2, 1, dtype=torch.bool))
    whole, only = ResamplingConfig(share=1.0), latents[:, :1]
    truth = batch_of(only, actions[:, :1])
    seen = resampled(whole, SamplerConfig(), NETWORK, schedule, truth, only, torch.Generator())
    assert torch.equal(seen.context, only)
    assert seen.true.all()


@STAGES
def test_no_stage_makes_padding(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    """The toy episodes are 14, 7 and 12 latents long."""
    stage, seen = make(resampling=WHOLE, clip_latents=14), []
    module = sys.modules[type(stage).__module__]
    monkeypatch.setattr(module, "resampled", lambda *given: seen.append(resampled(*given)) or seen[-1])
    for step in range(3):
        batch = stage.batch(step)
        stage.loss(batch, step_generator(0, step))
        assert (seen[-1].made & batch.clips.present).any(dim=1).all(), "of every clip"


def test_guidance_is_left_out():
    assert torch.equal(contexts(share=1.0)[1].context, contexts(share=1.0, guidance=3.0)[1].context)


@pytest.mark.parametrize("bad", [{"share": 1.5}, {"lowest": 0.0}, {"lowest": 1.1}, {"stretch": 0}, {"tolerance": 0.0}])
def test_settings_out_of_their_range_are_refused(bad: dict[str, Any]):
    (name, value), *_ = bad.items()
    with pytest.raises(ConfigError, match=rf"{name}={value}"):
        ResamplingConfig(**bad)


def test_heads_are_asked_only_of_what_was_recorded():
    """Wrong by 2 where it is true, and by far more where it was made."""
    true = torch.tensor([[True, True, False]])
    wrong = torch.where(true, 2.0, 50.0)[..., None].expand(1, 3, 4)
    output = GatheredOutput(velocity=torch.zeros(0), reward=wrong, hazard_logit=wrong, has_heads=True)
    always = torch.ones(1, 3, 4, dtype=torch.bool)
    batch = ClipBatch(
        latents=torch.zeros(1, 3, 4, 8, 8),
        actions=torch.zeros(1, 3, 4, dtype=torch.int64),
        rewards=torch.zeros(1, 3, 4),
        ends=torch.zeros(1, 3, 4),
        valid=always,
        mortal=always,
        present=torch.ones(1, 3, dtype=torch.bool),
    )
    reward, hazard = head_losses(output, batch, true=true)
    assert reward.item() == pytest.approx(4.0)
    assert hazard.item() == pytest.approx(2.126928)  # log(1 + e^2)


@STAGES
def test_a_stage_learns_from_what_its_own_network_makes(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    stage = make(resampling=WHOLE)
    module = sys.modules[type(stage).__module__]
    made, read = [], []

    def watched_resampling(config: ResamplingConfig, sampler: SamplerConfig, network: Generator, *rest: Any) -> Any:
        made.append((network, sampler, resampled(config, sampler, network, *rest)))
        return made[-1][2]

    def watched_pass(network: Generator, schedule: SlotSchedule, clean: Tensor, *rest: Any) -> Any:
        read.append((network, clean))
        return gathered_forward(network, schedule, clean, *rest)

    def watched_reading(network: Generator, schedule: SlotSchedule, clean: Tensor, actions: Tensor) -> Any:
        read.append((network, clean))
        return gathered_keys(network, schedule, clean, actions)

    monkeypatch.setattr(module, "resampled", watched_resampling)
    monkeypatch.setattr(module, "gathered_forward", watched_pass)
    monkeypatch.setattr(module, "gathered_keys", watched_reading, raising=False)
    batch = stage.batch(0)
    _, metrics = stage.loss(batch, step_generator(0, 0))

    ((network, sampler, seen),) = made
    assert network is stage.module
    assert sampler == stage.world_of(stage.module).config.sampler, "as the world that is exported does it"
    assert not torch.equal(seen.context, batch.clips.latents)
    frozen = stage.teacher.generator if make is init_stage else None
    for reader, clean in read:
        assert torch.equal(clean, batch.clips.latents if reader is frozen else seen.context)
    assert {id(stage.module), id(frozen)} - {id(None)} <= {id(reader) for reader, _ in read}
    assert metrics["asked"] == seen.asked_of_made(batch.clips.present)


@STAGES
def test_bank_and_balance_learn_from_true_contexts_alone(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    stage = make(resampling=WHOLE, spatial_balance=0.5)
    module = sys.modules[type(stage).__module__]
    seen, added = [], []
    monkeypatch.setattr(module, "resampled", lambda *given: seen.append(resampled(*given)) or seen[-1])
    monkeypatch.setattr(stage.errors, "add", lambda residuals, *_: added.append(len(residuals)))
    monkeypatch.setattr(stage.balance, "add", lambda errors, known, *_: added.append(len(errors[known])))
    batch = stage.batch(0)
    stage.loss(batch, step_generator(0, 0))
    count = int((seen[0].true & batch.clips.present).sum()) * stage.config.num_copies
    assert 0 < count < batch.clips.present.sum().item() * stage.config.num_copies
    assert added == [count, count]


def test_without_a_share_no_stage_says_how_much_is_asked():
    for stage in (teacher_stage(), init_stage()):
        assert "asked" not in stage.loss(stage.batch(0), step_generator(0, 0))[1]


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
    assert_resumes_equally(partial(make, resampling=WHOLE), tmp_path, steps=3)


def test_a_run_that_knew_no_resampling_goes_on_without_it(tmp_path: Path):
    before, off, on = {"name": "init"}, {"share": 0.0, "stretch": 8}, {"share": 0.5, "stretch": 8}
    check_config(before, before | {"resampling": off}, tmp_path, 0)
    sampler = {"sampler": {"num_steps": 4}}
    check_config(before | {"resampling": off | sampler}, before | {"resampling": off}, tmp_path, 0)
    with pytest.raises(ConfigError, match=r"resampling\.sampler\.num_steps: 4"):
        check_config(before | {"resampling": on | sampler}, before | {"resampling": on}, tmp_path, 0)
    with pytest.raises(ConfigError, match=r"resampling\.share: 0\.0 -> 0\.5"):
        check_config(before, before | {"resampling": on}, tmp_path, 0)
    with pytest.raises(ConfigError, match=r"resampling\.new"):
        check_config(before | {"resampling": on}, before | {"resampling": on | {"new": 1}}, tmp_path, 0)
