"""What earlier stages exported, loaded for the next one and held against its settings."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cfworld.advice import advise
from cfworld.errors import ConfigError
from cfworld.memory import MemoryConfig
from cfworld.rollout import SamplerConfig, Solver
from cfworld.tokenizer import Tokenizer
from cfworld.world import World, WorldConfig

__all__ = ["check_sampler", "check_shown", "check_tokenizer", "encoding_name", "load_for_training", "weights_name"]

ESSENTIAL = ("prefix_latents", "actions", "tokenizer", "transformer")
"""What weights and starts depend on."""
FIXED, SIZES = ("latents_per_chunk", "positions"), ("num_sink", "num_slow", "num_fast")
"""Settings of a memory by which a network reads it: what must stay as it was trained, and what had better do so."""


def load_for_training(
    folder: str | Path,
    variant: str,
    config: WorldConfig,
    device: torch.device | str,
    *,
    shown: MemoryConfig | None,
) -> World:
    """Load the world that a stage begins with, in float32, with the memory and the ends that `config` asks for.

    Args:
        folder: What an earlier stage exported.
        variant: "teacher" or "student".
        config: The world as the settings have it now.
        device: Where it goes.
        shown: What the stage shows it of the past, which must fit what it was trained with; None to leave it the memory
            that it was exported with, which a paradigm may have made smaller.

    Raises:
        UnknownWorldError: If there is no such folder.
        ConfigError: If it holds a world of other actions, starts, tokenizer or transformer, or `shown` does not fit.

    Warns:
        UserWarning: If `shown` has other sizes than it was trained with.
    """
    world = World.from_pretrained(folder, variant=variant, device=device, precision="fp32")
    config = replace(config, actions=config.actions.with_statistics_of(world.config.actions))
    differs = [name for name in ESSENTIAL if _described(world.config, name) != _described(config, name)]
    if differs:
        raise ConfigError(
            f"The {variant} in {folder} has {_named(world.config, differs)}, but the settings ask for "
            f"{_named(config, differs)}. Go back to its settings, or train a teacher for the new ones."
        )
    if shown:
        check_shown(world.config.memory, shown, variant, folder)
    memory = config.memory if shown else world.config.memory
    world.config = replace(config, sampler=world.config.sampler, memory=memory)
    return world


def check_shown(trained: MemoryConfig, shown: MemoryConfig, variant: str, folder: str | Path) -> None:
    """Hold the memory that a stage shows a network against the one that it was trained with (docs/adr/0003).

    Another length of chunks or another kind of positions is refused: to the network the latents would lie elsewhere
    than it learned. So are sink or slow slots for a teacher that never had any, since it stays as it is. Other sizes
    may be meant, as those of a baseline with a window or without slow memory, to which a student can get used, and are
    only warned of. Cadence and rule of promotion are free.

    Args:
        trained: What it was exported with.
        shown: What the stage shows it.
        variant: "teacher" or "student".
        folder: Where it comes from.

    Raises:
        ConfigError: If it cannot read what it is shown.

    Warns:
        UserWarning: If the sizes differ.
    """
    both = f"The {variant} in {folder} was trained with {_sizes(trained)}, but this stage shows it {_sizes(shown)}"
    new = [name for name in ("num_sink", "num_slow") if getattr(shown, name) and not getattr(trained, name)]
    if any(getattr(trained, name) != getattr(shown, name) for name in FIXED) or (variant == "teacher" and new):
        raise ConfigError(
            f"{both}. It has not learned to read that: go back to its world.memory, show it less by a paradigm, or "
            "train a teacher for the new one."
        )
    if any(getattr(trained, name) != getattr(shown, name) for name in SIZES):
        advise(f"{both}. If no such baseline is meant, go back to its world.memory.")


def weights_name(world: World) -> str:
    """What tells a world's weights from others, whatever its settings are: a digest of its generator."""
    return _digest(world.generator.state_dict().values())


def encoding_name(tokenizer: Tokenizer) -> str:
    """What tells a tokenizer's latents from those of others: a digest of what encodes, as worlds keep it, in bfloat16.

    Its decoder may be trained on without another name.
    """
    return _digest(tensor.bfloat16() for tensor in tokenizer.encoding_state().values())


def _digest(tensors: Iterable[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


def check_tokenizer(world: World, tokenizer: Tokenizer) -> None:
    """Refuse latents of another tokenizer than a world's own.

    Raises:
        ConfigError: If the world was trained on another tokenizer's latents.
    """
    if encoding_name(world.tokenizer) != encoding_name(tokenizer):
        raise ConfigError(
            f"The {world.variant} of {world.config.name} was trained with another tokenizer than the one that is to "
            "encode the data, whose latents would mean something else to it. Train a teacher on the new tokenizer, or "
            "bring the old one back."
        )


def check_sampler(student: World, sampler: SamplerConfig) -> None:
    """Refuse to roll a few-step student out at other noise levels than those that it was distilled for.

    Args:
        student: Where a stage begins.
        sampler: How the stage would have it denoise a chunk.

    Raises:
        ConfigError: If it is a few-step student of another sampler.
    """
    own = student.sampler
    if own.solver is Solver.FEW_STEP and (own.num_steps, own.shift) != (sampler.num_steps, sampler.shift):
        raise ConfigError(
            f"The student of {student.config.name} was distilled for num_steps={own.num_steps}, shift={own.shift}, but "
            f"the stage has num_steps={sampler.num_steps}, sigma_shift={sampler.shift}, and would export it so. Give "
            f"stage.num_steps={own.num_steps} stage.sigma_shift={own.shift:g}, and a stage.score_shift that fits them, "
            "or distil it for other steps by stage=init first."
        )


def _described(config: WorldConfig, name: str) -> Any:
    described = {"actions": config.actions.settings(), "tokenizer": config.frame_coder}
    return described[name] if name in described else getattr(config, name)


def _named(config: WorldConfig, names: list[str]) -> str:
    return ", ".join(f"{name}={_described(config, name)}" for name in names)


def _sizes(memory: MemoryConfig) -> str:
    return ", ".join(f"{name}={getattr(memory, name)}" for name in (*SIZES, *FIXED))
