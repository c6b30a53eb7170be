"""Stages are built from what they read, and refuse what does not fit before anything is trained."""

import warnings
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cfworld import World
from cfworld.cli.train import Paradigm
from cfworld.configs.schema import WorldSettings
from cfworld.errors import ConfigError, DatasetError
from cfworld.memory import MemoryConfig, Positions, PromotionRule
from cfworld.model import ActionConfig
from cfworld.rollout import SamplerConfig
from cfworld.tokenizer import BlockVAE, BlockVAEConfig
from cfworld.tokenizer.block_vae_files import read_block_vae, write_block_vae
from cfworld.train.build import (
    context_stage,
    heads_stage,
    init_stage,
    local_stage,
    run_folder,
    teacher_stage,
    tokenizer_stage,
)
from cfworld.train.consistency import InitStage, InitStageConfig
from cfworld.train.context import ContextStageConfig
from cfworld.train.distillation.distill import DistillStage, Shown
from cfworld.train.erft import ErftConfig
from cfworld.train.forcing.resampling import ResamplingConfig
from cfworld.train.heads import HeadsStageConfig
from cfworld.train.local import LocalStageConfig
from cfworld.train.run_state import check_config
from cfworld.train.stage import Stage
from cfworld.train.teacher import TeacherStageConfig
from cfworld.train.tokenizer import TokenizerStageConfig
from tests.toy import toy_config, toy_world
from tests.train.toy_dataset import settings, write_dataset


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    return write_dataset("data")


def test_a_tokenizer_of_other_settings_is_refused_before_the_teacher_is_trained(data: str) -> None:
    world = settings()
    other = BlockVAEConfig(latent_channels=4, widths=[32, 16, 16], encoder_depths=[1, 1, 1], decoder_depths=[1, 1, 1])
    write_block_vae(BlockVAE(other), run_folder(world.name, "tokenizer") / "export")
    with pytest.raises(ConfigError, match="was trained as"):
        teacher_stage(world, TeacherStageConfig(), "cpu")


def test_data_without_an_episode_for_the_sheets_is_refused_before_the_teacher_is_trained(data: str) -> None:
    world = settings(prefix_latents=6)
    write_block_vae(BlockVAE(world.tokenizer), run_folder(world.name, "tokenizer") / "export")
    for stage, variant in (("teacher", "teacher"), ("init", "student"), ("local", "student")):
        exported(world, variant, world.memory, run_folder(world.name, stage) / "export")
    for build, config in (
        (teacher_stage, TeacherStageConfig(min_latents=4, clip_latents=4)),
        (init_stage, InitStageConfig(min_latents=4, clip_latents=4)),
        (local_stage, LocalStageConfig(min_latents=8, num_targets=2)),
        (context_stage, ContextStageConfig(min_latents=8)),
    ):
        with pytest.raises(DatasetError, match="no held-out episode without god mode of at least 14 latents"):
            build(world, config, "cpu")  # pyright: ignore[reportArgumentType]


def test_the_teacher_takes_actions_up_to_the_bounds(data: str) -> None:
    world = settings()
    write_block_vae(BlockVAE(world.tokenizer), run_folder(world.name, "tokenizer") / "export")
    stage, _ = teacher_stage(world, TeacherStageConfig(min_latents=4, clip_latents=4), "cpu")
    assert stage.batch(0).clips.actions.shape[-1] == 2


def test_actions_beyond_the_bounds_are_refused_before_the_teacher_is_trained(data: str) -> None:
    world = settings(actions=ActionConfig(low=[-1.0, 0.0], high=[1.0, 1.9]))
    write_block_vae(BlockVAE(world.tokenizer), run_folder(world.name, "tokenizer") / "export")
    with pytest.raises(ConfigError, match="Widen these bounds"):
        teacher_stage(world, TeacherStageConfig(), "cpu")


def test_runs_depend_on_an_image_key_only_if_one_is_set(data: str) -> None:
    config = TokenizerStageConfig(num_eval_blocks=2)
    _, depends = tokenizer_stage(settings(), config, "cpu")
    assert set(depends) == {"name", "train_data", "eval_data", "tokenizer"}


def test_students_and_heads_begin_with_what_earlier_stages_exported(data: str) -> None:
    world = settings()
    teacher = toy_world(actions=world.actions)
    _save_tokenizer(teacher, run_folder(world.name, "tokenizer") / "export")
    teacher.save_pretrained(run_folder(world.name, "teacher") / "export")
    init, depends = init_stage(world, InitStageConfig(min_latents=4, clip_latents=4), "cpu")
    assert init.batch(0).clips.latents.shape[1] == 4
    heads, of_heads = heads_stage(world, HeadsStageConfig(variant="teacher", erft=ErftConfig(max_sigma=1.0)), "cpu")
    assert heads.batch(0).clips.latents.shape[1] == 40
    assert depends["teacher"] == of_heads["generator"]


