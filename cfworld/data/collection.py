"""What to collect, and how far a collection has come."""

import itertools
import json
import math
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from cfworld.data.policy_files import policy_digests
from cfworld.data.shards import ShardSummary, ShardWriter
from cfworld.errors import ConfigError, DatasetError
from cfworld.files import write_json
from cfworld.settings import check_counts

__all__ = ["CollectConfig", "Collection", "Plan"]

SETTINGS_FILE_NAME = "collection.json"
"""Beside the data: the settings that they are a function of."""
_POLICY_FILES = "policy_files"
"""The setting that holds what `policy_digests` gives."""


@dataclass(kw_only=True, slots=True)
class CollectConfig:
    """What to collect. Episode e is a function of these settings and e alone.

    Attributes:
        env: Gymnasium id, also in the form `module:id`. A twin is stepped tick by tick; in any other
            environment a step is a tick, and observations, or else `render()`, are the frames.
        out: the dataset's folder. The same command resumes what was interrupted there.
        ticks: stop at the end of the shard in which so many ticks are reached; 0 means no such limit.
        episodes: stop after so many episodes; 0 means no such limit.
        policies: weights of the policies, of which every episode draws one: those of `cfworld.data.policies`, and
            those for which `collect` is given factories; the command gives it those of trained agents.
        hold_share: the share of episodes in which actions change only every `hold_ticks` ticks, as those of an agent do
            that acts once a step; in the others they change wherever their policy says. Ways out and back, as those of
            look_back, then differ by up to two holds.
        hold_ticks: how long actions are held there: the first of so many ticks decides.
        god_share: the share of episodes whose reset gets the option god.
        max_ticks: truncate an episode after so many ticks.
        god_max_ticks: the same for episodes with god; 0 means max_ticks.
        seed: episode e is reset with seed + e. Training data stay below 1000000.
        shard_episodes: episodes in a file; an interruption loses at most this many for each worker.
        workers: processes. The data do not depend on it.
        env_kwargs: keyword arguments of the environment.
    """

    env: str = "cfworld.envs:cfworld/DoomTakeCoverReal-v0"
    out: str = "datasets/doom_take_cover/train"
    ticks: int = 0
    episodes: int = 8
    policies: dict[str, float] = field(default_factory=lambda: {"sticky": 1.0})
    hold_share: float = 0.0
    hold_ticks: int = 4
    god_share: float = 0.0
    max_ticks: int = 2100
    god_max_ticks: int = 0
    seed: int = 0
    shard_episodes: int = 8
    workers: int = 1
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_counts(self, "ticks", "episodes", "god_max_ticks", "seed", least=0)
        check_counts(self, "max_ticks", "hold_ticks", "shard_episodes", "workers")
        if self.ticks + self.episodes == 0:
            raise ConfigError("got ticks=0 and episodes=0; expected one above 0, to know when to stop")
        if not self.policies or min(self.policies.values()) < 0 or not 0 < sum(self.policies.values()) < math.inf:
            raise ConfigError(f"got policies={self.policies}; expected finite weights >= 0, at least one above 0")
        for name in ("hold_share", "god_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"got {name}={getattr(self, name)}; expected a share from 0 to 1")

    @property
    def source(self) -> str:
        """The id of the environment, without the module that registers it."""
        return self.env.rpartition(":")[2]

    def recorded(self) -> dict[str, Any]:
        """The settings that the data are a function of. How much and how fast may change between runs."""
        free = {"out", "ticks", "episodes", "workers"}
        if not self.hold_share:  # datasets from before actions could be held say nothing of it
            free |= {"hold_share", "hold_ticks"}
        settings = {name: value for name, value in asdict(self).items() if name not in free}
        if files := policy_digests(self.policies):
            settings[_POLICY_FILES] = files
        return json.loads(json.dumps(settings | {"env": self.source}, sort_keys=True))

    def episodes_of(self, shard: int) -> range:
        """The indices of the episodes of a shard; none when the collection ends before it."""
        start, stop = shard * self.shard_episodes, (shard + 1) * self.shard_episodes
        return range(start, min(stop, self.episodes) if self.episodes else stop)


@runtime_checkable
class Plan(Protocol):
    """What a collection asks of the settings that its data are a function of."""

    @property
    def source(self) -> str:
        """Where the episodes come from."""
        ...

    @property
    def episodes(self) -> int:
        """Episodes after which it is complete; 0 means no such limit."""
        ...

    @property
    def ticks(self) -> int:
        """Ticks after which it is complete; 0 means no such limit."""
        ...

    def recorded(self) -> dict[str, Any]:
        """The settings that the data are a function of."""
        ...

    def episodes_of(self, shard: int) -> range:
        """The indices of the episodes of a shard; none when the collection ends before it."""
        ...


class Collection:
    """The shards of a collection that are finished, and the dataset that they make.

    The dataset consists of the first shards, without a gap, up to the one that completes it: so it is the
    same in whatever order the shards were made. Create it while the writer's folder is locked.

    Args:
        config: What to collect.
        writer: Where it goes.

    Raises:
        ConfigError: The folder holds data of other settings.
        DatasetError: The folder holds another dataset, a damaged shard, or a file where a folder of the dataset goes.
    """

    def __init__(self, config: Plan, writer: ShardWriter) -> None:
        finished = writer.finished()
        _check_settings(writer.folder, config.recorded(), begun=bool(finished))
        self._config = config
        self._done: dict[int, ShardSummary] = {}
        self.dataset: list[ShardSummary] = []
        for shard in finished:
            self.add(shard, writer.summary(shard))

    @property
    def num_ticks(self) -> int:
        """Ticks of the dataset."""
        return sum(sum(summary.ticks) for summary in self.dataset)

    @property
    def num_episodes(self) -> int:
        """Episodes of the dataset."""
        return sum(len(summary.ticks) for summary in self.dataset)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing."""
        episodes, ticks = self._config.episodes, self._config.ticks
        return bool((episodes and self.num_episodes >= episodes) or (ticks and self.num_ticks >= ticks))

    def missing(self) -> Iterator[int]:
        """The shards to make, one after the other; without end when only ticks are counted."""
        wanted = itertools.takewhile(self._config.episodes_of, itertools.count())
        return (shard for shard in wanted if shard not in self._done)

    def add(self, shard: int, summary: ShardSummary) -> None:
        """Takes in a finished shard, unless it holds fewer episodes than are wanted of it."""
        wanted = len(self._config.episodes_of(shard))
        if not 0 < wanted <= len(summary.ticks):
            return
        self._done[shard] = summary.first(wanted)
        while len(self.dataset) in self._done and not self.is_complete:
            self.dataset.append(self._done[len(self.dataset)])

    def figures(self) -> dict[str, Any]:
        """What the dataset holds: episodes, ticks, real ends, mean return, and lengths for each policy."""
        ticks = np.concatenate([summary.ticks for summary in self.dataset])
        policies = np.concatenate([summary.policies for summary in self.dataset])
        return {
            "source": self._config.source,
            "episodes": self.num_episodes,
            "ticks": self.num_ticks,
            "terminated": sum(sum(summary.terminated) for summary in self.dataset),
            "mean_return": float(np.mean(np.concatenate([summary.returns for summary in self.dataset]))),
            "policies": {
                str(name): {
                    "episodes": int((policies == name).sum()),
                    "mean_ticks": float(ticks[policies == name].mean()),
                }
                for name in np.unique(policies)
            },
        }


def _check_settings(folder: Path, settings: dict[str, Any], *, begun: bool) -> None:
    """Writes the settings into a folder without data; into one that has some, only the same settings may add."""
    path = folder / SETTINGS_FILE_NAME
    if not path.exists() and any(
        (folder / place).exists() for place in ("metadata.json", "data/metadata.json", "meta/info.json")
    ):
        raise DatasetError(f"{str(folder)!r} holds a dataset of another origin; choose another folder with out=")
    for place in ("data", "meta", "videos"):
        if os.path.lexists(folder / place) and not (folder / place).is_dir():
            raise DatasetError(f"{str(folder / place)!r} is no folder; choose another folder with out=")
    if not (begun and path.exists()):
        write_json(path, settings)
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    # datasets from before files were recorded, or those of agents, do not say which they were
    known = before.get(_POLICY_FILES, {})
    files = settings.get(_POLICY_FILES, {})
    before = before | {_POLICY_FILES: files | known}
    settings = settings | {_POLICY_FILES: known | files}
    changed = [name for name in sorted({*before, *settings}) if before.get(name) != settings.get(name)]
    if changed:
        differences = "; ".join(f"{name}: {settings.get(name)!r}, before {before.get(name)!r}" for name in changed)
        raise ConfigError(
            f"{str(folder)!r} was collected with other settings ({differences}); use the same ones, or another folder"
        )
