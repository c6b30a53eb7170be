"""What stages have in common that learn from clips of latents, and those of them that make a world."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from cfworld.data import ClipSampler
from cfworld.train.banks.latent_bank import LatentBank
from cfworld.train.forcing.clip_losses import ClipStep
from cfworld.train.loop_config import LoopConfig
from cfworld.train.processes.team import ALONE, Team
from cfworld.train.rollout_sheet import rollout_sheet
from cfworld.world import World

__all__ = ["ClipStage", "WorldStage", "WorldStageConfig"]


class ClipStage:
    """Learns from clips of real latents, of which every process takes its rows.

    Args:
        loop: Seed and size of the batches.
        clip_latents: Latents of a clip.
        train: Latents to learn from.
        held_out: Latents of other episodes, for sheets and figures.
        device: Where clips go.
        min_latents: Shorter episodes are left out.
        shortest: Latents that follow the start of a clip at least (see `ClipSampler`).
        even: Draw every latent equally often (see `ClipSampler`).
    """

    def __init__(
        self,
        loop: LoopConfig,
        clip_latents: int,
        train: LatentBank,
        held_out: LatentBank,
        device: torch.device | str,
        *,
        min_latents: int = 1,
        shortest: int | None = None,
        even: bool = False,
    ) -> None:
        self.loop, self.clip_latents = loop, clip_latents
        self.train, self.held_out = train, held_out
        self.device = torch.device(device)
        self.sampler = ClipSampler(
            train.num_latents, clip_latents, loop.seed, min_latents=min_latents, shortest=shortest, even=even
        )
        self.team: Team = ALONE

    def join(self, team: Team) -> None:
        """Share the clips out."""
        self.team = team

    def batch(self, step: int) -> ClipStep:
        """The clips of a step."""
        clips = self.team.own(self.sampler.batch(step, self.loop.batch_size))
        return ClipStep(clips=self.train.clips(clips, self.clip_latents, self.device), step=step)


@runtime_checkable
class WorldStageConfig(Protocol):
    """What the settings of such stages have in common."""

    loop: LoopConfig
    min_latents: int
    sheet_rows: int
    sheet_latents: int


class WorldStage(ClipStage, ABC):
    """Makes a world of the generator that it trains: shows it on sheets, and writes it in the end.

    Args:
        config: The stage's settings.
        clip_latents: Latents of a clip.
        train: Latents to learn from.
        held_out: Latents of other episodes, for the sheets.
        device: Where clips go.
        shortest: Latents that follow the start of a clip at least (see `ClipSampler`).
    """

    def __init__(
        self,
        config: WorldStageConfig,
        clip_latents: int,
        train: LatentBank,
        held_out: LatentBank,
        device: torch.device | str,
        *,
        shortest: int | None = None,
    ) -> None:
        super().__init__(
            config.loop,
            clip_latents,
            train,
            held_out,
            device,
            min_latents=config.min_latents,
            shortest=shortest,
        )
        self._sheet_rows, self._sheet_latents = config.sheet_rows, config.sheet_latents

    @abstractmethod
    def world_of(self, module: nn.Module) -> World:
        """The world with a copy of this generator."""

    def sample(self, ema_module: nn.Module, step: int, folder: Path) -> Mapping[str, float]:
        """Write a sheet of rollouts from held-out starts below the truth; return their figures."""
        return rollout_sheet(
            self.world_of(ema_module),
            self.held_out,
            rows=self._sheet_rows,
            length=self._sheet_latents,
            path=folder / f"step_{step:08d}.png",
        )

    def export(self, ema_module: nn.Module, folder: Path) -> Mapping[str, Any]:
        """Write the world with the averaged weights."""
        world = self.world_of(ema_module)
        world.save_pretrained(folder)
        parameters = sum(parameter.numel() for parameter in world.generator.parameters())
        return {"parameters": parameters, "starts": world.num_starts}