def test_a_teacher_on_another_tokenizers_latents_is_refused(data: str) -> None:
    world = settings()
    write_block_vae(BlockVAE(world.tokenizer), run_folder(world.name, "tokenizer") / "export")
    toy_world(actions=world.actions).save_pretrained(run_folder(world.name, "teacher") / "export")
    with pytest.raises(ConfigError, match="trained with another tokenizer"):
        init_stage(world, InitStageConfig(), "cpu")


def test_a_student_on_another_tokenizers_latents_is_refused(data: str) -> None:
    world = settings()
    teacher, student = toy_world(actions=world.actions), toy_world(actions=world.actions)
    student.variant, student.tokenizer = "student", BlockVAE(world.tokenizer)
    _save_tokenizer(teacher, run_folder(world.name, "tokenizer") / "export")
    teacher.save_pretrained(run_folder(world.name, "teacher") / "export")
    student.save_pretrained("student")
    with pytest.raises(ConfigError, match="The student of toy was trained with another tokenizer"):
        init_stage(world, InitStageConfig(student="student", min_latents=4, clip_latents=4), "cpu")
    with pytest.raises(ConfigError, match="The student of toy was trained with another tokenizer"):
        local_stage(world, LocalStageConfig(student="student", min_latents=4), "cpu")


def test_a_run_of_init_depends_on_the_student_that_it_is_given(data: str) -> None:
    world = settings()
    for seed, variant in enumerate(("teacher", "student")):
        made = toy_world(seed=seed, actions=world.actions)
        made.variant, made.tokenizer = variant, toy_world().tokenizer
        made.save_pretrained(run_folder(world.name, variant) / "export")
    _save_tokenizer(toy_world(), run_folder(world.name, "tokenizer") / "export")
    config = InitStageConfig(min_latents=4, clip_latents=4)
    assert "student" not in init_stage(world, config, "cpu")[1]
    config.student = str(run_folder(world.name, "student") / "export")
    depends = init_stage(world, config, "cpu")[1]
    assert depends["student"] != depends["teacher"]


def test_stages_1_and_2_begin_with_what_the_stages_before_exported(data: str) -> None:
    """The student of `init` begins Stage 1, that of `local` Stage 2; both are held against the same teacher."""
    world = settings()
    tokenizer = BlockVAE(world.tokenizer)
    write_block_vae(tokenizer, run_folder(world.name, "tokenizer") / "export")
    for seed, (name, variant) in enumerate((("teacher", "teacher"), ("init", "student"), ("local", "student"))):
        made = toy_world(seed=seed, actions=world.actions)
        made.variant, made.tokenizer = variant, tokenizer
        made.save_pretrained(run_folder(world.name, name) / "export")
    first, depends = local_stage(world, LocalStageConfig(min_latents=4, num_targets=2), "cpu")
    second, _ = context_stage(world, ContextStageConfig(min_latents=4), "cpu")
    for stage, seed in ((first, 1), (second, 2)):
        assert isinstance(stage, DistillStage)
        expected = toy_world(seed=seed, actions=world.actions).generator.transformer.patch_embedding.weight
        assert torch.equal(stage.student.transformer.patch_embedding.weight, expected.bfloat16().float())
    assert depends["memory"]["threshold"] == world.memory.threshold, "rollouts decide by it"


def _save_tokenizer(world: World, folder: Path) -> None:
    assert isinstance(world.tokenizer, BlockVAE)
    write_block_vae(world.tokenizer, folder)


def exported(world: WorldSettings, variant: str, memory: MemoryConfig, folder: Path) -> None:
    """A network that was trained with a memory."""
    made = toy_world(actions=world.actions, memory=memory, prefix_latents=world.prefix_latents)
    made.variant, made.tokenizer = variant, read_block_vae(run_folder(world.name, "tokenizer") / "export")
    made.save_pretrained(folder)


def begun(memory: MemoryConfig, *, trained: MemoryConfig, paradigm: Paradigm | None = None) -> Stage:
    """Stage 1 under a paradigm, or `init` without one, with networks that were trained with some memory."""
    world = settings(memory=memory)
    write_block_vae(BlockVAE(world.tokenizer), run_folder(world.name, "tokenizer") / "export")
    for name, variant in (("teacher", "teacher"), ("init", "student")):
        exported(world, variant, trained, run_folder(world.name, name) / "export")
    if paradigm is None:
        return init_stage(world, InitStageConfig(min_latents=4, clip_latents=4), "cpu")[0]
    return local_stage(world, LocalStageConfig(min_latents=4, num_targets=1, **asdict(paradigm)), "cpu")[0]


FULL = toy_config().memory
FAST = replace(FULL, num_sink=0, num_slow=0)
WIDE = replace(FULL, num_slow=0, num_fast=6)


