"""From settings and datasets to stages: which stages there are, and what each one reads."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cfworld.configs.schema import WorldSettings
from cfworld.data import EpisodeStore
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


def tokenizer_stage(world: WorldSettings, config: TokenizerStageConfig, device: str) -> tuple[Stage, dict[str, Any]]:
    """Read the frames of both datasets."""
    train, held_out = (
        FrameBank.read(EpisodeStore.open(path), world.frames_per_latent, config.max_gigabytes, config.loop.seed)
        for path in (world.train_data, world.eval_data)
    )
    depends = {name: config_to_dict(world)[name] for name in ("name", "train_data", "eval_data", "tokenizer")}
    return TokenizerStage(config, world.tokenizer, train, held_out, device), depends


def teacher_stage(world: WorldSettings, config: TeacherStageConfig, device: str) -> tuple[Stage, dict[str, Any]]:
    """Read the latents of both datasets, encoding them with the world's trained tokenizer if that is still to do."""
    tokenizer = BlockVAE.load(run_folder(world.name, "tokenizer") / "export")
    train, held_out = (_latents(world, path, tokenizer, device) for path in (world.train_data, world.eval_data))
    stage = TeacherStage(config, world.world_config(), tokenizer, train, held_out, device)
    return stage, _without_inference_settings(config_to_dict(world))


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


def _latents(world: WorldSettings, data: str, tokenizer: BlockVAE, device: str) -> LatentBank:
    store = EpisodeStore.open(data)
    digest = hashlib.sha256()
    for tensor in tokenizer.state_dict().values():
        digest.update(tensor.float().numpy().tobytes())
    digest.update(f"{Path(data).resolve()} {store.lengths.tolist()}".encode())
    cache = Path("runs") / world.name / "latents" / f"{Path(data).name}-{digest.hexdigest()[:12]}.safetensors"
    return encode_store(store, tokenizer, cache, tokenizer.latent_mean.new_empty(0).to(device).device)
