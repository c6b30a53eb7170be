"""Random promotions follow the memory's checks, and the heads' losses have weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from cfworld.errors import ConfigError
from cfworld.train.consistency import InitStageConfig
from cfworld.train.forcing.clip_losses import random_promotions
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


@pytest.mark.parametrize("config", [TeacherStageConfig, InitStageConfig, HeadsStageConfig])
@pytest.mark.parametrize("name", ["reward_weight", "hazard_weight"])
def test_no_stage_takes_a_negative_weight_of_the_heads_losses(config: Callable[..., Any], name: str):
    with pytest.raises(ConfigError, match=rf"{name}=-1"):
        config(**{name: -1.0})
