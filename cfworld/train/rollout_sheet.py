"""Contact sheets of rollouts: the truth above what the world makes of the same start and actions."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cfworld.errors import DatasetError
from cfworld.files import write_aside
from cfworld.train.banks.latent_bank import LatentBank
from cfworld.train.replay import replayed
from cfworld.world import World, WorldConfig

__all__ = ["rollout_sheet", "sheet_episodes"]

FAR = 8
"""The second latent after the prefix at which PSNR is taken; every sheet reaches it."""
NUM_COLUMNS = 16
SCALE = 2


def sheet_episodes(world: WorldConfig, held_out: LatentBank) -> list[int]:
    """The held-out episodes that sheets may show, the longest first.

    Raises:
        DatasetError: If there is none.
    """
    shortest = world.prefix_latents + _fewest(world)
    episodes = held_out.mortal_episodes(shortest)
    if not episodes:
        raise DatasetError(
            f"got no held-out episode without god mode of at least {shortest} latents; expected one, to roll out "
            "beside. Collect longer ones, or some without god mode."
        )
    lengths = held_out.num_latents
    return sorted(episodes, key=lambda episode: -lengths[episode])


def _fewest(world: WorldConfig) -> int:
    """The least number of latents that a sheet generates."""
    chunk = world.latents_per_chunk
    return -(-FAR // chunk) * chunk


def rollout_sheet(world: World, bank: LatentBank, *, rows: int, length: int, path: Path) -> Mapping[str, float]:
    """Roll the world out on held-out episodes' actions and write a picture.

    Args:
        world: The world, whose starts are not used.
        bank: Held-out latents; the longest `rows` episodes without god mode are taken.
        rows: Episodes.
        length: Latents to generate after the prefix, in whole chunks; so many as `FAR` asks for at least.
        path: The PNG.

    Returns:
        PSNR in latent space after 1 latent and after 8, and the ratio of the latents' change from step to step.
    """
    prefix = world.config.prefix_latents
    episodes, lengths = sheet_episodes(world.config, bank)[:rows], bank.num_latents
    length = min(max(length, _fewest(world.config)), min(lengths[episode] for episode in episodes) - prefix)
    index = bank.first[episodes][:, None] + torch.arange(prefix + length)
    truth, actions = bank.latents[index].float(), bank.actions_at(index)
    made = [out.latents for out in replayed(world, truth, actions, range(len(episodes)))]
    generated = torch.cat(made, dim=1).cpu()
    real = truth[:, prefix : prefix + generated.shape[1]]
    _write(world, truth, generated, path)
    return {
        "psnr_1": _psnr(real[:, :1], generated[:, :1]),
        f"psnr_{FAR}": _psnr(real[:, FAR - 1 : FAR], generated[:, FAR - 1 : FAR]),
        "motion": float(generated.diff(dim=1).abs().mean() / real.diff(dim=1).abs().mean()),
    }


def _last_frames(world: World, latents: Tensor, columns: np.ndarray) -> Tensor:
    """The last frame of some of a row's latents; what streams is decoded from the beginning."""
    shown = latents if world.tokenizer.streams else latents[:, columns]
    frames = world.decode(shown)[0].cpu().unflatten(0, (-1, world.config.frames_per_latent))[:, -1]
    return frames[columns] if world.tokenizer.streams else frames


def _psnr(real: Tensor, generated: Tensor) -> float:
    """PSNR of latents, whose range counts as 6 standard deviations."""
    return float(10 * torch.log10(36 / (real - generated).square().mean()))


def _write(world: World, truth: Tensor, generated: Tensor, path: Path) -> None:
    """Draw what was generated after the first latents of the truth, below the truth."""
    length = generated.shape[1]
    prefix = world.config.prefix_latents
    columns = prefix + np.unique(np.linspace(0, length - 1, NUM_COLUMNS).astype(int))
    made = torch.cat([truth[:, :prefix], generated], dim=1)
    strips = []
    for row in range(len(truth)):
        for latents in (truth[:, : prefix + length], made):
            last = _last_frames(world, latents[row : row + 1].to(world.device), columns)
            strips.append(torch.cat(list(last), dim=1))
    sheet = torch.cat(strips).repeat_interleave(SCALE, 0).repeat_interleave(SCALE, 1)
    with write_aside(path) as aside:
        Image.fromarray(sheet.numpy()).save(aside)
