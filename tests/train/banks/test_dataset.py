"""A dataset that does not fit its world is refused; its latents are kept under a name that says whose they are."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cfworld.errors import ConfigError, DatasetError
from cfworld.model import ActionConfig
from cfworld.tokenizer import BlockVAE
from cfworld.train.banks.dataset import latent_cache, open_dataset, open_datasets
from cfworld.train.build import tokenizer_stage
from cfworld.train.tokenizer import TokenizerStageConfig
from tests.data.test_lerobot_reader import write_v2
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


def test_the_highest_action_need_not_occur_where_actions_were_counted(tmp_path: Path) -> None:
    camera = {"dtype": "image", "shape": [64, 64, 3], "names": None}
    features = {"camera": camera, "action": {"dtype": "int64", "shape": [1], "names": None}}
    write_v2(tmp_path / "v2", features, {"action": [0, 1, 0]})
    open_dataset(settings(actions=ActionConfig(num_actions=3)), str(tmp_path / "v2"))
    with pytest.raises(DatasetError, match=r"are Discrete\(2\), but"):
        open_dataset(settings(actions=ActionConfig(num_actions=1)), str(tmp_path / "v2"))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"policy": "asleep"},
        {"rewards": np.ones(TICKS, np.float32)},
        {"actions": np.zeros((TICKS, 2), np.float32)},
        {"frames": np.zeros((TICKS + 1, 64, 64, 3), np.uint8)},
        {"terminated": True},
    ],
)
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


def test_a_dataset_that_was_copied_into_its_place_has_the_same_latents(data: str) -> None:
    world = settings()
    tokenizer = BlockVAE(world.tokenizer)
    before = latent_cache(world, data, open_dataset(world, data), tokenizer)
    shutil.copytree(data, "copy", copy_function=shutil.copyfile)
    shutil.rmtree(data)
    Path("copy").rename(data)
    assert latent_cache(world, data, open_dataset(world, data), tokenizer) == before


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


RECORDED = Path(__file__).parents[2] / "data" / "lerobot_v3"
"""Three episodes that LeRobot itself recorded: two continuous actions, 64x64."""


def test_without_held_out_data_the_last_of_every_so_many_episodes_is_held_out() -> None:
    world = replace(settings(f"lerobot:{RECORDED}"), eval_data="", held_out=0.5)
    train, held_out = open_datasets(world)
    assert (train.metadata["episodes"], held_out.metadata["episodes"]) == ([0, 2], [1])
    train, held_out = open_datasets(replace(world, held_out=0.1))  # a tenth of three would be none
    assert (train.metadata["episodes"], held_out.metadata["episodes"]) == ([0, 1], [2])


def test_both_sides_of_a_dataset_have_latents_of_their_own() -> None:
    world = replace(settings(str(RECORDED)), eval_data="", held_out=0.5)
    tokenizer = BlockVAE(world.tokenizer)
    caches = {latent_cache(world, world.train_data, store, tokenizer) for store in open_datasets(world)}
    assert len(caches) == 2


def test_one_episode_is_not_divided(data: str) -> None:
    with pytest.raises(DatasetError, match="holds one episode; expected at least two"):
        open_datasets(replace(settings(data), eval_data=""))


def test_a_share_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="held_out=1"):
        replace(settings(), held_out=1.0)


def test_what_is_held_out_is_part_of_a_run_only_if_it_is_drawn_from_the_training_data(data: str) -> None:
    world = settings(str(RECORDED))
    stage = TokenizerStageConfig()
    _, depends = tokenizer_stage(world, stage, "cpu")
    assert "held_out" not in depends
    _, depends = tokenizer_stage(replace(world, eval_data="", held_out=0.5), stage, "cpu")
    assert depends["held_out"] == 0.5
