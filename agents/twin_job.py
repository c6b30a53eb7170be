"""Episodes of a simulator on several processes."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch

from cfworld.agents.evaluate import Scores, play_twin
from cfworld.agents.planner import PlannerConfig
from cfworld.agents.players import make_player
from cfworld.agents.sight import Player
from cfworld.data.workers import run_jobs
from cfworld.envs.twins import Twin, make_twin
from cfworld.world import World

__all__ = ["TwinJob", "scores_of_jobs"]


@dataclass(kw_only=True)
class TwinJob:
    """Plays the episode of a seed in the simulator of a world; each process makes its own of all that takes room.

    Attributes:
        world: the world, by name or as it is.
        variant: student or teacher, if it goes by name.
        device: where it and its agents compute, if it goes by name.
        precision: bf16 or fp32, if it goes by name; None for what the device does at full speed.
        num_steps: denoising steps, if it goes by name.
        player: who acts, as `make_player` knows them.
        planner: how the planner plans.
        max_ticks: ticks until an episode is cut off.
        threads: of PyTorch; None leaves them as they are.
    """

    world: str | World
    variant: str | None = None
    device: str = "cpu"
    precision: str | None = None
    num_steps: int | None = None
    player: str
    planner: PlannerConfig
    max_ticks: int
    threads: int | None = None
    worker: ClassVar[str] = "simulating worker"
    advice: ClassVar[str] = "complete scores are kept: run the same command again, with its folder as out="
    _made: tuple[Twin, Player] | None = field(default=None, init=False, repr=False)

    def __call__(self, number: int, advance: Callable[[int], None]) -> tuple[float, int, bool]:
        """Play the episode of the seed `number`; gives its return, its ticks, and whether it ended."""
        twin, player = self._made or self._make()
        total, ended = 0.0, False
        for _, reward, terminated in play_twin(twin, player, number):
            total += reward
            ended = terminated
            advance(0)
        return total, twin.tick, ended

    def close(self) -> None:
        """Release the simulator."""
        if self._made is not None:
            self._made[0].close()
            self._made = None

    def _make(self) -> tuple[Twin, Player]:
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        world = self.world
        if not isinstance(world, World):
            world = World.from_pretrained(
                world,
                variant=self.variant,
                device=self.device,
                precision=self.precision,
                num_steps=self.num_steps,
            )
        self._made = make_twin(world.config.source, self.max_ticks), make_player(self.player, world, self.planner)
        return self._made


def scores_of_jobs(
    job: TwinJob, seeds: Sequence[int], workers: int, progress: Callable[[int], object] = lambda _: None
) -> Scores:
    """Play one episode per seed, `workers` of them at once.

    Args:
        job: how; with more than one worker its world goes by name.
        seeds: of the episodes; the scores come in their order, and do not depend on `workers`.
        workers: processes; 1 stays in this one.
        progress: told how many episodes are over.

    Raises:
        CollectionError: if a process died.
    """
    if workers > 1:
        job.threads = max(1, (os.cpu_count() or 1) // workers)
    done: dict[int, tuple[float, int, bool]] = {}
    for seed, outcome in run_jobs(job, iter(seeds), workers, lambda _: None):
        done[seed] = outcome
        progress(1)
    returns, ticks, ended = zip(*(done[seed] for seed in seeds), strict=True)
    return Scores(returns=np.array(returns, float), ticks=np.array(ticks, np.int64), ended=np.array(ended, bool))
