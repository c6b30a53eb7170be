"""Networks of few latent channels as beginnings of ones with more: what is new adds nothing before the first step."""

from collections.abc import Mapping
from dataclasses import fields, replace

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
_LEAST_STD = 1 / 127.5
"""One step of a pixel's 256 values."""
_PROJECTION = "shortcuts.encoder.1.weight"


def widened_vae(old: BlockVAE, sizes: BlockVAEConfig, pixels: Float[Tensor, "B P H W"]) -> BlockVAE:
    """A tokenizer of more channels, with shortcuts, that decodes as an old one does.

    The new channels hold the frames along the directions in which the old tokenizer loses most, cell by cell, at unit
    scale (the encoder's shortcut reads them), with as little posterior noise as the old ones. The decoder does not look
    at them yet.

    Args:
        old: The tokenizer to begin with.
        sizes: Its sizes, but for more `latent_channels` and for `shortcuts`.
        pixels: The blocks (see `to_pixels`), -1 to 1.

    Raises:
        ConfigError: If the sizes differ in more, or have no shortcuts, fewer channels, or more than a cell has numbers.
    """
    before, after = old.config.latent_channels, sizes.latent_channels
    most = before + 3 * sizes.frames_per_latent * _cell(sizes) ** 2
    expected = replace(old.config, latent_channels=min(max(before, after), most), shortcuts=True)
    _check_sizes(sizes, expected, "tokenizer")
    new = BlockVAE(sizes)
    state = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    for name, tensor in old.state_dict().items():
        if state[name].shape == tensor.shape:
            state[name] = tensor.clone()
        elif name.startswith("encoder."):
            mean, logvar = (_grown(part, after) for part in tensor.chunk(2))
            logvar[before:] = logvar[:before].mean(dim=0)
            state[name] = torch.cat([mean, logvar])
        elif name in ("latent_mean", "latent_std"):
            state[name][:before] = tensor
        else:
            state[name] = _grown(tensor, after, dim=1 if "decoder." in name else 0)
    if not old.config.shortcuts:
        state[_PROJECTION].zero_()
    if after > before:
        kernel, mean = _lost_directions(old, pixels, after - before)
        state[_PROJECTION][before:, :, 0, 0] = kernel
        state["latent_mean"][before:] = mean
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
    channels, skip = max(old.in_channels, new.in_channels), old.input_skip or new.input_skip
    _check_sizes(new, replace(old, in_channels=channels, input_skip=skip), "transformer")
    grown = dict(weights)
    if new.input_skip and not old.input_skip:
        for kind in ("weight", "bias"):
            grown[f"transformer.head.skip.{kind}"] = torch.zeros_like(weights[f"transformer.head.head.{kind}"])
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


def _check_sizes(
    got: BlockVAEConfig | TransformerConfig, expected: BlockVAEConfig | TransformerConfig, kind: str
) -> None:
    pairs = [(field.name, getattr(got, field.name), getattr(expected, field.name)) for field in fields(got)]
    if said := ", ".join(f"{name}={one}, not {other}" for name, one, other in pairs if one != other):
        raise ConfigError(
            f"Cannot widen a {kind} to another one: the world asks for {said}. Give its own sizes, but for more "
            "channels (no more new ones than a cell has numbers), world.tokenizer.shortcuts=true and "
            "world.transformer.input_skip=true; a teacher may also have more blocks."
        )


def _cell(sizes: BlockVAEConfig) -> int:
    return 2 ** len(sizes.widths)


@torch.no_grad()
def _lost_directions(
    old: BlockVAE, pixels: Float[Tensor, "B P H W"], count: int
) -> tuple[Float[Tensor, "E K"], Float[Tensor, " E"]]:
    """Where a tokenizer loses most: the strongest principal components of its errors, cell by cell.

    Args:
        old: The tokenizer.
        pixels: Blocks to reconstruct.
        count: How many, E.

    Returns:
        The kernel that reads a cell's K numbers along them, at unit variance over the blocks, and the means of what it
        reads.
    """
    size = _cell(old.config)
    numbers = pixels.shape[1] * size**2
    lost, seen = torch.zeros(2, numbers, numbers, dtype=torch.float64)
    total, num = torch.zeros(numbers, dtype=torch.float64), 0
    for part in pixels.split(_BATCH):
        cells, losses = (_cells(blocks, size) for blocks in (part, part - _reconstructed(old, part)))
        lost, seen, total = lost + losses.T @ losses, seen + cells.T @ cells, total + cells.sum(dim=0)
        num += len(cells)
    directions = torch.linalg.eigh(lost).eigenvectors.flip(1)[:, :count]
    largest = directions.gather(0, directions.abs().argmax(dim=0, keepdim=True))
    directions = directions * largest.sign()  # the sign of an eigenvector is nobody's
    mean = total / num
    covariance = seen / num - torch.outer(mean, mean)
    std = (directions * (covariance @ directions)).sum(dim=0).clamp(min=_LEAST_STD**2).sqrt()
    kernel = (directions / std).T
    return kernel.float(), (kernel @ mean).float()


def _cells(blocks: Float[Tensor, "B P H W"], size: int) -> Float[Tensor, "M K"]:
    return rearrange(functional.pixel_unshuffle(blocks, size), "B K h w -> (B h w) K").double()


def _reconstructed(vae: BlockVAE, pixels: Float[Tensor, "B P H W"]) -> Float[Tensor, "B P H W"]:
    blank = torch.zeros(len(pixels), *vae.latent_shape)
    return vae(pixels, blank, blank).pixels