@pytest.mark.parametrize(
    "changes", [{"latents_per_chunk": 2}, {"positions": Positions.ABSOLUTE}, {"num_sink": 0}, {"num_slow": 0}]
)
def test_a_teacher_is_not_shown_what_it_never_learned_to_read(data: str, changes: dict[str, Any]) -> None:
    trained = replace(FULL, **changes)
    for paradigm in (None, Paradigm()):
        with pytest.raises(ConfigError, match=r"The teacher in .* trained with .*, but this stage shows it num_sink=1"):
            begun(FULL, trained=trained, paradigm=paradigm)


@pytest.mark.parametrize("memory", [FAST, WIDE])
def test_baselines_of_other_sizes_are_distilled_from_the_full_teacher_with_a_warning(
    data: str, memory: MemoryConfig
) -> None:
    both = rf"num_slow=2, num_fast=4.* shows it num_sink={memory.num_sink}, num_slow=0, num_fast={memory.num_fast}"
    with pytest.warns(UserWarning, match=both) as told:
        stage = begun(memory, trained=FULL)
    assert len(told) == 1
    assert isinstance(stage, InitStage)
    assert stage.teacher.config.memory == memory


@pytest.mark.parametrize("trained", [FULL, FAST])
def test_what_counts_is_what_a_paradigm_shows_and_cadence_and_rule_are_free(data: str, trained: MemoryConfig) -> None:
    """A teacher of fast memory alone is the short score of a world with more; a full one may be shown its fast part."""
    often = replace(FULL, consolidate_every=1, rule=PromotionRule.UNIFORM)
    paradigm = Paradigm(score_memory=Shown.WINDOW, student_memory=Shown.WINDOW)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        stage = begun(often, trained=trained, paradigm=paradigm)
    assert len([warning for warning in told if "was trained with" in str(warning.message)]) == (
        2 if trained == FULL else 0
    )
    assert isinstance(stage, DistillStage)
    assert stage.machine.score_memory.num_slots == FAST.num_slots


def test_a_teacher_that_makes_its_own_contexts_depends_on_how_it_samples_them(data: str) -> None:
    depends = []
    for share in (0.0, 0.5):
        world = settings(sampler=SamplerConfig(num_steps=3, shift=2.0, guidance=4.0))
        write_block_vae(BlockVAE(world.tokenizer), run_folder(world.name, "tokenizer") / "export")
        config = TeacherStageConfig(min_latents=4, clip_latents=4, resampling=ResamplingConfig(share=share))
        depends.append(teacher_stage(world, config, "cpu")[1])
    assert "sampler" not in depends[0]
    assert depends[1]["sampler"] == {"solver": "euler", "num_steps": 3, "shift": 2.0}, "guidance is left out there"


def test_a_teacher_depends_on_the_weights_that_encode_and_not_on_the_decoder(data: str, tmp_path: Path) -> None:
    """The tokenizer's run may be prolonged, which gives latents that mean something else to the teacher."""
    world = settings()
    tokenizer = BlockVAE(world.tokenizer)
    depends = []
    for changed in (None, tokenizer.decoder, tokenizer.encoder):
        with torch.no_grad():
            for weights in changed.parameters() if changed else ():
                weights += 0.1
        write_block_vae(tokenizer, run_folder(world.name, "tokenizer") / "export")
        depends.append(teacher_stage(world, TeacherStageConfig(min_latents=4, clip_latents=4), "cpu")[1])
    begun, sharpened, prolonged = ({"world": part} for part in depends)
    check_config(begun, sharpened, tmp_path, 0)
    with pytest.raises(ConfigError, match=r"another configuration \(world\.trained_tokenizer\.encoder: "):
        check_config(begun, prolonged, tmp_path, 0)


def test_heads_depend_on_the_memory_and_the_steps_of_the_world_that_they_read(data: str) -> None:
    world = settings()
    teacher = toy_world(actions=world.actions, memory=FAST, sampler=SamplerConfig(num_steps=3, shift=2.0))
    _save_tokenizer(teacher, run_folder(world.name, "tokenizer") / "export")
    teacher.save_pretrained(run_folder(world.name, "teacher") / "export")
    config = HeadsStageConfig(variant="teacher", erft=ErftConfig(max_sigma=1.0))
    frozen = heads_stage(world, config, "cpu")[1]["frozen"]
    assert frozen["sampler"] == {"num_steps": 3, "shift": 2.0}
    assert (frozen["memory"]["num_sink"], frozen["memory"]["num_fast"]) == (0, 4)
    assert "threshold" not in frozen["memory"]


@pytest.mark.parametrize("group", ["sampler", "frozen", "trained_tokenizer"])
def test_a_run_that_did_not_know_what_it_depends_on_goes_on_and_one_that_did_is_held_to_it(
    tmp_path: Path, group: str
) -> None:
    def config(steps: int | None) -> dict[str, Any]:
        return {"world": {"name": "toy"} | ({} if steps is None else {group: {"num_steps": steps}})}

    check_config(config(None), config(3), tmp_path, 0)
    check_config(config(3), config(3), tmp_path, 0)
    with pytest.raises(ConfigError, match=rf"world\.{group}\.num_steps: 3 -> 4"):
        check_config(config(3), config(4), tmp_path, 0)
