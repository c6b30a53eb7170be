"""From settings and datasets to stages: which stages there are, and what each one reads."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from gymnasium import spaces

from cfworld.configs.schema import WorldSettings
from cfworld.data import EpisodeStore
from cfworld.errors import ConfigError, DatasetError
from cfworld.tokenizer import BlockVAE
from cfworld.train.frame_bank import FrameBank
from cfworld.train.latent_bank import LatentBank, encode_store
from cfworld.train.loop import Stage
from cfworld.train.teacher import TeacherStage, TeacherStageConfig
from cfworld.train.tokenizer import TokenizerStage, TokenizerStageConfig
from cfworld.world import config_to_dict

__all__ = ["STAGES", "run_folder"]

Builder = Callable[[WorldSettings, Any, str], tuple[Stage, dict[str, Any]]]
"""(world, stage settings, device) -> (stage, the settings of the world that the run depends on)."""


def run_folder(world: str, stage: str) -> Path:
    """Where the runs of a stage lie."""
    return Path("runs") / world / stage


def open_dataset(world: WorldSettings, data: str) -> EpisodeStore:
    """Open a dataset of a world, before anything is trained on it.

    Args:
        world: What the dataset must fit.
        data: Folder or Minari id.

    Raises:
        DatasetError: If there is no such dataset, or its frames or actions are not the world's.
    """
    store = EpisodeStore.open(data, image_key=world.image_key)
    size = list((store.observation_space.shape or ())[:2])
    if size != world.tokenizer.resolution:
        raise DatasetError(
            f"The frames of {data!r} are {size[0]}x{size[1]}; expected tokenizer.resolution "
            f"{world.tokenizer.resolution}. Set it, and transformer.latent_size, to what the dataset holds, or scale "
            "the dataset."
        )
    space, actions = store.action_space, world.actions
    if isinstance(space, spaces.Discrete):
        fits = space.n == actions.num_actions
    else:
        fits = not actions.num_actions and space.shape == (len(actions.low),)
    if not fits:
        raise DatasetError(
            f"The actions of {data!r} are {space}, but the world's are num_actions={actions.num_actions}, "
            f"low={actions.low}, high={actions.high}; make them agree (num_actions: 0 for continuous ones)."
        )
    return store


def tokenizer_stage(world: WorldSettings, config: TokenizerStageConfig, device: str) -> tuple[Stage, dict[str, Any]]:
    """Read the frames of both datasets."""
    stores = [open_dataset(world, path) for path in (world.train_data, world.eval_data)]
    train, held_out = (
        FrameBank.read(store, world.frames_per_latent, config.max_gigabytes, config.loop.seed) for store in stores
    )
    read = ("name", "train_data", "eval_data", "image_key", "tokenizer")
    depends = {name: value for name, value in _given(world).items() if name in read}
    return TokenizerStage(config, world.tokenizer, train, held_out, device), depends


def teacher_stage(world: WorldSettings, config: TeacherStageConfig, device: str) -> tuple[Stage, dict[str, Any]]:
    """Read the latents of both datasets, encoding them with the world's trained tokenizer if that is still to do."""
    folder = run_folder(world.name, "tokenizer") / "export"
    tokenizer = BlockVAE.load(folder)
    if tokenizer.config != world.tokenizer:
        raise ConfigError(
            f"The tokenizer in {folder} was trained as {tokenizer.config}, but the world asks for "
            f"{world.tokenizer}. Go back to its settings, or train a tokenizer for the new ones."
        )
    stores = {data: open_dataset(world, data) for data in (world.train_data, world.eval_data)}
    train, held_out = (
        _latents(world, data, stores[data], tokenizer, device) for data in (world.train_data, world.eval_data)
    )
    stage = TeacherStage(config, world.world_config(), tokenizer, train, held_out, device)
    return stage, _without_inference_settings(_given(world))


STAGES: dict[str, tuple[type[Any], Builder]] = {
    "tokenizer": (TokenizerStageConfig, tokenizer_stage),
    "teacher": (TeacherStageConfig, teacher_stage),
}
"""Schema and builder of each stage, by its name; `configs/stage/<name>.yaml` holds its settings."""


INFERENCE_MEMORY = ("consolidate_every", "rule", "threshold", "centred", "target_rate", "adaptation")


def _without_inference_settings(world: dict[str, Any]) -> dict[str, Any]:
    """What training does not depend on may change before a finished run is exported again."""
    kept = {name: value for name, value in world.items() if name not in ("sampler", "ends", "horizon_frames")}
    memory = {name: value for name, value in world["memory"].items() if name not in INFERENCE_MEMORY}
    return {**kept, "memory": memory}


def _latents(world: WorldSettings, data: str, store: EpisodeStore, tokenizer: BlockVAE, device: str) -> LatentBank:
    digest = hashlib.sha256()
    for tensor in tokenizer.state_dict().values():
        digest.update(tensor.float().numpy().tobytes())
    digest.update(f"{Path(data).resolve()} {store.lengths.tolist()}{world.image_key or ''}".encode())
    cache = Path("runs") / world.name / "latents" / f"{Path(data).name}-{digest.hexdigest()[:12]}.safetensors"
    bank = encode_store(store, tokenizer, cache, tokenizer.latent_mean.new_empty(0).to(device).device)
    if not world.actions.num_actions:
        _check_bounds(world, bank, data)
    return bank


def _check_bounds(world: WorldSettings, bank: LatentBank, data: str) -> None:
    low, high = (torch.tensor(bound) for bound in (world.actions.low, world.actions.high))
    lowest, highest = bank.actions.flatten(0, 1).aminmax(dim=0)
    if bool((lowest < low).any() or (highest > high).any()):
        raise ConfigError(
            f"The actions of {data!r} reach from {lowest.tolist()} to {highest.tolist()}; expected them within "
            f"actions.low={world.actions.low} and actions.high={world.actions.high}. Widen these bounds."
        )


def _given(world: WorldSettings) -> dict[str, Any]:
    """The settings of a world; without `image_key` where it is not set, as in runs that began before there was one."""
    return {name: value for name, value in config_to_dict(world).items() if name != "image_key" or value}
