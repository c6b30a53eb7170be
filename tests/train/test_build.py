"""Stages are built from what they read, and refuse what does not fit before anything is trained."""

from pathlib import Path

import pytest

from cfworld.errors import ConfigError
from cfworld.model import ActionConfig
from cfworld.tokenizer import BlockVAE, BlockVAEConfig
from cfworld.train.build import heads_stage, init_stage, run_folder, teacher_stage, tokenizer_stage
from cfworld.train.consistency import InitStageConfig
from cfworld.train.heads import HeadsStageConfig
from cfworld.train.teacher import TeacherStageConfig
from cfworld.train.tokenizer import TokenizerStageConfig
from tests.toy import toy_world
from tests.train.toy_dataset import settings, write_dataset


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return write_dataset("data")


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
    config = TokenizerStageConfig(num_eval_blocks=2)
    _, depends = tokenizer_stage(settings(), config, "cpu")
    assert set(depends) == {"name", "train_data", "eval_data", "tokenizer"}


def test_students_and_heads_begin_with_what_earlier_stages_exported(data: str) -> None:
    world = settings()
    teacher = toy_world(actions=world.actions)
    teacher.tokenizer.save(run_folder(world.name, "tokenizer") / "export")
    teacher.save_pretrained(run_folder(world.name, "teacher") / "export")
    init, depends = init_stage(world, InitStageConfig(min_latents=4, clip_latents=4), "cpu")
    assert init.batch(0).clips.latents.shape[1] == 4
    heads, of_heads = heads_stage(world, HeadsStageConfig(variant="teacher"), "cpu")
    assert heads.batch(0).clips.latents.shape[1] == 40
    assert depends["teacher"] == of_heads["generator"]


def test_a_teacher_on_another_tokenizers_latents_is_refused(data: str) -> None:
    world = settings()
    BlockVAE(world.tokenizer).save(run_folder(world.name, "tokenizer") / "export")
    toy_world(actions=world.actions).save_pretrained(run_folder(world.name, "teacher") / "export")
    with pytest.raises(ConfigError, match="trained with another tokenizer"):
        init_stage(world, InitStageConfig(), "cpu")
