"""Loading and saving worlds by zoo name or folder."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cfworld.errors import CheckpointError, ConfigError, UnknownWorldError
from cfworld.model import Generator
from cfworld.model.tensors import check_tensors
from cfworld.precision import fast_precision
from cfworld.prompts.encoded_text import EncodedTextPrompts
from cfworld.prompts.umt5 import UMT5Texts
from cfworld.rollout import SamplerConfig
from cfworld.tokenizer import Tokenizer
from cfworld.world.checkpoint import (
    CONFIG_FILE,
    TEXT_ENCODER,
    read_manifest,
    read_tensors,
    remove_unnamed,
    write_manifest,
    write_tensors,
)
from cfworld.world.config import WorldConfig, config_from_dict, config_to_dict
from cfworld.world.device import usable_device
from cfworld.world.novelty_file import read_novelty, write_novelty
from cfworld.world.start import EncodedStarts
from cfworld.world.text_encoder import open_text_encoder, save_text_encoder
from cfworld.world.world import World

__all__ = [
    "content_of",
    "find_world",
    "is_world",
    "load_config",
    "load_text_encoder",
    "load_tokenizer",
    "load_world",
    "save_world",
    "set_dtype",
    "variants_of",
    "weights_dtype",
    "zoo_names",
]


def zoo_names() -> list[str]:
    """Worlds that ship with the package."""
    zoo = resources.files("cfworld.zoo")
    return sorted(folder.name for folder in zoo.iterdir() if folder.is_dir() and (folder / CONFIG_FILE).is_file())


def find_world(name_or_path: str | Path) -> Path:
    """The folder of a zoo name or path.

    Raises:
        UnknownWorldError: If there is no such world, or this is neither a name nor a path.
    """
    if not isinstance(name_or_path, str | PathLike) or not str(name_or_path):
        raise UnknownWorldError(
            f"got {name_or_path!r} as a world; expected a world of the zoo ({', '.join(zoo_names()) or 'empty'}), the "
            "folder of a checkpoint, or, where an environment is made, a World."
        )
    if str(name_or_path) in zoo_names():
        return Path(str(resources.files("cfworld.zoo") / str(name_or_path)))
    path = Path(name_or_path)
    try:
        if path.is_dir():
            return path
    except OSError as error:
        raise UnknownWorldError(
            f"cannot look for a world at {str(name_or_path)[:80]!r}: {error.strerror}. Give its name or its folder."
        ) from error
    raise UnknownWorldError(
        f"there is no world {str(name_or_path)!r}: it is neither in the zoo ({', '.join(zoo_names()) or 'empty'}) nor "
        "a folder. Check the name, or train a world of your own, as docs/your-own-world.md says, and give the folder "
        "that comes out, runs/NAME/teacher/export."
    )


def load_world(
    name_or_path: str | Path, variant: str | None, device: str | torch.device, precision: str | None
) -> World:
    """Read a world; see `World.from_pretrained`."""
    folder = find_world(name_or_path)
    device = usable_device(device)
    manifest = read_manifest(folder)
    variants = manifest["variants"]
    chosen = ("student" if "student" in variants else "teacher") if variant is None else variant
    if not isinstance(chosen, str) or chosen not in variants:
        raise CheckpointError(f"{folder} has no variant {chosen!r}; it has {sorted(variants)}.")
    config = config_from_dict(WorldConfig, manifest["world"])
    config = replace(config, sampler=config_from_dict(SamplerConfig, variants[chosen]["sampler"]))
    dtype = weights_dtype(precision, device)
    tokenizer = _tokenizer(config, manifest, folder)
    generator = Generator(config.actions, config.transformer)
    _load(generator, read_tensors(folder, variants[chosen]["files"]), folder)
    if (encoder := _text_encoder(config, manifest, folder, device, dtype)) is not None:
        generator.prompts.use_encoder(encoder)
    set_dtype(dtype, tokenizer, generator)
    starts = _starts(config, tokenizer, read_tensors(folder, manifest["starts"]), folder)
    novelty = read_novelty(folder, variants[chosen].get("novelty"), config.transformer)
    return World(config, tokenizer, generator, starts, variant=chosen, device=device, novelty=novelty)


def _starts(config: WorldConfig, tokenizer: Tokenizer, tensors: Mapping[str, Tensor], folder: Path) -> EncodedStarts:
    if tensors.keys() != {"latents", "actions", "seeds"}:
        raise CheckpointError(
            f"got starts of {sorted(tensors)} in {folder}; expected latents, actions and seeds. Export the world again."
        )
    starts = EncodedStarts(**tensors)
    expected = config.prefix_latents, *tokenizer.latent_shape
    if len(starts) and tuple(starts.latents.shape[1:]) != expected:
        raise CheckpointError(
            f"got starts of latents {list(starts.latents.shape[1:])} in {folder}; expected {list(expected)}, as its "
            "config.json has it. Export the world again."
        )
    return starts


def is_world(name_or_path: str) -> bool:
    """Whether this is a world: a name in the zoo, or a folder that `save_world` wrote."""
    if name_or_path in zoo_names():
        return True
    file = Path(name_or_path) / CONFIG_FILE
    try:
        return file.is_file() and "schema_version" in file.read_text(encoding="utf-8")
    except OSError:
        return False


def load_config(name_or_path: str | Path) -> WorldConfig:
    """What a world is, without its weights.

    Raises:
        UnknownWorldError: If there is no such world.
        CheckpointError: If it is damaged.
    """
    return config_from_dict(WorldConfig, read_manifest(find_world(name_or_path))["world"])


def load_tokenizer(name_or_path: str | Path) -> Tokenizer:
    """A world's tokenizer, in float32 on the CPU; see `load_config`."""
    folder = find_world(name_or_path)
    manifest = read_manifest(folder)
    return _tokenizer(config_from_dict(WorldConfig, manifest["world"]), manifest, folder).float().eval()


