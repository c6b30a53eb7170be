"""A dataset that does not fit its world is refused before anything is trained on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from cfworld.configs.schema import WorldSettings
from cfworld.data import Episode, StoreWriter
from cfworld.errors import ConfigError, DatasetError
from cfworld.model import ActionConfig
from cfworld.tokenizer import BlockVAE, BlockVAEConfig
from cfworld.train.build import open_dataset, run_folder, teacher_stage, tokenizer_stage
from cfworld.train.teacher import TeacherStageConfig
from cfworld.train.tokenizer import TokenizerStageConfig
from tests.toy import toy_config

TICKS = 48
BOX = ActionConfig(low=[-1.0, 0.0], high=[1.0, 2.0])


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """One episode of 64x64 frames; its actions reach from (-1, 0) to (1, 2)."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    actions = rng.uniform((-1, 0), (1, 2), (TICKS, 2)).astype(np.float32)
    actions[0], actions[1] = (-1, 0), (1, 2)
    episode = Episode(
        frames=rng.integers(0, 255, (TICKS + 1, 64, 64, 3), np.uint8),
        actions=actions,
        rewards=np.zeros(TICKS, np.float32),
        terminated=False,
        truncated=True,
        seed=0,
        source="toy",
        policy="random",
    )
    writer = StoreWriter(
        Path("data"),
        observation_space=spaces.Box(0, 255, (64, 64, 3), np.uint8),
        action_space=spaces.Box(np.array([-1, 0], np.float32), np.array([1, 2], np.float32)),
        source="toy",
    )
    writer.publish([writer.write_shard(0, 0, [episode])])
    return "data"


def settings(data: str = "data", **changes: Any) -> WorldSettings:
    toy = toy_config(**{"actions": BOX, **changes})
    values = {name: getattr(toy, name) for name in toy.__slots__}
    return WorldSettings(**values, train_data=data, eval_data=data)


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


def test_a_tokenizer_of_other_settings_is_refused_before_the_teacher_is_trained(data: str) -> None:
    world = settings()
    other = BlockVAEConfig(latent_channels=4, widths=[32, 16, 16], encoder_depths=[1, 1, 1], decoder_depths=[1, 1, 1])
    BlockVAE(other).save(run_folder(world.name, "tokenizer") / "export")
    with pytest.raises(ConfigError, match="was trained as"):
        teacher_stage(world, TeacherStageConfig(), "cpu")


def test_the_teacher_takes_actions_up_to_the_bounds(data: str) -> None:
    world = settings()
    BlockVAE(world.tokenizer).save(run_folder(world.name, "tokenizer") / "export")
    stage, _ = teacher_stage(world, TeacherStageConfig(min_latents=4, clip_latents=4), "cpu")
    assert stage.batch(0).clips.actions.shape[-1] == 2


def test_actions_beyond_the_bounds_are_refused_before_the_teacher_is_trained(data: str) -> None:
    world = settings(actions=ActionConfig(low=[-1.0, 0.0], high=[1.0, 1.9]))
    BlockVAE(world.tokenizer).save(run_folder(world.name, "tokenizer") / "export")
    with pytest.raises(ConfigError, match="Widen these bounds"):
        teacher_stage(world, TeacherStageConfig(), "cpu")


def test_runs_depend_on_an_image_key_only_if_one_is_set(data: str) -> None:
    """So runs that began before there was such a key can be resumed."""
    config = TokenizerStageConfig(num_eval_blocks=2)
    _, depends = tokenizer_stage(settings(), config, "cpu")
    assert set(depends) == {"name", "train_data", "eval_data", "tokenizer"}
