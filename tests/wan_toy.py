"""Wan at toy size, out of the real modules of diffusers and transformers with random weights."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cfworld import World
from cfworld.memory import MemoryConfig

SIZES: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 32,
    "in_channels": 4,
    "out_channels": 4,
    "text_dim": 16,
    "freq_dim": 16,
    "ffn_dim": 48,
    "num_layers": 2,
}
"""A transformer whose heads split into 6, 5 and 5 pairs: no two axes are confused for one another in silence."""


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with every parameter drawn anew, so that nothing is zero or one by chance of its initialisation."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            scale = 0.3 if parameter.ndim == 1 else 1.0 / parameter[0].numel() ** 0.5
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))
            if parameter.ndim == 1:
                parameter.add_(0.5)
            parameter.copy_(parameter.bfloat16())  # so that a world keeps them exactly
    return module.eval().requires_grad_(False)


def diffusers_transformer(seed: int = 0) -> Any:
    """A `WanTransformer3DModel`."""
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    return randomised(WanTransformer3DModel(**SIZES), seed)


def transformer_folder(folder: Path, seed: int = 0) -> Path:
    """A folder as diffusers writes it."""
    diffusers_transformer(seed).save_pretrained(folder)
    return folder


def inputs(num_latents: int = 3, rows: int = 2, size: int = 4) -> tuple[Tensor, Tensor]:
    """Noisy latents [B, N, C, h, w], and texts [B, P, E] whose last tokens are zero, as beyond a prompt."""
    generator = torch.Generator().manual_seed(7)
    latents = torch.randn(rows, num_latents, SIZES["in_channels"], size, size, generator=generator)
    texts = torch.randn(rows, 6, SIZES["text_dim"], generator=generator)
    texts[:, 4:] = 0
    return latents, texts


VAE_SIZES: dict[str, Any] = {
    "base_dim": 4,
    "z_dim": 4,
    "dim_mult": [1, 1, 2],
    "num_res_blocks": 1,
    "temperal_downsample": [True, True],
    "latents_mean": [0.1, -0.2, 0.3, 0.0],
    "latents_std": [1.5, 0.5, 1.0, 2.0],
}
"""A VAE of a quarter of the resolution, narrow, with every kind of layer that the real one has."""


def diffusers_vae(seed: int = 0) -> Any:
    """An `AutoencoderKLWan`."""
    from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

    return randomised(AutoencoderKLWan(**VAE_SIZES, scale_factor_spatial=4), seed)


def vae_folder(folder: Path, seed: int = 0) -> Path:
    """A folder as diffusers writes it."""
    diffusers_vae(seed).save_pretrained(folder)
    return folder


WORDS = ("a", "red", "blue", "door", "opens", "the", "sky", "darkens")
"""Words that the toy tokenizer knows."""

TABLE = {"open": "the red door opens", "darken": "the sky darkens"}
"""Named actions, and what they say."""


def text_encoder_folder(folder: Path, tokenizer_folder: Path | None = None, seed: int = 0) -> Path:
    """A UMT5 encoder with its tokenizer, as transformers writes them."""
    from transformers import T5Tokenizer
    from transformers.models.umt5.configuration_umt5 import UMT5Config
    from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁{word}", -1.0) for word in WORDS)]
    tokenizer = T5Tokenizer(vocab=pieces, extra_ids=0)
    width = SIZES["text_dim"]
    config = UMT5Config(vocab_size=16, d_model=width, d_kv=4, d_ff=24, num_layers=2, num_heads=2)
    randomised(UMT5EncoderModel(config), seed).save_pretrained(folder)  # pyright: ignore[reportCallIssue]
    tokenizer.save_pretrained(tokenizer_folder or folder)
    return folder


def pipeline_folder(folder: Path) -> Path:
    """All three, laid out as a pipeline of diffusers."""
    transformer_folder(folder / "transformer")
    vae_folder(folder / "vae")
    text_encoder_folder(folder / "text_encoder", folder / "tokenizer")
    return folder


def wan_world(folder: Path, **changes: Any) -> World:
    """A world of 16x16 frames out of a pipeline, whose memory is full after seven steps."""
    memory = MemoryConfig(
        num_sink=3, num_slow=2, num_fast=6, latents_per_chunk=3, consolidate_every=1, threshold=1.1, recache=True
    )
    settings = {"memory": memory, "resolution": [16, 16], "num_tokens": 6, "max_length": 60, "text_encoder": folder}
    settings |= {"transformer": folder, "vae": folder, "precision": "fp32"} | changes
    return World.from_wan(**settings)
