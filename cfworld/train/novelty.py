"""Measuring a world's novelty score on real clips: the Gaussian on some episodes, its scale on others.

The clips are read by clean passes beside their true neighbours, as a step reads what it has generated, so that the
score of a generated chunk says how it compares with real ones.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from tqdm import tqdm

from cfworld.data import ClipSampler
from cfworld.errors import DatasetError
from cfworld.prefix import prime, take_in
from cfworld.settings import check_counts
from cfworld.train.banks.latent_bank import ClipBatch, LatentBank
from cfworld.world import World
from cfworld.world.novelty import ODDEST, Novelty, compared_layers, mean_keys_of_chunk, mean_keys_of_newest

__all__ = ["NoveltyFitConfig", "fit_gaussian", "measure_novelty", "real_means"]

RIDGE = 0.01
"""Added to every direction of a covariance, as a share of the mean direction's: few clips leave some unseen."""
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)


@dataclass(kw_only=True, slots=True)
class NoveltyFitConfig:
    """On how much the score is measured.

    Attributes:
        clips: Clips to which the Gaussian is fitted, and as many held-out ones for its scale; a stage with 0 leaves the
            score out.
        clip_latents: Their length beyond a start's prefix, or as much of it as an episode holds.
        batch: Clips that are read together.
        seed: Seeds the choice of clips.
    """

    clips: int = 96
    clip_latents: int = 96
    batch: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self, "clips", least=0, prefix="novelty.")
        check_counts(self, "clip_latents", "batch", prefix="novelty.")


def measure_novelty(
    world: World, fitted: LatentBank, held_out: LatentBank, config: NoveltyFitConfig
) -> tuple[Novelty, dict[str, Any]]:
    """Measure the score of a world; it is not changed.

    Args:
        world: Whose keys are read.
        fitted: Latents of the episodes to which the Gaussian is fitted.
        held_out: Latents of other episodes, which give the scale.
        config: On how much.

    Returns:
        The score, and its figures: chunks of both kinds, and the held-out distances' quantiles.

    Raises:
        DatasetError: If no episode is longer than a start's prefix by a chunk.
    """
    layers = compared_layers(world.config.transformer.depth)
    means, present = _all_means(world, fitted, config, layers)
    novelty = fit_gaussian(means, present, layers)
    means, counted = _all_means(world, held_out, config, layers)
    distances = _distances(novelty, means, counted, world.config.latents_per_chunk)
    typical, limit = distances.double().quantile(torch.tensor([0.5, 1 - ODDEST], dtype=torch.float64)).tolist()
    calibrated = replace(novelty, typical=typical, limit=max(limit, typical + 1e-6))
    figures = {
        "fitted_latents": int(present[:, 1:].sum()),
        "held_out_chunks": len(distances),
        "typical": calibrated.typical,
        "limit": calibrated.limit,
        "quantiles": {str(q): float(distances.double().quantile(q)) for q in QUANTILES},
    }
    return calibrated, figures


def fit_gaussian(means: Float[Tensor, "B T D"], present: Bool[Tensor, "B T"], layers: tuple[int, ...]) -> Novelty:
    """Fit the linear prediction of mean keys from those before, and the covariance of what it leaves.

    Args:
        means: Token-mean keys of consecutive latents.
        present: Which of them count.
        layers: Whose keys they are.

    Returns:
        The score without its scale, rounded to the half precision in which it is stored.
    """
    pairs = present[:, 1:] & present[:, :-1]
    before, after = means[:, :-1][pairs].double(), means[:, 1:][pairs].double()
    mean_before, mean_after = before.mean(dim=0), after.mean(dim=0)
    centred = before - mean_before
    prediction = torch.linalg.solve(_ridged(centred.T @ centred), centred.T @ (after - mean_after))
    rest = after - mean_after - centred @ prediction
    variances, directions = torch.linalg.eigh(_ridged(rest.T @ rest) / max(len(rest), 1))
    whitening = directions / variances.sqrt()
    return Novelty(
        layers=layers,
        offset=((mean_after - mean_before @ prediction) @ whitening).float(),
        before=(prediction @ whitening).half().float(),
        after=whitening.half().float(),
    )


@torch.inference_mode()
def real_means(
    world: World, clips: ClipBatch, layers: tuple[int, ...]
) -> tuple[Float[Tensor, "B T D"], Bool[Tensor, "B T"]]:
    """Token-mean keys of real latents, from the last one of the prefix on, and which of them are no padding."""
    config, generator = world.config, world.generator
    prefix, chunk = config.prefix_latents, config.latents_per_chunk
    memory = prime(generator, config.memory, clips.latents[:, :prefix], clips.actions[:, :prefix])
    means = [mean_keys_of_newest(memory, layers)[:, None]]
    for first in range(prefix, clips.latents.shape[1] - chunk + 1, chunk):
        piece = slice(first, first + chunk)
        clean = take_in(generator, config.memory, memory, clips.latents[:, piece], clips.actions[:, piece])
        means.append(mean_keys_of_chunk(clean.keys, layers))
        memory = clean.memory
    found = torch.cat(means, dim=1)
    return found, clips.present[:, prefix - 1 :][:, : found.shape[1]]


def _all_means(
    world: World, bank: LatentBank, config: NoveltyFitConfig, layers: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """The means of all clips, on the CPU."""
    shortest = world.config.prefix_latents + world.config.latents_per_chunk
    if max(bank.num_latents) < shortest:
        raise DatasetError(
            f"got no episode of {shortest} latents, a start and a step; the longest holds {max(bank.num_latents)}. "
            "Collect longer episodes."
        )
    chunk = world.config.latents_per_chunk
    length = min(config.clip_latents, max(bank.num_latents) - world.config.prefix_latents)
    length = world.config.prefix_latents + max(length - length % chunk, chunk)
    sampler = ClipSampler(bank.num_latents, length, config.seed, min_latents=shortest)
    chosen = sampler.batch(0, config.clips)
    parts = [
        real_means(world, bank.clips(chosen[i : i + config.batch], length, world.device), layers)
        for i in tqdm(range(0, len(chosen), config.batch), desc="reading real clips", dynamic_ncols=True)
    ]
    means, present = (torch.cat(part).cpu() for part in zip(*parts, strict=True))
    return means.clone(), present.clone()


def _distances(novelty: Novelty, means: Tensor, present: Tensor, chunk: int) -> Float[Tensor, " n"]:
    """Distance of every whole chunk from what the latent before it predicts."""
    windows = means.unfold(1, chunk + 1, chunk).transpose(2, 3)
    whole = present.unfold(1, chunk + 1, chunk).all(dim=2)
    return novelty.distance(windows[whole])


def _ridged(products: Float64[Tensor, "D D"]) -> Float64[Tensor, "D D"]:
    size = len(products)
    floor = (RIDGE * products.diagonal().mean()).clamp(min=1e-12)
    return products + floor * torch.eye(size, dtype=products.dtype)
