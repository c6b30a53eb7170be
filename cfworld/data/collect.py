"""Collection: episodes of a Gymnasium environment become a dataset, the same with any number of workers."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import AddRenderObservation
from tqdm import tqdm

from cfworld.data.contact_sheet import contact_sheet
from cfworld.data.episode import Episode
from cfworld.data.policies import Policy, PolicyFactory, make_policy
from cfworld.data.shards import ShardSummary, StoreWriter
from cfworld.data.store import EpisodeStore, is_image_space
from cfworld.data.workers import run_jobs
from cfworld.errors import ConfigError, DatasetError
from cfworld.files import write_json

SETTINGS_FILE_NAME = "collection.json"
"""Beside the data: the settings that they are a function of."""


@dataclass(kw_only=True, slots=True)
class CollectConfig:
    """What to collect. Episode e is a function of these settings and e alone.

    Attributes:
        env: Gymnasium id, also in the form `module:id`. A twin is stepped tick by tick; in any other
            environment a step is a tick, and observations, or else `render()`, are the frames.
        out: the dataset's folder. The same command resumes what was interrupted there.
        ticks: stop at the end of the shard in which so many ticks are reached; 0 means no such limit.
        episodes: stop after so many episodes; 0 means no such limit.
        policies: weights of the policies, of which every episode draws one: sticky, random, noop, sweep,
            turn, look_back, scripted:<file>.
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
    god_share: float = 0.0
    max_ticks: int = 2100
    god_max_ticks: int = 0
    seed: int = 0
    shard_episodes: int = 8
    workers: int = 1
    env_kwargs: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        least = {"ticks": 0, "episodes": 0, "max_ticks": 1, "god_max_ticks": 0, "seed": 0}
        for name, bound in (least | {"shard_episodes": 1, "workers": 1}).items():
            if getattr(self, name) < bound:
                raise ConfigError(f"{name}={getattr(self, name)}; expected at least {bound}")
        if self.ticks + self.episodes == 0:
            raise ConfigError("ticks=0 and episodes=0; expected one above 0, to know when to stop")
        if not self.policies or min(self.policies.values()) < 0 or sum(self.policies.values()) <= 0:
            raise ConfigError(f"policies={self.policies}; expected weights >= 0, at least one above 0")
        if not 0 <= self.god_share <= 1:
            raise ConfigError(f"god_share={self.god_share}; expected a share from 0 to 1")

    @property
    def source(self) -> str:
        """The id of the environment, without the module that registers it."""
        return self.env.rpartition(":")[2]

    def recorded(self) -> dict[str, Any]:
        """The settings that the data are a function of. How much and how fast may change between runs."""
        free = ("out", "ticks", "episodes", "workers")
        settings = {name: value for name, value in asdict(self).items() if name not in free}
        return json.loads(json.dumps(settings | {"env": self.source}, sort_keys=True))


def collect(
    config: CollectConfig, *, factories: Mapping[str, PolicyFactory] | None = None, progress: bool = True
) -> dict[str, Any]:
    """Collects a dataset, or what is missing of it.

    Args:
        config: What to collect.
        factories: More kinds of policies, by name; picklable when there are several workers.
        progress: Whether to show a progress bar.

    Returns:
        The figures, which are also written to `figures.json` beside the data.

    Raises:
        ConfigError: The folder holds data of other settings.
        CollectionError: A worker died.
        DatasetError: The folder holds something else, or another process is writing to it.
    """
    folder = Path(config.out)
    with closing(EpisodeMaker(config, factories or {})) as maker:
        writer = maker.writer()
    job = ShardJob(config, dict(factories or {}))
    with writer.locked():
        _check_settings(folder, config)
        writer.discard_leftovers()
        done = {shard: summary for shard in writer.finished() if (summary := _usable(config, writer, shard))}
        dataset = _dataset(config, done)
        resumed, started = sum(sum(summary.ticks) for summary in dataset), time.perf_counter()
        missing = (shard for shard in _shards(config) if shard not in done)
        with (
            _bar(config, dataset, progress) as advance,
            closing(run_jobs(job, missing, config.workers, advance)) as results,
        ):
            while not _is_complete(config, dataset):
                shard, done[shard] = next(results)
                dataset = _dataset(config, done)
                writer.publish(dataset)
        writer.publish(dataset)
        figures = _figures(config, dataset, resumed, time.perf_counter() - started)
        write_json(folder / "figures.json", figures)
        contact_sheet(EpisodeStore.open(folder), folder / "contact_sheet.png")
    return figures


