"""Measuring novelty: a Gaussian whose answer is known, a scale that holds on other episodes, actions never seen."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cfworld import World
from cfworld.cli.calibrate import CalibrateConfig, calibrate
from cfworld.errors import ConfigError, DatasetError
from cfworld.train.novelty import NoveltyFitConfig, fit_gaussian, measure_novelty, real_means
from tests.toy import toy_world
from tests.train.toy_bank import toy_bank
from tests.train.toy_dataset import BOX, write_dataset

SMALL = NoveltyFitConfig(clips=32, clip_latents=16, batch=16)


def chain(generator: torch.Generator, rows: int = 64, length: int = 60) -> torch.Tensor:
    """x' = A x + noise of deviations 1 and 0.5 along two directions, [rows, length, 2]."""
    matrix, spread = torch.tensor([[0.8, 0.0], [0.3, 0.5]]), torch.tensor([1.0, 0.5])
    steps = [torch.zeros(rows, 2)]
    for _ in range(length + 20):
        steps.append(steps[-1] @ matrix + spread * torch.randn(rows, 2, generator=generator))
    return torch.stack(steps[-length:], dim=1)


def test_the_gaussian_is_that_of_a_known_chain():
    generator = torch.Generator().manual_seed(0)
    means = chain(generator)
    novelty = fit_gaussian(means, torch.ones(means.shape[:2], dtype=torch.bool), (0,))
    fresh = chain(generator)
    pairs = torch.stack([fresh[:, :-1], fresh[:, 1:]], dim=2).flatten(0, 1)
    squares = novelty.distance(pairs).square()
    assert squares.mean() == pytest.approx(1, abs=0.1), "by dimension, a chi-square's mean is 1"
    moved = pairs.clone()
    moved[:, 1, 1] += 5.0  # ten deviations; the ridge widens a variance of 0.25 by a hundredth of the mean, 0.625
    expected = squares.mean() + 5**2 / (0.25 + 0.00625) / 2
    assert novelty.distance(moved).square().mean() == pytest.approx(float(expected), rel=0.1)


def test_padding_is_not_fitted():
    generator = torch.Generator().manual_seed(0)
    means = chain(generator, rows=32)
    wild = means.clone()
    present = torch.ones(means.shape[:2], dtype=torch.bool)
    present[:, 40:] = False
    wild[:, 40:] = 1e4
    expected = fit_gaussian(means[:, :40], present[:, :40], (0,))
    assert torch.equal(fit_gaussian(wild, present, (0,)).after, expected.after)


def test_one_is_the_oddest_hundredth_of_the_held_out_chunks_and_zero_the_median():
    world = toy_world()
    fitted, held_out = toy_bank(*[18] * 40), toy_bank(*[18] * 40, seed=1)
    world.novelty, figures = measure_novelty(world, fitted, held_out, SMALL)
    assert figures["held_out_chunks"] == figures["fitted_latents"] == 32 * 16
    clips = held_out.clips([clip for clip in _clips(18, 40)], 18, world.device)
    means, _ = real_means(world, clips, world.novelty.layers)
    pairs = torch.stack([means[:, :-1], means[:, 1:]], dim=2).flatten(0, 1)
    novelty = world.novelty
    scores = (novelty.distance(pairs) - novelty.typical) / (novelty.limit - novelty.typical)
    assert scores.median() == pytest.approx(0, abs=0.1)
    assert (scores > 1).float().mean() == pytest.approx(0.01, abs=0.008)


def test_chunks_of_several_latents_are_measured_too():
    world = toy_world(prefix_latents=2, memory=replace(toy_world().config.memory, latents_per_chunk=2, num_fast=6))
    novelty, figures = measure_novelty(world, toy_bank(*[18] * 8), toy_bank(*[9] * 8, seed=1), SMALL)
    assert figures["fitted_latents"] == 32 * 16
    assert figures["held_out_chunks"] == 32 * 3, "7 latents after the start are three whole chunks"
    world.novelty = novelty.to(world.device)
    _, out = world.step(world.initial(seeds=[0])[0], [1])
    assert out.novelty.isfinite().all()


def test_an_action_that_the_data_never_held_is_odd():
    world = toy_world()
    world.generator.prompts.get_parameter("actions.weight").mul_(
        5
    )  # actions matter, as they do to a world that has learnt
    fitted, held_out = (
        replace(bank, actions=bank.actions % 2) for bank in (toy_bank(*[18] * 40), toy_bank(*[18] * 40, seed=1))
    )
    world.novelty, _ = measure_novelty(world, fitted, held_out, SMALL)
    clips = held_out.clips(_clips(18, 40), 18, world.device)
    scores = {}
    for action in (0, 1, 2):
        actions = clips.actions.clone()
        actions[:, -1] = action
        means, _ = real_means(world, replace(clips, actions=actions), world.novelty.layers)
        distance = world.novelty.distance(means[:, -2:])
        scores[action] = (distance - world.novelty.typical) / (world.novelty.limit - world.novelty.typical)
    assert (scores[2] > 1).float().mean() > 0.9
    assert max((scores[0] > 1).float().mean(), (scores[1] > 1).float().mean()) < 0.2


def test_the_command_writes_the_score_into_the_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    toy_world(actions=BOX).save_pretrained("world")
    train, held_out = write_dataset("train"), write_dataset("eval", seed=1)
    small = NoveltyFitConfig(clips=4, clip_latents=8)
    calibrate(CalibrateConfig(world="world", train_data=train, eval_data=held_out, novelty=small, out="out"))
    novelty = World.from_pretrained("world").novelty
    assert novelty is not None
    figures = json.loads(Path("out/calibrate.json").read_text())
    assert figures["teacher"]["limit"] == novelty.limit > novelty.typical == figures["teacher"]["typical"]


def test_wrong_settings_and_short_episodes_are_explained():
    with pytest.raises(ConfigError, match=r"novelty.clips=-1; expected an integer of at least 0"):
        NoveltyFitConfig(clips=-1)
    with pytest.raises(ConfigError, match=r"novelty.clips=0; expected an integer of at least 1"):
        CalibrateConfig(world="toy", novelty=NoveltyFitConfig(clips=0))
    with pytest.raises(DatasetError, match="no episode of 3 latents"):
        measure_novelty(toy_world(), toy_bank(2), toy_bank(2), SMALL)


def _clips(length: int, count: int):
    from cfworld.data import Clip

    return [Clip(episode=episode, start=0, length=length) for episode in range(count)]
