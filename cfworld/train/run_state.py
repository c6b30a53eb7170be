"""Checkpoints of a training run: complete, and whole or not there at all.

A run folder holds `checkpoints/step_<number>/` with `model.safetensors`, `ema.safetensors`, `training.pt`
(optimisers and the stage's extra state, read with `weights_only=True`) and `state.json` (step, minutes, the
configuration). Several processes write `shards/` in place of the safetensors
(`cfworld.train.processes.sharded_state`); either is read by any number of processes. A checkpoint is written into a
hidden folder, flushed to disk and renamed; the one before it is kept.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cfworld.errors import CheckpointError, ConfigError
from cfworld.train.processes.team import ALONE, Team

__all__ = [
    "Progress",
    "check_config",
    "latest_checkpoint",
    "load_checkpoint",
    "read_progress",
    "save_checkpoint",
]

NUM_KEPT = 2
CADENCE = {"steps", "log_every", "save_every", "sample_every", "export_every", "max_minutes"}
SHEETS = {"sheet_rows", "sheet_latents"}
FREE_KEYS = frozenset(CADENCE | SHEETS | {"num_threads", "gradient_checkpointing", "shard"})
LATER_KEYS: Mapping[str, Any] = {
    "spatial_balance": 0.0,
    "resampling.share": 0.0,
    "tokenizer.shortcuts": False,
    "transformer.input_skip": False,
    "score_copies": 1,
    "anchor.weight": 0.0,
}
"""Settings that stages have had since later, and what they are where a checkpoint does not say."""
LATER_GROUPS = ("resampling", "anchor", "world.sampler", "world.frozen", "world.trained_tokenizer")
"""Groups of such settings; the others of a group, which say how, may be any where a checkpoint does not say."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a run has come.

    Attributes:
        step: Steps that were taken.
        minutes: Time spent in training, over all resumed parts.
        config: The configuration under which the checkpoint was written.
    """

    step: int
    minutes: float
    config: Mapping[str, Any]


def save_checkpoint(
    folder: Path,
    progress: Progress,
    module: nn.Module,
    ema_module: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    extra: Mapping[str, Any],
    team: Team = ALONE,
) -> Path:
    """Write a checkpoint beside the others, and remove all but the newest two, and what a kill left half-written.

    A step that was saved already is left as it is: what a run holds after a step is a function of the step.

    Args:
        folder: The run folder.
        progress: Step, time and configuration.
        module: The trained module.
        ema_module: The moving average of its product.
        optimizers: Their states are saved in this order.
        extra: The stage's own state: tensors, numbers, strings, lists and dicts.
        team: The processes that write it together.

    Returns:
        The folder of the step's checkpoint.
    """
    parent = folder / "checkpoints"
    target = parent / f"step_{progress.step:08d}"
    if team.any(target.is_dir()):
        if team.leads:
            _remove_parts(parent)
        return target
    aside = parent / f".{target.name}.part"
    training = {
        "optimizers": [team.optimizer_state(optimizer) for optimizer in optimizers],
        "extra": dict(extra),
    }
    if team.leads:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    team.wait()
    if team.size > 1:
        from cfworld.train.processes.sharded_state import write_shards

        write_shards(aside, {"model": module.state_dict(), "ema": ema_module.state_dict(), **training}, team)
    else:
        save_file(_tensors(module), aside / "model.safetensors")
        save_file(_tensors(ema_module), aside / "ema.safetensors")
        torch.save(training, aside / "training.pt")
    if team.leads:
        _finish(aside, target, progress)
        for old in _checkpoints(folder)[:-NUM_KEPT]:
            shutil.rmtree(old)
        _remove_parts(parent)
    team.wait()
    return target


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint of a run folder, or None."""
    found = _checkpoints(folder)
    return found[-1] if found else None


