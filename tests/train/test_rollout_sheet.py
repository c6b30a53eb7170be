"""A stage's contact sheet: whatever its size, there is a picture, and figures that are numbers."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from cfworld.errors import DatasetError
from cfworld.train.banks.latent_bank import LatentBank
from cfworld.train.rollout_sheet import rollout_sheet, sheet_episodes
from tests.toy import toy_config, toy_world
from tests.train.toy_bank import toy_bank

CHUNKS_OF_3 = replace(toy_config().memory, latents_per_chunk=3, num_fast=6)


@pytest.mark.parametrize("length", [1, 9, 100])
def test_a_sheet_of_any_length_reaches_the_latent_of_its_figures(length: int, tmp_path: Path):
    world = toy_world(memory=CHUNKS_OF_3, prefix_latents=3)
    figures = rollout_sheet(world, toy_bank(14), rows=2, length=length, path=tmp_path / "sheet.png")
    assert set(figures) == {"psnr_1", "psnr_8", "motion"}
    assert all(math.isfinite(value) for value in figures.values())
    assert (tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize("held_out", [toy_bank(11), toy_bank(14, god=(0,))])
def test_without_a_mortal_episode_long_enough_there_is_no_sheet(held_out: LatentBank, tmp_path: Path):
    world = toy_world(memory=CHUNKS_OF_3, prefix_latents=3)
    with pytest.raises(DatasetError, match="no held-out episode without god mode of at least 12 latents"):
        rollout_sheet(world, held_out, rows=2, length=9, path=tmp_path / "sheet.png")


def test_the_longest_episodes_are_shown_first():
    assert sheet_episodes(toy_world(prefix_latents=2).config, toy_bank(10, 9, 14, 12)) == [2, 3, 0]