class ShardJob:
    """Records and writes shards: what a worker does."""

    def __init__(self, config: CollectConfig, factories: Mapping[str, PolicyFactory]) -> None:
        self._config = config
        self._factories = factories
        self._maker: EpisodeMaker | None = None

    def __call__(self, number: int, advance: Callable[[int], None]) -> ShardSummary:
        """Makes shard `number`; tells `advance` the ticks of every episode."""
        self._maker = self._maker or EpisodeMaker(self._config, self._factories)
        indices = _episodes(self._config, number)
        episodes = []
        for index in indices:
            episodes.append(self._maker.episode(index))
            advance(len(episodes[-1]))
        return self._maker.writer().write_shard(number, indices.start, episodes)

    def close(self) -> None:
        """Closes the environment."""
        if self._maker is not None:
            self._maker.close()
            self._maker = None


class EpisodeMaker:
    """Makes episode e of a collection: the same one in every process, in any order."""

    def __init__(self, config: CollectConfig, factories: Mapping[str, PolicyFactory]) -> None:
        self._config = config
        self._factories = factories
        self._env = _make_env(config)
        twin = self._env.unwrapped
        self._stepper: Any = twin if hasattr(twin, "step_ticks") else _PlainStepper(self._env)
        for name in config.policies:
            make_policy(name, np.random.default_rng(0), self._env.action_space, factories)

    def writer(self) -> StoreWriter:
        """The writer of the collection's folder."""
        clock = {name: getattr(self._stepper, name, None) for name in ("fps", "frames_per_step")}
        return StoreWriter(
            Path(self._config.out),
            observation_space=self._env.observation_space,
            action_space=self._env.action_space,
            source=self._config.source,
            metadata={"collection": self._config.recorded(), **clock},
        )

    def episode(self, index: int) -> Episode:
        """Records episode `index`."""
        config = self._config
        rng = np.random.default_rng(np.random.SeedSequence((config.seed, index)))
        names = sorted(config.policies)
        weights = np.array([config.policies[name] for name in names])
        name = names[rng.choice(len(names), p=weights / weights.sum())]
        god = bool(rng.random() < config.god_share)
        policy = make_policy(name, rng, self._env.action_space, self._factories)
        options = {"god": True} if god else {}
        limit = (god and config.god_max_ticks) or config.max_ticks
        observation, _ = self._env.reset(seed=config.seed + index, options=options or None)
        return Episode(
            **_run(self._stepper, observation, policy, limit),
            seed=config.seed + index,
            source=config.source,
            policy=name,
            options=options,
        )

    def close(self) -> None:
        """Closes the environment."""
        self._env.close()


class _PlainStepper:
    """Steps an environment that is no twin: a step is a tick, and nothing is known but frames and rewards."""

    frames_per_step = 1

    def __init__(self, env: gym.Env) -> None:
        self._env = env

    def variables(self) -> dict[str, float]:
        return {}

    def step_ticks(self, actions: np.ndarray) -> SimpleNamespace:
        frame, reward, terminated, truncated, _ = self._env.step(actions[0])
        rewards = np.array([reward], np.float32)
        return SimpleNamespace(
            frames=frame[None], rewards=rewards, terminated=terminated, truncated=truncated, variables={}
        )


def _make_env(config: CollectConfig) -> gym.Env:
    try:
        env = gym.make(config.env, **config.env_kwargs)
    except (gym.error.UnregisteredEnv, ModuleNotFoundError) as error:
        raise ConfigError(
            f"env={config.env!r} is unknown ({error}); expected a Gymnasium id, or module:id where importing "
            "the module registers it"
        ) from error
    if is_image_space(env.observation_space):
        return env
    if env.render_mode != "rgb_array":
        raise ConfigError(
            f"env={config.env!r} observes {env.observation_space}; expected uint8 [H, W, 3] images, or "
            "env_kwargs with render_mode=rgb_array to record what it renders"
        )
    return AddRenderObservation(env, render_only=True)


def _run(stepper: Any, first: np.ndarray, policy: Policy, limit: int) -> dict[str, Any]:
    """Plays from the reset frame to the end or the limit; what it saw, as fields of an `Episode`."""
    frames, actions, rewards = [first[None]], [], []
    variables = {name: [np.array([value], np.float32)] for name, value in stepper.variables().items()}
    count, terminated, truncated = 0, False, False
    while not (terminated or truncated):
        chosen = policy(frames[-1], min(stepper.frames_per_step, limit - count))
        ticks = stepper.step_ticks(chosen)
        frames.append(ticks.frames)
        actions.append(chosen[: len(ticks.frames)])
        rewards.append(ticks.rewards)
        for name, values in variables.items():
            values.append(ticks.variables[name])
        count += len(ticks.frames)
        terminated = bool(ticks.terminated)
        truncated = not terminated and (bool(ticks.truncated) or count >= limit)
    return {
        "frames": np.concatenate(frames),
        "actions": np.concatenate(actions),
        "rewards": np.concatenate(rewards),
        "terminated": terminated,
        "truncated": truncated,
        "variables": {name: np.concatenate(values) for name, values in variables.items()},
    }


