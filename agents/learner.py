"""A learner of Stable-Baselines3 over a world, and its checkpoints."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.logger import configure
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import VecMonitor, VecNormalize

from cfworld.agents.config import AgentTrainConfig
from cfworld.agents.policy import ALGORITHMS, POLICIES, acting_space, policy_kwargs
from cfworld.agents.progress import TrainProgress
from cfworld.agents.vec_envs import training_env
from cfworld.errors import CheckpointError, ConfigError
from cfworld.files import write_aside
from cfworld.world import World

__all__ = ["CHECKPOINT_FILE", "check_same", "load_checkpoint", "make_learner", "restore", "save_checkpoint"]

CHECKPOINT_FILE = "checkpoint.pt"


def make_learner(
    config: AgentTrainConfig, world: World, folder: Path, steps: int, schedule: Callable[[Any], float]
) -> OnPolicyAlgorithm:
    """A learner with random weights, in episodes that no other part of the training has seen.

    Args:
        config: how it learns.
        world: where.
        folder: its TensorBoard log goes into `tensorboard/`.
        steps: steps that were taken before.
        schedule: from the share of the training that is left to the learning rate.
    """
    acting_space(world)
    venv = VecNormalize(VecMonitor(training_env(config, world)), norm_obs=False, gamma=config.gamma)
    learner = ALGORITHMS[config.algorithm](
        POLICIES[config.algorithm],
        venv,
        learning_rate=schedule,
        n_steps=config.n_steps,
        batch_size=config.batch_size,
        n_epochs=config.n_epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        ent_coef=config.ent_coef,
        vf_coef=config.vf_coef,
        policy_kwargs=policy_kwargs(config, world),
        seed=int(np.random.SeedSequence((config.seed, steps)).generate_state(1)[0]),
        device=config.device,
    )
    learner.set_logger(configure(str(folder / "tensorboard"), ["tensorboard"]))
    return learner


def save_checkpoint(
    learner: OnPolicyAlgorithm, config: AgentTrainConfig, world: World, progress: TrainProgress, folder: Path
) -> None:
    """Write all that the training needs to go on: weights, optimiser, scale of the rewards, progress, settings."""
    normalised = learner.get_vec_normalize_env()
    assert normalised is not None
    scale = normalised.ret_rms
    content = {
        "parameters": learner.get_parameters(),
        "rewards": {"mean": float(scale.mean), "var": float(scale.var), "count": float(scale.count)},
        "progress": progress.as_dict(),
        "settings": _settings(config, world),
    }
    with write_aside(folder / CHECKPOINT_FILE) as aside:
        torch.save(content, aside)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what `save_checkpoint` wrote.

    Raises:
        CheckpointError: if the file is damaged, or something else.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return {name: content[name] for name in ("parameters", "rewards", "progress", "settings")}
    except Exception as error:
        raise CheckpointError(f"{path} is no checkpoint of an agent ({error}); choose another out=") from error


def check_same(config: AgentTrainConfig, world: World, settings: dict[str, Any], folder: Path) -> None:
    """What goes on is the training that was begun.

    Args:
        config: how it is to go on.
        world: where. Other weights make another world; what began in another precision, or before fingerprints were
            kept, may go on in any.
        settings: a checkpoint's.
        folder: where it lies.

    Raises:
        ConfigError: if a setting is another one, of those that make a training what it is.
    """
    for name, value in _settings(config, world).items():
        if name.startswith(_FINGERPRINT) and name not in settings:
            continue
        if value != settings.get(name):
            raise ConfigError(
                f"got {name}={value}; the training in {folder} began with {name}={settings.get(name)}: expected the "
                "same, or another out="
            )


def _settings(config: AgentTrainConfig, world: World) -> dict[str, Any]:
    """Those that may not change while a training goes on, as plain values, and the world's weights among them."""
    settings = asdict(config)
    foresight = settings.pop("foresight")
    settings |= {f"foresight.{name}": value for name, value in foresight.items()}
    flat = {name: str(value) for name, value in settings.items()}
    kept = {name: value for name, value in flat.items() if name not in _FREE and not name.startswith("eval_")}
    precision = next(world.generator.transformer.parameters()).dtype
    return kept | {f"{_FINGERPRINT} in {precision}": world.fingerprint}


def restore(learner: OnPolicyAlgorithm, checkpoint: dict[str, Any]) -> None:
    """Put a checkpoint's weights, optimiser and scale of rewards into a learner."""
    learner.set_parameters(checkpoint["parameters"])
    normalised = learner.get_vec_normalize_env()
    assert normalised is not None
    for name, value in checkpoint["rewards"].items():
        setattr(normalised.ret_rms, name, np.float64(value))
    learner.num_timesteps = checkpoint["progress"]["steps"]


_FREE = {"total_steps", "max_minutes", "max_ratio", "patience", "save_every", "device", "out", "processes"}
"""How long, how it is judged, and where it computes."""
_FINGERPRINT = "the world's fingerprint"
"""It is another in another precision, which follows from the device where nobody chooses it."""