def load_text_encoder(name_or_path: str | Path, device: str | torch.device) -> UMT5Texts | None:
    """The encoder of texts that a world brings along, read when the first text comes; see `load_config`."""
    folder, device = find_world(name_or_path), usable_device(device)
    manifest = read_manifest(folder)
    config = config_from_dict(WorldConfig, manifest["world"])
    return _text_encoder(config, manifest, folder, device, weights_dtype(None, device))


def variants_of(name_or_path: str | Path) -> list[str]:
    """Which of "student" and "teacher" a world has; see `load_config`."""
    return sorted(read_manifest(find_world(name_or_path))["variants"])


def content_of(name_or_path: str | Path) -> str:
    """Digest of all that a world's folder holds: weights, tokenizer, encoder of texts; see `load_config`."""
    manifest = read_manifest(find_world(name_or_path))
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:12]


def save_world(world: World, folder: Path) -> None:
    """Write a world; see `World.save_pretrained`.

    Weights are stored in bfloat16, the starts' latents in float16; the tokenizer's statistics stay float32. A UMT5
    that encodes the world's texts is stored too, and what other variants brought along stays; another encoder is to be
    given again. What the folder held can be loaded until the new manifest, written last, takes its place.

    Raises:
        CheckpointError: If the path is no folder, its other variants are of another world, or the world's weights were
            brought into 8 bits.
    """
    if world.fp8:
        raise CheckpointError(
            "got a world whose linear layers compute in 8 bits, which is no format of a checkpoint; save it before, or "
            "load it again without fp8 and save that."
        )
    prompts = world.generator.prompts
    encoder = prompts.encoder if isinstance(prompts, EncodedTextPrompts) else None
    if isinstance(encoder, UMT5Texts):
        encoder.load()  # before anything is written: it may turn out to be none
    tokenizer = _narrow(world.tokenizer)
    starts = {
        "latents": world.starts.latents.half(),
        "actions": world.starts.actions,
        "seeds": world.starts.seeds,
    }
    _make_folder(folder)
    before = read_manifest(folder) if (folder / CONFIG_FILE).is_file() else {"variants": {}}
    others = {name: variant for name, variant in before["variants"].items() if name != world.variant}
    if before["variants"] and before["world"]["name"] != world.config.name:
        raise CheckpointError(
            f"{folder} holds the world {before['world']['name']!r}; got {world.config.name!r} to save there, which "
            "would take its place. Save it elsewhere, or remove the folder first."
        )
    if others:
        _check_same_world(folder, before, {"world": world.config, "tokenizer": tokenizer, "starts": starts})
    variant = {
        "sampler": config_to_dict(world.config.sampler),
        "files": write_tensors(folder, world.variant, _narrow(world.generator)),
    }
    if world.novelty is not None:
        variant["novelty"] = write_novelty(folder, world.variant, world.novelty)
    manifest: dict[str, Any] = {
        "world": config_to_dict(world.config),
        "variants": {**others, world.variant: variant},
        "tokenizer": write_tensors(folder, "tokenizer", tokenizer),
        "starts": write_tensors(folder, "starts", starts),
    }
    if isinstance(encoder, UMT5Texts):
        manifest[TEXT_ENCODER] = save_text_encoder(folder, encoder)
    elif others and TEXT_ENCODER in before:
        manifest[TEXT_ENCODER] = before[TEXT_ENCODER]
    write_manifest(folder, manifest)
    remove_unnamed(folder, manifest)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise CheckpointError(f"{folder} is, or lies in, a file; a world needs a folder. Save it elsewhere.") from error