def _episodes(config: CollectConfig, shard: int) -> range:
    """The indices of the episodes of a shard."""
    start, stop = shard * config.shard_episodes, (shard + 1) * config.shard_episodes
    return range(start, min(stop, config.episodes) if config.episodes else stop)


def _shards(config: CollectConfig) -> Iterator[int]:
    """The shards that hold an episode; without end when only ticks are counted."""
    return itertools.takewhile(lambda shard: len(_episodes(config, shard)), itertools.count())


def _usable(config: CollectConfig, writer: StoreWriter, shard: int) -> ShardSummary | None:
    """What a finished shard holds for this collection; None when it lacks episodes or is not asked for."""
    summary, wanted = writer.summary(shard), len(_episodes(config, shard))
    return summary.first(wanted) if 0 < wanted <= len(summary.ticks) else None


def _dataset(config: CollectConfig, done: Mapping[int, ShardSummary]) -> list[ShardSummary]:
    """The first shards without a gap, up to the one that completes the collection."""
    dataset: list[ShardSummary] = []
    while len(dataset) in done and not _is_complete(config, dataset):
        dataset.append(done[len(dataset)])
    return dataset


def _is_complete(config: CollectConfig, dataset: Sequence[ShardSummary]) -> bool:
    episodes = sum(len(summary.ticks) for summary in dataset)
    ticks = sum(sum(summary.ticks) for summary in dataset)
    return bool((config.episodes and episodes >= config.episodes) or (config.ticks and ticks >= config.ticks))


def _check_settings(folder: Path, config: CollectConfig) -> None:
    """Writes the settings into a new folder; into one that has data, only the same settings may add."""
    path = folder / SETTINGS_FILE_NAME
    settings = config.recorded()
    if not path.exists():
        if (folder / "data" / "metadata.json").exists() or (folder / "metadata.json").exists():
            raise DatasetError(
                f"{str(folder)!r} holds a dataset of another origin; choose another folder with out="
            )
        write_json(path, settings)
        return
    before = json.loads(path.read_text())
    changed = [name for name in sorted({*before, *settings}) if before.get(name) != settings.get(name)]
    if changed:
        differences = "; ".join(
            f"{name}: {settings.get(name)!r}, before {before.get(name)!r}" for name in changed
        )
        raise ConfigError(
            f"{str(folder)!r} was collected with other settings ({differences}); use the same ones, or "
            "another folder"
        )


@contextmanager
def _bar(
    config: CollectConfig, dataset: Sequence[ShardSummary], visible: bool
) -> Iterator[Callable[[int], None]]:
    """A progress bar; gives the function that is told the ticks of every new episode."""
    by_ticks = config.ticks > 0
    done = sum(sum(summary.ticks) if by_ticks else len(summary.ticks) for summary in dataset)
    started, ticks = time.perf_counter(), 0
    with tqdm(
        desc=config.source,
        total=config.ticks if by_ticks else config.episodes,
        initial=done,
        unit="tick" if by_ticks else "episode",
        unit_scale=by_ticks,
        disable=not visible,
    ) as bar:

        def advance(amount: int) -> None:
            nonlocal ticks
            ticks += amount
            bar.set_postfix_str(f"{ticks / (time.perf_counter() - started):.0f} ticks/s", refresh=False)
            bar.update(amount if by_ticks else 1)

        yield advance


def _figures(
    config: CollectConfig, dataset: Sequence[ShardSummary], resumed: int, seconds: float
) -> dict[str, Any]:
    ticks = np.concatenate([summary.ticks for summary in dataset])
    policies = np.concatenate([summary.policies for summary in dataset])
    ended = np.concatenate([summary.terminated for summary in dataset])
    returns = np.concatenate([summary.returns for summary in dataset])
    new = int(ticks.sum()) - resumed
    return {
        "source": config.source,
        "episodes": len(ticks),
        "ticks": int(ticks.sum()),
        "terminated": int(ended.sum()),
        "mean_return": float(returns.mean()),
        "policies": {
            str(name): {
                "episodes": int((policies == name).sum()),
                "mean_ticks": float(ticks[policies == name].mean()),
            }
            for name in np.unique(policies)
        },
        "ticks_this_run": new,
        "seconds_this_run": seconds,
        "ticks_per_second_this_run": new / seconds if new else None,
    }
