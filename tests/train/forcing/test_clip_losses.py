"""Random promotions follow the memory's checks, and the heads' losses have weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from cfworld.errors import ConfigError
from cfworld.train.banks.latent_bank import ClipBatch
from cfworld.train.consistency import InitStageConfig
from cfworld.train.forcing.clip_losses import head_losses, random_promotions
from cfworld.train.forcing.gathered import GatheredOutput
from cfworld.train.heads import HeadsStageConfig
from cfworld.train.teacher import TeacherStageConfig


def drawn(cadence: int, interval: int, rows: int = 2000, chunks: int = 24) -> torch.Tensor:
    return random_promotions(rows, chunks, cadence, interval, torch.Generator().manual_seed(0))


def test_with_an_interval_of_one_every_check_promotes_and_clips_begin_anywhere_between_two():
    flags = drawn(cadence=3, interval=1)
    assert (flags.sum(dim=1) == 8).all()
    first = flags.int().argmax(dim=1)
    assert torch.equal(flags, (torch.arange(24) - first[:, None]) % 3 == 0)
    assert torch.equal(first.unique(), torch.arange(3))


def test_rates_lie_between_one_and_the_inverse_interval_uniformly_in_their_logarithm():
    rate = drawn(cadence=1, interval=4, chunks=400).float().mean(dim=1)
    assert rate.min() > 0.15
    assert (rate > 0.99).any()
    assert abs((rate.log() / torch.tensor(0.25).log()).mean() - 0.5) < 0.02


def losses(valid: list[bool], mortal: list[bool], *, has_heads: bool = True) -> list[float]:
    """Those of rewards and ends where of four frames the first is off by 50, the second by 4, and the others by 2."""
    off = torch.tensor([[[50.0, 4.0, 2.0, 2.0]]])
    clips = ClipBatch(
        latents=torch.zeros(1, 1, 4, 8, 8),
        actions=torch.zeros(1, 1, 4, dtype=torch.int64),
        rewards=torch.zeros(1, 1, 4),
        ends=torch.zeros(1, 1, 4),
        valid=torch.tensor([[valid]]),
        mortal=torch.tensor([[mortal]]),
        present=torch.ones(1, 1, dtype=torch.bool),
    )
    output = GatheredOutput(velocity=torch.zeros(0), reward=off, hazard_logit=off, has_heads=has_heads)
    return [loss.item() for loss in head_losses(output, clips)]


def test_rewards_are_asked_of_valid_frames_and_ends_of_those_that_could_have_been_one():
    """(16 + 4 + 4) / 3, and log(1 + e^2)."""
    valid, mortal, none = [False, True, True, True], [False, False, True, True], [False] * 4
    assert losses(valid, mortal) == pytest.approx([8.0, 2.126928])
    assert losses(valid, none) == [8.0, 0.0]
    assert losses(none, none) == [0.0, 0.0]
    assert losses(valid, mortal, has_heads=False) == [0.0, 0.0]


@pytest.mark.parametrize("config", [TeacherStageConfig, InitStageConfig, HeadsStageConfig])
@pytest.mark.parametrize("name", ["reward_weight", "hazard_weight"])
def test_no_stage_takes_a_negative_weight_of_the_heads_losses(config: Callable[..., Any], name: str):
    with pytest.raises(ConfigError, match=rf"{name}=-1"):
        config(**{name: -1.0})
