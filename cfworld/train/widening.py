"""Networks of few latent channels as beginnings of ones with more: what is new adds nothing before the first step."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from cfworld.errors import ConfigError
from cfworld.model import TransformerConfig
from cfworld.tokenizer import BlockVAE, BlockVAEConfig

__all__ = ["widened_generator", "widened_vae"]

_BATCH = 64
_LEAST_STD = 1e-4


def widened_vae(old: BlockVAE, sizes: BlockVAEConfig, pixels: Float[Tensor, "B P H W"]) -> BlockVAE:
    """A tokenizer of more channels, with shortcuts, that decodes as an old one does.

    The new channels hold the principal components, cell by cell, of what the old tokenizer loses of some blocks, at
    unit scale (the encoder's shortcut reads them). The decoder does not look at them yet.

    Args:
        old: The tokenizer to begin with.
        sizes: Its sizes, but for more `latent_channels` and for `shortcuts`.
        pixels: The blocks (see `to_pixels`), -1 to 1.

    Raises:
        ConfigError: If the sizes differ in more, or have no shortcuts, fewer channels, or more than a cell has numbers.
    """
    before, after = old.config.latent_channels, sizes.latent_channels
    same = replace(old.config, latent_channels=after, shortcuts=True)
    numbers = 3 * sizes.frames_per_latent * _cell(sizes) ** 2
    if sizes != same or not before <= after <= before + numbers:
        raise ConfigError(
            f"Cannot widen a tokenizer of {old.config} to {sizes}; expected shortcuts, and no difference but more "
            f"latent_channels, {numbers} more at most."
        )
    new = BlockVAE(sizes)
    state = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    for name, tensor in old.state_dict().items():
        if state[name].shape == tensor.shape:
            state[name] = tensor.clone()
        elif name.startswith("encoder."):
            mean, logvar = (_grown(part, after) for part in tensor.chunk(2))
            if name.endswith(".bias"):
                logvar[before:] = logvar[:before].mean()
            state[name] = torch.cat([mean, logvar])
        elif name in ("latent_mean", "latent_std"):
            state[name][:before] = tensor
        else:
            state[name] = _grown(tensor, after, dim=1 if "decoder." in name else 0)
    if not old.config.shortcuts:
        state["shortcuts.encoder.1.weight"].zero_()
    if after > before:
        state["shortcuts.encoder.1.weight"][before:, :, 0, 0] = _lost_components(old, pixels, after - before)
    new.load_state_dict(state)
    return new


def widened_generator(
    weights: Mapping[str, Tensor], old: TransformerConfig, new: TransformerConfig
) -> dict[str, Tensor]:
    """Weights of a generator of more channels that predicts the old ones' velocity as before, and 0 for the new ones.

    Args:
        weights: State of a generator of the old sizes.
        old: Its sizes.
        new: Its sizes, but for more `in_channels` and for `input_skip`.

    Raises:
        ConfigError: If they differ in more.
    """
    same = replace(old, in_channels=new.in_channels, input_skip=old.input_skip or new.input_skip)
    if new != same or new.in_channels < old.in_channels:
        raise ConfigError(f"Cannot widen a transformer of {old} to {new}; expected more in_channels, or an input_skip.")
    grown = dict(weights)
    if new.input_skip and not old.input_skip:
        for of in ("weight", "bias"):
            grown[f"transformer.head.skip.{of}"] = torch.zeros_like(weights[f"transformer.head.head.{of}"])
    for name in grown:  # of the numbers of a patch, the channel is the fastest
        if name.startswith(("transformer.head.head.", "transformer.head.skip.")):
            cells = grown[name].unflatten(0, (-1, old.in_channels))
            grown[name] = _grown(cells, new.in_channels, dim=1).flatten(0, 1)
        elif name == "transformer.patch_embedding.weight":
            cells = grown[name].unflatten(1, (-1, old.in_channels))
            grown[name] = _grown(cells, new.in_channels, dim=2).flatten(1, 2)
    return grown


def _grown(tensor: Tensor, size: int, dim: int = 0) -> Tensor:
    """A tensor with zeros behind what an axis has, up to a size."""
    shape = list(tensor.shape)
    shape[dim] = size - shape[dim]
    return torch.cat([tensor, tensor.new_zeros(shape)], dim=dim)


def _cell(sizes: BlockVAEConfig) -> int:
    return 2 ** len(sizes.widths)


@torch.no_grad()
def _lost_components(old: BlockVAE, pixels: Float[Tensor, "B P H W"], count: int) -> Float[Tensor, "E P"]:
    """The strongest principal components, cell by cell, of what a tokenizer loses; cells have unit variance in each."""
    lost = [part - _reconstructed(old, part) for part in pixels.split(_BATCH)]
    losses, cells = (
        rearrange(functional.pixel_unshuffle(of, _cell(old.config)), "B P h w -> (B h w) P").double()
        for of in (torch.cat(lost), pixels)
    )
    _, components = torch.linalg.eigh(losses.T @ losses)
    strongest = components.flip(1)[:, :count]
    return (strongest / (cells @ strongest).std(dim=0).clamp(min=_LEAST_STD)).T.float()


def _reconstructed(vae: BlockVAE, pixels: Float[Tensor, "B P H W"]) -> Float[Tensor, "B P H W"]:
    none = torch.zeros(len(pixels), *vae.latent_shape)
    return vae(pixels, none, none).pixels
