"""From settings and datasets to stages: which stages there are, and what each one reads."""

from collections.abc import Callable, Collection
from dataclasses import is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from cfworld.configs.schema import WorldSettings
from cfworld.errors import ConfigError, UnknownWorldError
from cfworld.prompts import ActionKind
from cfworld.prompts.encoded_text import EncodedTextPrompts
from cfworld.prompts.umt5 import UMT5Texts
from cfworld.rollout import SamplerConfig
from cfworld.tokenizer import Tokenizer
from cfworld.tokenizer.block_vae_files import read_block_vae
from cfworld.train.banks.dataset import latent_folder, open_datasets, read_latents
from cfworld.train.banks.encoded_texts import keep_features
from cfworld.train.banks.frame_bank import FrameBank
from cfworld.train.banks.latent_bank import LatentBank
from cfworld.train.banks.recorded_actions import measured
from cfworld.train.consistency import InitStage, InitStageConfig
from cfworld.train.context import ContextStage, ContextStageConfig
from cfworld.train.distillation.distill import DistillConfig
from cfworld.train.exports import check_tokenizer, encoding_name, load_for_training, weights_name
from cfworld.train.heads import HeadsStage, HeadsStageConfig
from cfworld.train.local import LocalStage, LocalStageConfig
from cfworld.train.processes.team import ALONE, Team
from cfworld.train.rollout_sheet import sheet_episodes
from cfworld.train.stage import Stage
from cfworld.train.teacher import TeacherStage, TeacherStageConfig
from cfworld.train.tokenizer import TokenizerStage, TokenizerStageConfig
from cfworld.world import World, config_to_dict
from cfworld.world.pretrained import content_of, is_world, load_config, load_text_encoder, load_tokenizer

__all__ = ["STAGES", "like_imported", "run_folder"]

Builder = Callable[[WorldSettings, Any, str, Team], tuple[Stage, dict[str, Any]]]
"""(world, stage settings, device, team) -> (stage, the settings of the world that the run depends on)."""


def run_folder(world: str, stage: str) -> Path:
    """Where the runs of a stage lie."""
    return Path("runs") / world / stage


IMPORTED = ("fps", "actions", "opening", "tokenizer", "wan_vae", "tiny_vae", "transformer")
"""What a world takes from the one that it is imported from."""


def like_imported(world: WorldSettings, given: Collection[str] = ()) -> WorldSettings:
    """The settings with what `imported` says in its place.

    Args:
        world: The settings.
        given: Those of them that somebody set, as in `fps` or `transformer.depth`, be it to their defaults.

    Raises:
        UnknownWorldError: If there is no such world.
        ConfigError: If something is given, or set to other than its default, that the imported world says otherwise.
    """
    if not world.imported:
        return world
    try:
        config = load_config(world.imported)
    except UnknownWorldError as error:
        raise UnknownWorldError(
            f"there is no world at world.imported={world.imported!r} to train on; make one with `cfworld import-wan "
            f"out={world.imported}`."
        ) from error
    taken: dict[str, Any] = {name: getattr(config, name) for name in IMPORTED}
    usual = WorldSettings(name=world.name)
    odd = [name for name in IMPORTED if getattr(world, name) not in (getattr(usual, name), taken[name])]
    odd += [key for key in given if _head(key) in set(IMPORTED).difference(odd) and _at(world, key) != _at(config, key)]
    if odd:
        raise ConfigError(
            f"got settings of world.{', world.'.join(odd)} beside world.imported={world.imported!r}, which says "
            "otherwise; expected none: leave them out, or import a world that has them."
        )
    return replace(world, **taken, trained_tokenizer=world.trained_tokenizer or world.imported)


def _head(key: str) -> str:
    return key.partition(".")[0]


def _at(settings: Any, key: str) -> Any:
    """What stands under a key, or under as much of it as leads through dataclasses."""
    for name in key.split("."):
        if not is_dataclass(settings):
            break
        settings = getattr(settings, name)
    return settings


def tokenizer_stage(
    world: WorldSettings, config: TokenizerStageConfig, device: str, team: Team = ALONE
) -> tuple[Stage, dict[str, Any]]:
    """Read the frames of both datasets."""
    if world.frame_coder is not world.tokenizer:
        raise ConfigError("Wan's VAE and tiny ones are not trained here. Begin with stage=teacher.")
    del team  # nothing is kept of what is read
    train, held_out = (
        FrameBank.read(store, world.frames_per_latent, config.max_gigabytes, config.loop.seed)
        for store in open_datasets(world)
    )
    read = ("name", "train_data", "eval_data", "held_out", "image_key", "tokenizer")
    depends = {name: value for name, value in _given(world).items() if name in read}
    return TokenizerStage(config, world.tokenizer, train, held_out, device), depends


