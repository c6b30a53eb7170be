"""VAE files for Wan's latents: diffusers' folders, the original's file, and tiny ones."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cfworld.errors import CheckpointError, MissingDependencyError
from cfworld.model.tensors import check_tensors
from cfworld.model.wan_files import read_wan_file
from cfworld.tokenizer import TinyVAE, TinyVAEConfig, WanVAE, WanVAEConfig
from cfworld.tokenizer.tiny_vae import tiny_sizes
from cfworld.world.config import config_from_dict

__all__ = ["frame_coder_of", "load_frame_coder"]

_UNSUPPORTED = {"is_residual": False, "patch_size": None, "attn_scales": [], "decoder_base_dim": None}
"""Settings of later VAEs, and what they are in Wan 2.1's."""


def frame_coder_of(
    path: str | Path, resolution: tuple[int, int]
) -> tuple[WanVAEConfig | TinyVAEConfig, dict[str, Tensor]]:
    """The sizes of a VAE, and its tensors by the names of its tokenizer.

    Args:
        path: A folder of `AutoencoderKLWan`, or a pipeline that has one in `vae`; the original's file, Wan2.1_VAE.pth;
            a tiny VAE's file, taew2_1.pth.
        resolution: Height and width of a frame.

    Raises:
        CheckpointError: If there is none, or it is one of another kind.
    """
    path = Path(path)
    if (path / "vae").is_dir():
        path = path / "vae"
    file = read_wan_file(path)
    tensors, size = file.tensors, list(resolution)
    if "decoder.22.weight" in tensors:
        return tiny_sizes(tensors, resolution, file.origin), tensors
    if file.settings:
        return _diffusers_sizes(file.settings, size, file.origin), _inside_tokenizer(tensors)
    if "decoder.middle.0.residual.2.weight" in tensors:
        return WanVAEConfig(resolution=size), _inside_tokenizer(_from_original(tensors))
    raise CheckpointError(
        f"{file.origin} holds no VAE for Wan's latents: got {', '.join(list(tensors)[:3])} ...; expected a folder of "
        "AutoencoderKLWan with its config.json, Wan2.1_VAE.pth, or a tiny VAE such as taew2_1.pth."
    )


def load_frame_coder(
    config: WanVAEConfig | TinyVAEConfig, tensors: Mapping[str, Tensor], origin: str
) -> WanVAE | TinyVAE:
    """The tokenizer with its weights, in float32.

    Raises:
        CheckpointError: If tensors are missing, extra or of another shape.
    """
    tokenizer = config.build()
    check_tensors(type(tokenizer).__name__, tokenizer.state_dict(), tensors, origin)
    tokenizer.load_state_dict(dict(tensors))
    return tokenizer


def _diffusers_sizes(settings: Mapping[str, Any], resolution: list[int], origin: str) -> WanVAEConfig:
    other = {name: settings[name] for name, usual in _UNSUPPORTED.items() if settings.get(name, usual) != usual}
    if other or settings.get("_class_name", "AutoencoderKLWan") != "AutoencoderKLWan":
        raise CheckpointError(
            f"{origin} is a {settings.get('_class_name')} with {other or 'other sizes'}; expected the AutoencoderKLWan "
            "of Wan 2.1."
        )
    known = {entry.name for entry in fields(WanVAEConfig)}
    said = {name: value for name, value in settings.items() if name in known}
    try:
        sizes = config_from_dict(WanVAEConfig, {**said, "resolution": []})
    except CheckpointError as error:
        raise CheckpointError(f"the config.json of {origin} is none of an AutoencoderKLWan: {error}") from error
    return replace(sizes, resolution=resolution)


def _inside_tokenizer(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"vae.{name}": value for name, value in tensors.items()}


def _from_original(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    try:
        from diffusers.loaders.single_file_utils import convert_wan_vae_to_diffusers
    except ImportError as error:
        raise MissingDependencyError.with_hint("Wan's VAE", "diffusers", "wan") from error
    return convert_wan_vae_to_diffusers(tensors)