def _check_same_world(folder: Path, manifest: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Refuse to put a variant beside those of another world."""
    before, now = (
        {**config_to_dict(config), "sampler": None, "actions": config.actions.settings()}
        for config in (config_from_dict(WorldConfig, manifest["world"]), new["world"])
    )
    differs = [f"world.{name}" for name in now if before[name] != now[name]]
    for name in ("tokenizer", "starts"):
        stored, tensors = read_tensors(folder, manifest[name]), new[name]
        same = stored.keys() == tensors.keys() and all(torch.equal(stored[n], tensors[n].cpu()) for n in tensors)
        differs += [] if same else [name]
    if differs:
        raise CheckpointError(
            f"{folder} holds variants {sorted(manifest['variants'])} of a world that differs in {', '.join(differs)}; "
            "expected the same world, apart from its sampler. Save to another folder."
        )


def weights_dtype(precision: str | None, device: torch.device) -> torch.dtype:
    """What the weights of a world are kept and multiplied in; see `World.from_pretrained`.

    Raises:
        ConfigError: If the precision is unknown.
    """
    if precision not in (None, "bf16", "fp32"):
        raise ConfigError(f"got precision {precision!r}; expected 'bf16', 'fp32', or nothing for the faster one.")
    return torch.bfloat16 if (precision or fast_precision(device)) == "bf16" else torch.float32


def set_dtype(dtype: torch.dtype, tokenizer: nn.Module, generator: Generator) -> None:
    """Bring the weights into it; buffers, such as a tokenizer's statistics, stay as they are."""
    for module in (tokenizer, generator.transformer, generator.heads):
        for parameter in module.parameters():
            parameter.data = parameter.data.to(dtype)


def _narrow(module: nn.Module) -> dict[str, Tensor]:
    buffers = {name for name, _ in module.named_buffers()}
    return {
        name: value if name in buffers or not value.is_floating_point() else value.bfloat16()
        for name, value in module.state_dict().items()
    }


def _tokenizer(config: WorldConfig, manifest: Mapping[str, Any], folder: Path) -> Tokenizer:
    tokenizer = config.frame_coder.build()
    _load(tokenizer, read_tensors(folder, manifest["tokenizer"]), folder)
    return tokenizer


def _text_encoder(
    config: WorldConfig, manifest: Mapping[str, Any], folder: Path, device: torch.device, dtype: torch.dtype
) -> UMT5Texts | None:
    if TEXT_ENCODER not in manifest:
        return None
    return open_text_encoder(folder, manifest[TEXT_ENCODER], config.actions.text.tokens, device, dtype)


def _load(module: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    try:
        check_tensors(f"{type(module).__name__} of its {CONFIG_FILE}", module.state_dict(), tensors, str(folder))
    except CheckpointError as error:
        raise CheckpointError(f"{error} The folder mixes two checkpoints; copy or save it again.") from error
    module.load_state_dict(tensors)