def teacher_stage(
    world: WorldSettings, config: TeacherStageConfig, device: str, team: Team = ALONE
) -> tuple[Stage, dict[str, Any]]:
    """Read the latents of both datasets, encoding them with the world's trained tokenizer if that is still to do."""
    tokenizer = _trained_tokenizer(world)
    config = replace(config, init_from=config.init_from or world.imported)
    encoder = load_text_encoder(config.init_from, device) if config.init_from else None
    train, held_out = _banks(world, tokenizer, device, team, encoder)
    if config.init_from:
        actions = world.actions.with_statistics_of(load_config(config.init_from).actions)
    else:
        actions = measured(world.actions, train.actions)
    settings = replace(world.world_config(), actions=actions)
    sheet_episodes(settings, held_out)  # refused now, not at the first sheet
    depends = {**_without_inference_settings(_given(world)), "actions": actions.settings()}
    depends["trained_tokenizer"] = {"encoder": encoding_name(tokenizer)}
    if config.resampling.share:
        depends["sampler"] = _of(world.sampler, "solver", "num_steps", "shift")
    if world.imported:
        depends["imported"] = content_of(world.imported)
    return TeacherStage(config, settings, tokenizer, train, held_out, device, encoder), depends


def init_stage(
    world: WorldSettings, config: InitStageConfig, device: str, team: Team = ALONE
) -> tuple[Stage, dict[str, Any]]:
    """Read the teacher, and the latents that it was trained on."""
    load = partial(load_for_training, config=world.world_config(), device=device, shown=world.memory)
    teacher = load(_export(world, config.teacher, "teacher"), "teacher")
    student = load(config.student, "student") if config.student else None
    tokenizer = _trained_tokenizer(world)
    depends = {**_without_inference_settings(_given(world)), "teacher": weights_name(teacher)}
    check_tokenizer(teacher, tokenizer)
    if student:
        check_tokenizer(student, tokenizer)
        depends["student"] = weights_name(student)
    encoders = [_encoder_of(part) for part in (teacher, student) if part]
    train, held_out = _banks(world, tokenizer, device, team, *encoders)
    sheet_episodes(teacher.config, held_out)  # refused now, not at the first sheet
    return InitStage(config, teacher, train, held_out, student), depends


def local_stage(
    world: WorldSettings, config: LocalStageConfig, device: str, team: Team = ALONE
) -> tuple[Stage, dict[str, Any]]:
    """Read the teacher, the initialised student, and the latents that rollouts begin with."""
    parts, depends = _distilled(world, config, "init", device, team)
    return LocalStage(config, *parts), depends


def context_stage(
    world: WorldSettings, config: ContextStageConfig, device: str, team: Team = ALONE
) -> tuple[Stage, dict[str, Any]]:
    """Read the teacher, the student of Stage 1, and the latents that rollouts begin with."""
    parts, depends = _distilled(world, config, "local", device, team)
    return ContextStage(config, *parts), depends


def heads_stage(
    world: WorldSettings, config: HeadsStageConfig, device: str, team: Team = ALONE
) -> tuple[Stage, dict[str, Any]]:
    """Read the world whose heads are to be trained, and the latents of both datasets."""
    folder = _export(world, config.student, "context" if config.variant == "student" else "teacher")
    frozen = load_for_training(folder, config.variant, world.world_config(), device, shown=None)
    tokenizer = _trained_tokenizer(world)
    check_tokenizer(frozen, tokenizer)
    depends = {**_without_inference_settings(_given(world)), "generator": weights_name(frozen)}
    memory = _without_inference_memory(config_to_dict(frozen.config.memory))
    depends["frozen"] = {"sampler": _of(frozen.sampler, "num_steps", "shift"), "memory": memory}
    return HeadsStage(config, frozen, *_banks(world, tokenizer, device, team)), depends


