"""Collection: episodes of a Gymnasium environment become a dataset, the same with any number of workers."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import AddRenderObservation
from tqdm import tqdm

from cfworld.data.action_space import nested
from cfworld.data.collection import CollectConfig, Collection
from cfworld.data.contact_sheet import contact_sheet
from cfworld.data.episode import Episode
from cfworld.data.policies import Policy, PolicyFactory, draw_policy, held, make_policy
from cfworld.data.shards import ShardSummary, StoreWriter
from cfworld.data.store import EpisodeStore, is_image_space
from cfworld.data.workers import run_jobs
from cfworld.errors import ConfigError, DatasetError
from cfworld.files import write_json

__all__ = ["collect"]

FIGURES_FILE_NAME = "figures.json"
PUBLISH_EVERY = 10.0
"""Seconds between two versions of a growing dataset's index."""


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
        DatasetError: The folder holds something else, another process is writing to it, or the environment gives what
            is no frame or no number.
    """
    folder = Path(config.out)
    with closing(EpisodeMaker(config, factories or {})) as maker:
        writer = maker.writer()
    with writer.locked():
        collection = Collection(config, writer)
        writer.discard_leftovers()
        resumed, started = collection.num_ticks, time.perf_counter()
        _collect_missing(collection, writer, ShardJob(config, dict(factories or {})), config, progress)
        figures = collection.figures() | {"runs": _runs(folder)}
        if collection.num_ticks > resumed:
            seconds = time.perf_counter() - started
            ticks = collection.num_ticks - resumed
            run = {"ticks": ticks, "seconds": seconds, "ticks_per_second": ticks / seconds}
            figures["runs"].append(run | {"workers": config.workers})
        write_json(folder / FIGURES_FILE_NAME, figures)
        contact_sheet(EpisodeStore.open(folder), folder / "contact_sheet.png")
    return figures


def _collect_missing(
    collection: Collection, writer: StoreWriter, job: "ShardJob", config: CollectConfig, progress: bool
) -> None:
    published = -PUBLISH_EVERY
    with (
        _bar(config, collection, progress) as advance,
        closing(run_jobs(job, collection.missing(), config.workers, advance)) as results,
    ):
        while not collection.is_complete:
            collection.add(*next(results))
            if time.perf_counter() - published > PUBLISH_EVERY and collection.dataset:
                writer.publish(collection.dataset)
                published = time.perf_counter()
    writer.publish(collection.dataset)


def _runs(folder: Path) -> list[dict[str, Any]]:
    """How fast the earlier runs of this collection were."""
    path = folder / FIGURES_FILE_NAME
    return json.loads(path.read_text(encoding="utf-8")).get("runs", []) if path.exists() else []


class ShardJob:
    """Records and writes shards: what a worker does."""

    worker: ClassVar[str] = "collecting worker"
    advice: ClassVar[str] = "finished shards are kept: run the same command again"

    def __init__(self, config: CollectConfig, factories: Mapping[str, PolicyFactory]) -> None:
        self._config = config
        self._factories = factories
        self._maker: EpisodeMaker | None = None

    def __call__(self, number: int, advance: Callable[[int], None]) -> ShardSummary:
        """Makes shard `number`; tells `advance` the ticks of every episode."""
        self._maker = self._maker or EpisodeMaker(self._config, self._factories)
        indices = self._config.episodes_of(number)
        episodes = self._episodes(self._maker, indices, advance)
        return self._maker.writer().write_shard(number, indices.start, episodes)

    @staticmethod
    def _episodes(maker: "EpisodeMaker", indices: range, advance: Callable[[int], None]) -> Iterator[Episode]:
        for index in indices:
            episode = maker.episode(index)
            yield episode
            advance(len(episode))

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
        name = draw_policy(config.policies, rng)
        god = bool(rng.random() < config.god_share)
        policy = make_policy(name, rng, self._env.action_space, self._factories)
        if config.hold_share and rng.random() < config.hold_share:
            policy = held(policy, config.hold_ticks)
        options = {"god": True} if god else {}
        limit = (god and config.god_max_ticks) or config.max_ticks
        observation, _ = self._env.reset(seed=config.seed + index, options=options or None)
        recorded = _run(self._stepper, observation, policy, limit)
        try:
            return Episode(**recorded, seed=config.seed + index, source=config.source, policy=name, options=options)
        except DatasetError as error:
            raise DatasetError(f"episode {index} of {config.source} cannot be recorded: {error}") from error

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
        frame, reward, terminated, truncated, _ = self._env.step(nested(self._env.action_space, actions[0]))
        rewards = np.array([reward], np.float32)
        return SimpleNamespace(
            frames=np.array(frame)[None], rewards=rewards, terminated=terminated, truncated=truncated, variables={}
        )


def _make_env(config: CollectConfig) -> gym.Env:
    try:
        env = gym.make(config.env, **config.env_kwargs)
    except (gym.error.UnregisteredEnv, ModuleNotFoundError) as error:
        raise ConfigError(
            f"got env={config.env!r}, which is unknown ({error}); expected a Gymnasium id, or module:id where "
            "importing the module registers it"
        ) from error
    except TypeError as error:
        if not config.env_kwargs:
            raise
        raise ConfigError(
            f"got env_kwargs={config.env_kwargs}, which env={config.env!r} does not take ({error}); expected keyword "
            "arguments of that environment"
        ) from error
    if is_image_space(env.observation_space):
        return env
    if env.render_mode != "rgb_array":
        raise ConfigError(
            f"got env={config.env!r}, which observes {env.observation_space}; expected uint8 [H, W, 3] images, or "
            "env_kwargs with render_mode=rgb_array to record what it renders"
        )
    return AddRenderObservation(env, render_only=True)


def _run(stepper: Any, first: np.ndarray, policy: Policy, limit: int) -> dict[str, Any]:
    """Plays from the reset frame to the end or the limit; what it saw, as fields of an `Episode`."""
    frames, actions, rewards = [first[None].copy()], [], []
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


@contextmanager
def _bar(config: CollectConfig, collection: Collection, visible: bool) -> Iterator[Callable[[int], None]]:
    """A progress bar; gives the function that is told the ticks of every new episode."""
    most = config.episodes * max(config.max_ticks, config.god_max_ticks)
    by_ticks = config.ticks > 0 and not 0 < most <= config.ticks
    started, ticks = time.perf_counter(), 0
    with tqdm(
        desc=config.source,
        total=config.ticks if by_ticks else config.episodes,
        initial=collection.num_ticks if by_ticks else collection.num_episodes,
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
