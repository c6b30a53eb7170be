"""Wan's weights into our transformer and out of it."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from cfworld.errors import CheckpointError, ConfigError
from cfworld.files import write_aside, write_json
from cfworld.model.config import TransformerConfig
from cfworld.model.tensors import check_tensors, some
from cfworld.model.transformer import Transformer
from cfworld.model.wan_files import WanFile, read_wan_file
from cfworld.model.wan_layouts import WanLayout, from_layout, layout_of, to_layout

__all__ = ["load_wan_transformer", "save_wan_transformer", "wan_sizes"]

HEAD_DIM = 128
"""Width of a head in every Wan that was published; tensors do not tell it."""
PATCH = 2
"""Height and width of a patch in every Wan."""
_SAID = {
    "dim": "dim",
    "num_layers": "depth",
    "num_heads": "num_heads",
    "num_attention_heads": "num_heads",
    "attention_head_dim": "head_dim",
    "ffn_dim": "ffn_dim",
    "freq_dim": "freq_dim",
    "text_dim": "prompt_dim",
    "in_dim": "in_channels",
    "in_channels": "in_channels",
    "out_dim": "in_channels",
    "out_channels": "in_channels",
}
"""Sizes as config.json calls them, and as we do."""
_USUAL: dict[str, tuple[Any, ...]] = {
    "patch_size": ([1, PATCH, PATCH],),
    "window_size": ([-1, -1],),
    "qk_norm": ("rms_norm_across_heads", True),
    "cross_attn_norm": (True,),
    "model_type": ("t2v",),
    "added_kv_proj_dim": (None,),
    "image_dim": (None,),
}
"""Other settings of config.json, and what they are in every Wan 2.1 of texts."""


def load_wan_transformer(
    path: str | Path, latent_size: tuple[int, int], *, part: str | None = None, num_heads: int | None = None
) -> Transformer:
    """A transformer with the weights of a checkpoint, its sizes read off the tensors.

    Args:
        path: See `read_wan_file`.
        latent_size: Height and width of a latent.
        part: Which network of a training checkpoint; see `read_wan_file`.
        num_heads: Attention heads; None takes what the checkpoint's config.json says, or else heads of width 128.

    Returns:
        The transformer, on the CPU, in the numbers of the checkpoint, without gradients.

    Raises:
        CheckpointError: If the checkpoint cannot be read, or tensors are missing, extra or of another shape.
    """
    file = read_wan_file(path, part)
    layout = layout_of(file.tensors)
    if layout is None:
        raise CheckpointError(
            f"{file.origin} holds no transformer of Wan: got {some(file.tensors)}; expected names such as "
            "'blocks.0.self_attn.q.weight' or 'blocks.0.attn1.to_q.weight'."
        )
    tensors = from_layout(file.tensors, layout)
    config = wan_sizes(tensors, latent_size, _heads_of(file) if num_heads is None else num_heads, file.origin)
    config = _as_said(config, file)
    with torch.device("meta"):
        transformer = Transformer(config)
    wanted = to_layout(transformer.state_dict(), layout, config.in_channels, (PATCH, PATCH))
    check_tensors("Transformer of Wan", wanted, file.tensors, file.origin)
    transformer.load_state_dict(tensors, assign=True)
    return transformer.requires_grad_(False).eval()


def save_wan_transformer(transformer: Transformer, folder: str | Path, layout: WanLayout | str) -> None:
    """Write a transformer as Wan's or diffusers' own: diffusion_pytorch_model.safetensors and config.json.

    Raises:
        ConfigError: If it is no Wan: prompts go through one layer only, or noisy latents straight to the velocity.
    """
    config, layout, folder = transformer.config, WanLayout(layout), Path(folder)
    if config.prompt_layers != 2:
        raise ConfigError("got a transformer whose prompts go through one layer; expected one that was made from Wan.")
    if config.input_skip:
        raise ConfigError("got a transformer with an input_skip, which Wan has not; expected one without.")
    ph, pw = config.patch_size
    state = {name: value.detach().cpu() for name, value in transformer.state_dict().items()}
    with write_aside(folder / "diffusion_pytorch_model.safetensors") as aside:
        save_file(to_layout(state, layout, config.in_channels, (ph, pw)), aside, metadata={"format": "pt"})
    if layout is WanLayout.ORIGINAL:
        sizes = {"dim": config.dim, "num_heads": config.num_heads, "in_dim": config.in_channels}
        sizes |= {"out_dim": config.in_channels, "text_len": 512, "model_type": "t2v", "_class_name": "WanModel"}
    else:
        sizes = {"num_attention_heads": config.num_heads, "attention_head_dim": config.head_dim}
        sizes |= {"in_channels": config.in_channels, "out_channels": config.in_channels, "patch_size": [1, ph, pw]}
        sizes |= {"text_dim": config.prompt_dim, "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads"}
        sizes |= {"_class_name": "WanTransformer3DModel"}
    sizes |= {"ffn_dim": config.ffn_dim, "freq_dim": config.freq_dim, "num_layers": config.depth, "eps": config.eps}
    write_json(folder / "config.json", sizes)


def wan_sizes(
    tensors: Mapping[str, Tensor], latent_size: tuple[int, int], num_heads: int | None, origin: str
) -> TransformerConfig:
    """Sizes of a transformer from the shapes of its tensors, which have our names.

    Raises:
        CheckpointError: If those that tell the sizes are missing, or of another shape.
    """
    telling = (
        "patch_embedding.weight",
        "prompt_embedding.0.weight",
        "time_embedding.0.weight",
        "blocks.0.ffn.0.weight",
    )
    missing = [name for name in telling if name not in tensors]
    flat = [name for name in telling if name in tensors and tensors[name].ndim != 2]
    if missing or flat:
        raise CheckpointError(
            f"{origin} does not tell the sizes of a Wan: missing {some(missing) or 'nothing'}, of another shape "
            f"{some(flat) or 'nothing'}; expected a whole transformer of text-to-video."
        )
    patch, prompt, time, ffn = (tensors[name] for name in telling)
    dim = patch.shape[0]
    if num_heads is not None and (not isinstance(num_heads, int) or num_heads < 1 or dim % num_heads):
        raise CheckpointError(f"{origin} is {dim} wide, which does not divide into num_heads={num_heads!r}.")
    if num_heads is None and dim % HEAD_DIM:
        raise CheckpointError(
            f"{origin} is {dim} wide, which does not divide into heads of {HEAD_DIM}; give num_heads, since tensors do "
            "not tell it."
        )
    blocks = {int(found[1]) for name in tensors if (found := re.match(r"blocks\.(\d+)\.", name))}
    return TransformerConfig(
        in_channels=patch.shape[1] // (PATCH * PATCH),
        latent_size=list(latent_size),
        patch_size=[PATCH, PATCH],
        dim=dim,
        depth=max(blocks) + 1,
        num_heads=num_heads or dim // HEAD_DIM,
        ffn_dim=ffn.shape[0],
        freq_dim=time.shape[1],
        prompt_dim=prompt.shape[1],
        prompt_layers=2,
        frames_per_latent=4,
        heads=False,
    )


def _heads_of(file: WanFile) -> int | None:
    return file.settings.get("num_heads", file.settings.get("num_attention_heads"))


def _as_said(config: TransformerConfig, file: WanFile) -> TransformerConfig:
    """The sizes with what tensors do not tell.

    Raises:
        CheckpointError: If config.json says something else than tensors and arguments do, or asks for another network.
    """
    settings = file.settings
    differs = [
        f"{name}={settings[name]!r} for {getattr(config, ours)}"
        for name, ours in _SAID.items()
        if settings.get(name) not in (None, getattr(config, ours))
    ]
    differs += [
        f"{name}={settings[name]!r} for {usual[0]!r}"
        for name, usual in _USUAL.items()
        if name in settings and settings[name] not in usual
    ]
    eps = settings.get("eps", config.eps)
    if not isinstance(eps, float):
        differs.append(f"eps={eps!r} for a number such as {config.eps}")
    if differs:
        raise CheckpointError(
            f"the config.json of {file.origin} says {', '.join(differs)}, as the tensors, num_heads or Wan 2.1 have "
            "it; expected them to agree."
        )
    return replace(config, eps=eps)