def read_progress(checkpoint: Path) -> Progress:
    """Read how far the run was when the checkpoint was written."""
    try:
        return Progress(**json.loads((checkpoint / "state.json").read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise _damaged(checkpoint, error) from error


def load_checkpoint(
    checkpoint: Path,
    module: nn.Module,
    ema_module: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    team: Team = ALONE,
    product: str = "",
) -> dict[str, Any]:
    """Restore modules and optimisers in place.

    Args:
        checkpoint: Its folder.
        module: The trained module.
        ema_module: The moving average of its product.
        optimizers: In the order in which they were saved.
        team: The processes that read it together.
        product: Name of the product among the parts of `module`: checkpoints used to hold the average of all parts.

    Returns:
        The stage's extra state.

    Raises:
        CheckpointError: If a file is missing or damaged, or fits other modules.
    """
    try:
        state = _read(checkpoint, team)
        team.load(module, state["model"])
        team.load(ema_module, _part(state["ema"], product))
        for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
            team.load_optimizer(optimizer, kept)
    except Exception as error:  # safetensors, pickle and zip each raise their own kinds
        raise _damaged(checkpoint, error) from error
    return state["extra"]


def check_config(saved: Mapping[str, Any], current: Mapping[str, Any], folder: Path, step: int) -> None:
    """Refuse to resume under another configuration.

    The number of steps, the cadence of logs, saves, samples and exports, the size of sheets, the time limit, the number
    of threads, and what trades memory for time (gradient checkpointing, sharding) may change.

    Args:
        saved: Configuration of the checkpoint.
        current: Configuration of this run.
        folder: The run folder, for the message.
        step: The checkpoint's step; `current["loop"]["steps"]` may not lie below it.

    Raises:
        ConfigError: Names every key that differs.
    """
    before, now = _flat(saved), _flat(json.loads(json.dumps(current)))
    unknown = [group for group in LATER_GROUPS if not any(f".{group}." in f".{key}" for key in before)]
    for key in now.keys() - before.keys():
        if any(f".{group}." in f".{key}" for group in unknown):
            before[key] = now[key]
        for name, value in LATER_KEYS.items():
            if f".{key}".endswith(f".{name}"):
                before[key] = value
    for key in [key for key in before if key not in now]:
        stage, sampler, _ = key.partition("resampling.sampler.")
        if sampler and not before[f"{stage}resampling.share"]:  # contexts of one's own had a sampler once
            del before[key]
    missing = "<not there>"
    differences = [
        f"{key}: {before.get(key, missing)!r} -> {now.get(key, missing)!r}"
        for key in sorted(before.keys() | now.keys())
        if before.get(key, missing) != now.get(key, missing) and key.rpartition(".")[2] not in FREE_KEYS
    ]
    if differences:
        raise ConfigError(
            f"The run in {folder} was started with another configuration ({'; '.join(differences)}). Go back "
            "to it in order to resume, or train in another folder."
        )
    if now.get("loop.steps", step) < step:
        raise ConfigError(
            f"got steps={now['loop.steps']}, but the run in {folder} has taken {step} already; expected at "
            "least as many."
        )


def _checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").glob("step_*"))


def _remove_parts(parent: Path) -> None:
    for part in parent.glob(".step_*.part"):
        shutil.rmtree(part)


def _finish(aside: Path, target: Path, progress: Progress) -> None:
    """Say how far the run has come, and give a checkpoint its name once all of it is on the disk."""
    state = {"step": progress.step, "minutes": progress.minutes, "config": progress.config}
    (aside / "state.json").write_text(json.dumps(state, indent=2))
    for path in [*aside.rglob("*"), aside]:
        _flush(path)
    aside.rename(target)
    _flush(target.parent)


def _read(checkpoint: Path, team: Team) -> dict[str, Any]:
    """Everything that was saved: model, ema, optimizers, extra."""
    if (checkpoint / "shards").is_dir():
        from cfworld.train.processes.sharded_state import read_shards

        return read_shards(checkpoint, team)
    weights = {name: load_file(checkpoint / f"{name}.safetensors") for name in ("model", "ema")}
    return {**weights, **torch.load(checkpoint / "training.pt", map_location="cpu", weights_only=True)}


def _part(weights: Mapping[str, Tensor], name: str) -> Mapping[str, Tensor]:
    """The weights of a part by its own names for them, from those of the whole; or what is the part's already."""
    prefix = f"{name}."
    own = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    return own or weights


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in module.state_dict().items()
    }


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _damaged(checkpoint: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"Cannot resume from {checkpoint}: {type(error).__name__}: {error}. Expected a complete checkpoint "
        "of the same stage; remove this folder to go back to the one before it."
    )
