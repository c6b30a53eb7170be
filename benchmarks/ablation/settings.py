"""What a run depends on besides its arguments: settings in files, datasets, tokenizer, and weights to begin with."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.ablation.config import STAGES, AblationConfig
from cfworld.cli import common
from cfworld.cli.train import TrainConfig, register_schemas
from cfworld.metrics.evaluation import EvaluateConfig
from cfworld.train.build import run_folder

__all__ = ["SCORED", "check_overrides", "composed", "depends", "folder_digest"]

SCORED = ("local", "context")
"""Stages that follow scores."""

_READ_WHOLE = 2**25
"""Larger files are told apart by their size alone."""
_GROUPS = ("stage", "world", "memory", "model", "paradigm")


@cache
def composed(*overrides: str) -> Mapping[str, Any]:
    """The settings of `cfworld train` under overrides.

    Raises:
        HydraException: if there is no such setting.
    """
    register_schemas()
    return common.composed("train", TrainConfig, *overrides)


def check_overrides(config: AblationConfig) -> None:
    """Compose what a user adds to the commands, once for each stage, so that no run fails by a misspelt name.

    Raises:
        HydraException: if there is no such setting, or it takes no such value.
    """
    for stage in STAGES:
        composed(f"stage={stage}", f"world={config.world}", *config.overrides_of(stage))
    common.composed("evaluate", EvaluateConfig, *config.evaluate, *config.continuation)


def depends(arguments: Sequence[str]) -> str:
    """A digest of all that a run depends on: its arguments, and what they find in files.

    Args:
        arguments: of `cfworld`, without the folder that it writes to. Exports of runs of the ablation are known by
            the names of their folders, which are such digests themselves.
    """
    command, *overrides = arguments
    if command == "train":
        found = _training(tuple(text for text in overrides if text.partition("=")[0] in _GROUPS), overrides)
    else:
        found = {"settings": _evaluation()}
    text = json.dumps({"arguments": list(arguments), **found}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _training(groups: tuple[str, ...], overrides: Sequence[str]) -> dict[str, Any]:
    """Settings before the overrides of single keys, which are among the arguments, and what lies in the folders."""
    settings = composed(*groups)
    world = settings["world"]
    given = dict(text.split("=", 1) for text in overrides if "=" in text)
    folders = {key: given.get(f"world.{key}") or world[key] for key in ("train_data", "eval_data")}
    folders["tokenizer"] = (
        given.get("world.trained_tokenizer")
        or world["trained_tokenizer"]
        or str(run_folder(world["name"], "tokenizer") / "export")
    )
    folders["init_from"] = given.get("stage.init_from", "")
    folders |= {"data": given.get("data", ""), "imported": given.get("world.imported") or world["imported"]}
    return {
        "settings": settings,
        "folders": {name: folder_digest(_without_kind(folder)) for name, folder in folders.items() if folder},
    }


def _without_kind(dataset: str) -> str:
    """The folder of a dataset whose kind may be told before it."""
    return dataset.removeprefix("lerobot:").removeprefix("minari:")


@cache
def _evaluation() -> Mapping[str, Any]:
    return common.composed("evaluate", EvaluateConfig)


@cache
def folder_digest(folder: str) -> str:
    """A digest of a folder's files; empty where there is none, as for a world of the zoo or a Minari id."""
    if not Path(folder).is_dir():
        return ""
    digest = hashlib.sha256()
    for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        if size <= _READ_WHOLE:
            digest.update(path.read_bytes())
    return digest.hexdigest()