def _distilled(
    world: WorldSettings, config: DistillConfig, before: str, device: str, team: Team
) -> tuple[tuple[World, World, LatentBank, LatentBank], dict[str, Any]]:
    """Teacher, student and latents; rollouts decide on promotions, so that the run depends on how."""
    load = partial(load_for_training, config=world.world_config(), device=device)
    teacher = load(_export(world, config.teacher, "teacher"), "teacher", shown=config.score_memory.of(world.memory))
    student = load(_export(world, config.student, before), "student", shown=config.student_memory.of(world.memory))
    tokenizer = _trained_tokenizer(world)
    for part in (teacher, student):
        check_tokenizer(part, tokenizer)
    depends = {**_without_inference_settings(_given(world)), "memory": config_to_dict(world.memory)}
    depends |= {"teacher": weights_name(teacher), "student": weights_name(student)}
    train, held_out = _banks(world, tokenizer, device, team, _encoder_of(teacher), _encoder_of(student))
    sheet_episodes(teacher.config, held_out)  # refused now, not at the first sheet
    return (teacher, student, train, held_out), depends


def _export(world: WorldSettings, given: str, stage: str) -> Path:
    """The folder that an earlier stage exported to."""
    return Path(given) if given else run_folder(world.name, stage) / "export"


def _trained_tokenizer(world: WorldSettings) -> Tokenizer:
    """That of a world, or what `stage=tokenizer` exported."""
    folder = _export(world, world.trained_tokenizer, "tokenizer")
    if is_world(world.trained_tokenizer):
        tokenizer, found = load_tokenizer(world.trained_tokenizer), load_config(world.trained_tokenizer).frame_coder
    else:
        tokenizer = read_block_vae(folder)
        found = tokenizer.config
    if found != world.frame_coder:
        raise ConfigError(
            f"The tokenizer in {folder} was trained as {found}, but the world asks for {world.frame_coder}. Go back to "
            "its settings, or train a tokenizer for the new ones."
        )
    return tokenizer


def _banks(
    world: WorldSettings, tokenizer: Tokenizer, device: str, team: Team, *encoders: UMT5Texts | None
) -> tuple[LatentBank, LatentBank]:
    """The latents to learn from, and those of held-out episodes; encoders get to know the texts of both."""
    looks_texts_up = world.actions.kind is ActionKind.TEXT and not world.actions.text.learned
    if looks_texts_up and None in encoders:
        raise ConfigError(
            "The world's texts are encoded by a UMT5, and the folder that this begins with has none. Import it again "
            "with text_encoder."
        )
    names = (world.train_data, world.eval_data or world.train_data)
    stores = open_datasets(world)
    train, held_out = (
        read_latents(world, data, store, tokenizer, device, team=team)
        for data, store in zip(names, stores, strict=True)
    )
    if looks_texts_up:
        for encoder in filter(None, encoders):
            keep_features(encoder, {*stores[0].texts, *stores[1].texts}, latent_folder(world), team)
    return train, held_out


def _encoder_of(world: World) -> UMT5Texts | None:
    """The UMT5 that looks a world's texts up."""
    prompts = world.generator.prompts
    encoder = prompts.encoder if isinstance(prompts, EncodedTextPrompts) else None
    return encoder if isinstance(encoder, UMT5Texts) else None


STAGES: dict[str, tuple[type[Any], Builder]] = {
    "tokenizer": (TokenizerStageConfig, tokenizer_stage),
    "teacher": (TeacherStageConfig, teacher_stage),
    "init": (InitStageConfig, init_stage),
    "local": (LocalStageConfig, local_stage),
    "context": (ContextStageConfig, context_stage),
    "heads": (HeadsStageConfig, heads_stage),
}
"""Schema and builder of each stage, by its name; `configs/stage/<name>.yaml` holds its settings."""


INFERENCE_MEMORY = ("consolidate_every", "rule", "threshold", "centred", "target_rate", "adaptation")


def _without_inference_settings(world: dict[str, Any]) -> dict[str, Any]:
    """What training does not depend on may change before a finished run is exported again."""
    kept = {name: value for name, value in world.items() if name not in ("sampler", "ends", "horizon_frames")}
    return {**kept, "memory": _without_inference_memory(world["memory"])}


def _without_inference_memory(memory: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in memory.items() if name not in INFERENCE_MEMORY}


def _of(sampler: SamplerConfig, *names: str) -> dict[str, Any]:
    """Those settings of a sampler that training depends on."""
    return {name: value for name, value in config_to_dict(sampler).items() if name in names}


def _given(world: WorldSettings) -> dict[str, Any]:
    """The settings of a world; what is not set or used, names of actions and where its parts lie are left out."""
    places = ("trained_tokenizer", "imported")
    values = {name: value for name, value in config_to_dict(world).items() if name not in places}
    values["actions"] = world.actions.settings()
    unused = {"held_out"} if world.eval_data else set()
    unused |= set() if world.image_key else {"image_key"}
    return {name: value for name, value in values.items() if name not in unused}
