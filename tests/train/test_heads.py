"""The heads' stage: only heads move, the hazard is learnt at its rate, runs resume, shifts do what they say."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cfworld import World
from cfworld.errors import ConfigError
from cfworld.train import heads
from cfworld.train.banks.latent_bank import LatentBank
from cfworld.train.calibration import calibrate, fit_shift
from cfworld.train.erft import ErftConfig
from cfworld.train.heads import HeadsStage, HeadsStageConfig
from cfworld.train.loop import run
from cfworld.train.loop_config import LoopConfig
from cfworld.train.novelty import NoveltyFitConfig
from cfworld.train.training_run import step_generator
from tests.toy import toy_world
from tests.train.resuming import assert_resumes_equally
from tests.train.toy_bank import toy_bank
from tests.train.toy_residuals import assert_one_step_errors, watched_loss

LENGTHS = (9, 6, 14, 5, 11, 3, 8, 12)


def bank(seed: int = 0) -> LatentBank:
    """Episodes whose last latent, the one that ends them, is bright."""
    plain = toy_bank(*LENGTHS, seed=seed)
    latents = plain.latents.clone() * 0.3
    latents[plain.first[1:] - 1] += 2
    return replace(plain, latents=latents)


def stage(steps: int = 4, **changes) -> HeadsStage:
    settings = {
        "loop": LoopConfig(steps=steps, batch_size=4, warmup=0, save_every=2, sample_every=0, lr=1e-2, log_every=1),
        "clip_latents": 8,
        "erft": ErftConfig(start_step=1, per_step=4, max_sigma=1.0),
        "calibration_rollouts": 0,
        "eval_clips": 8,
        "novelty": NoveltyFitConfig(clips=0),
    }
    return HeadsStage(HeadsStageConfig(**(settings | changes)), toy_world(), bank(), bank(seed=1))


def test_nothing_but_the_heads_moves(tmp_path: Path):
    made = stage()
    before = {name: value.clone() for name, value in made.generator.state_dict().items()}
    run(made, made.config.loop, tmp_path)
    moved = {name for name, value in made.generator.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name in before if name.startswith("heads.")}


def test_the_bank_gets_the_generators_one_step_errors(monkeypatch: pytest.MonkeyPatch):
    batch, (seen,), residuals = watched_loss(monkeypatch, heads, stage())
    assert_one_step_errors(batch, seen, residuals)


def test_a_hazard_that_shows_in_the_picture_is_learnt_at_its_rate():
    made = stage(erft=ErftConfig(start_step=100))
    optimizer = torch.optim.Adam(made.generator.heads.parameters(), lr=1e-2)
    for step in range(40):
        optimizer.zero_grad()
        made.loss(made.batch(step), step_generator(0, step))[0].backward()
        optimizer.step()
    figures = made.sample(made.module, 40, Path())
    assert figures["ends"] > 0
    assert figures["ends_expected"] == pytest.approx(figures["ends"], rel=0.3)
    constant = figures["ends"] / (4 * sum(LENGTHS))  # of the frames; its entropy is the best loss of a blind hazard
    assert figures["hazard"] < 0.5 * -constant * torch.tensor(constant).log()


def test_every_frame_counts_once_so_that_ends_have_their_share():
    made = stage()
    epoch = [made.batch(step).clips for step in range(len(made.sampler) // 4)]
    ends = sum(float(clips.ends[clips.mortal].sum()) for clips in epoch)
    mortal = sum(float(clips.mortal.sum()) for clips in epoch)
    truth = made.train
    assert ends / mortal == pytest.approx(float(truth.ends.sum() / truth.mortal.sum()), rel=0.1)


def test_a_resumed_run_has_bit_identical_losses(tmp_path: Path):
    assert_resumes_equally(stage, tmp_path, steps=3)


def test_the_export_is_the_same_world_with_other_heads(tmp_path: Path):
    novelty = NoveltyFitConfig(clips=4, clip_latents=4)
    made = stage(calibration_rollouts=3, calibration_latents=2, novelty=novelty)
    exported = made.export(made.module, tmp_path)
    figures = exported["calibration"]
    world = World.from_pretrained(tmp_path, precision="fp32")
    assert world.variant == made.world.variant
    shift = world.generator.heads.hazard.out.bias - made.generator.heads.hazard.out.bias
    torch.testing.assert_close(shift, torch.full_like(shift, figures["hazard"]), atol=0.02, rtol=0)
    assert world.novelty is not None
    assert world.novelty.limit == exported["novelty"]["limit"]


def test_after_calibration_a_world_expects_the_ends_that_were():
    world, data = toy_world(), bank()
    with torch.no_grad():
        world.generator.heads.hazard.out.weight.mul_(0.1)
        world.generator.heads.hazard.out.bias.add_(8)
        world.generator.heads.reward.out.bias.add_(3)
    made = stage()
    clips = data.clips(made.sampler.batch(0, 40), made.config.clip_latents, torch.device("cpu"))
    found = calibrate(world, clips, prior=1e3)
    assert found.expected_before > 10 * found.ends > 0
    assert found.expected_after == pytest.approx(found.ends, rel=1e-3)
    again = calibrate(world, clips, prior=1e3)
    assert (again.hazard, again.reward) == pytest.approx((0, 0), abs=1e-3)


def test_the_shift_of_equal_logits_is_that_of_their_rate():
    logit, happened = torch.full((1000,), -1.5), torch.zeros(1000)
    happened[:20] = 1
    assert fit_shift(logit, happened, prior=1e6) == pytest.approx(torch.logit(torch.tensor(0.02)).item() + 1.5)


def test_without_trials_or_with_a_strong_prior_nothing_is_shifted():
    assert fit_shift(torch.zeros(0), torch.zeros(0), prior=1.0) == pytest.approx(0)
    assert fit_shift(torch.zeros(10), torch.ones(10), prior=1e-4) == pytest.approx(0, abs=1e-6)


def test_errors_that_no_level_of_the_sampler_would_give_are_refused():
    """A sampler of two steps at shift 3 predicts at 1 and 0.75."""
    with pytest.raises(ConfigError, match=r"max_sigma=0\.6 .*\[1\.0, 0\.75\]"):
        stage(erft=ErftConfig(max_sigma=0.6))
    assert len(stage(erft=ErftConfig(max_sigma=0.6, probability=0.0)).grid) == 2


def test_an_unknown_variant_is_refused():
    with pytest.raises(ConfigError, match="'student' or 'teacher'"):
        HeadsStageConfig(variant="critic")
