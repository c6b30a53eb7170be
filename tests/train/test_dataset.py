"""A dataset that does not fit its world is refused; its latents are kept under a name that says whose they are."""

import shutil
from pathlib import Path

import pytest
import torch

from cfworld.errors import DatasetError
from cfworld.model import ActionConfig
from cfworld.tokenizer import BlockVAE
from cfworld.train.dataset import latent_cache, open_dataset
from tests.train.toy_dataset import TICKS, settings, write_dataset


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return write_dataset("data")


def test_a_dataset_of_the_same_frames_and_actions_is_taken(data: str) -> None:
    assert open_dataset(settings(), data).lengths.tolist() == [TICKS]


def test_frames_of_another_size_are_refused(data: str) -> None:
    world = settings()
    world.tokenizer.resolution = [32, 64]
    with pytest.raises(DatasetError, match=r"are 64x64; expected tokenizer.resolution \[32, 64\]"):
        open_dataset(world, data)


@pytest.mark.parametrize("actions", [ActionConfig(num_actions=2), ActionConfig(low=[-1.0], high=[1.0])])
def test_actions_of_another_kind_or_number_are_refused(data: str, actions: ActionConfig) -> None:
    with pytest.raises(DatasetError, match="make them agree"):
        open_dataset(settings(actions=actions), data)


@pytest.mark.parametrize("change", [{"seed": 1}, {"policy": "asleep"}])
def test_another_dataset_of_the_same_lengths_in_the_same_place_has_other_latents(data: str, change: dict) -> None:
    world = settings()
    tokenizer = BlockVAE(world.tokenizer)

    def cache() -> Path:
        return latent_cache(world, data, open_dataset(world, data), tokenizer)

    before = cache()
    shutil.rmtree(data)
    write_dataset(data)
    assert cache() == before
    shutil.rmtree(data)
    write_dataset(data, **change)
    assert cache() != before


def test_another_tokenizer_has_other_latents(data: str) -> None:
    world = settings()
    store = open_dataset(world, data)
    assert len({latent_cache(world, data, store, BlockVAE(world.tokenizer)) for _ in range(2)}) == 2


def test_another_decoder_has_the_same_latents(data: str) -> None:
    world = settings()
    store = open_dataset(world, data)
    tokenizer = BlockVAE(world.tokenizer)
    before = latent_cache(world, data, store, tokenizer)
    with torch.no_grad():
        tokenizer.last_weight.add_(1.0)
    assert latent_cache(world, data, store, tokenizer) == before
