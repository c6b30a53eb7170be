"""What was watched of the dream is kept, and not watched again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cfworld import World
from cfworld.agents.config import AgentTrainConfig, ForesightConfig
from cfworld.agents.watching import watch_all, watch_part
from cfworld.data import EpisodeStore
from cfworld.errors import CheckpointError
from tests.agents.test_train import settings
from tests.counting import counting_dataset, counting_episode
from tests.toy import toy_world


@pytest.fixture(scope="module")
def world() -> World:
    return toy_world()


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> AgentTrainConfig:
    data = counting_dataset(tmp_path_factory.mktemp("data") / "episodes", counting_episode(60), counting_episode(40))
    how = ForesightConfig(steps=12, updates=3, horizon=12)
    return settings(own_actions=True, starts=str(data), foresight=how, total_steps=20)


def test_every_part_shows_other_moments(world: World, config: AgentTrainConfig) -> None:
    assert config.starts is not None
    store = EpisodeStore.open(config.starts)
    parts = [watch_part(config, world, store, number).seen[:, 0] for number in (0, 1, 0)]
    assert parts[0].equal(parts[2])
    assert not parts[0].equal(parts[1])


def test_what_was_watched_is_not_watched_again(world: World, config: AgentTrainConfig, tmp_path: Path) -> None:
    told: list[int] = []
    first = watch_all(config, world, tmp_path, told.append)
    kept, lost = sorted(tmp_path.glob("*/*.pt"))
    when = kept.stat().st_mtime_ns
    lost.unlink()
    again = watch_all(config, world, tmp_path, told.append)
    assert kept.stat().st_mtime_ns == when
    assert told == [6, 6, 6, 6], "2 episodes of 3 steps"
    assert first.hazard.shape == (4, 3)
    assert first.seen.equal(again.seen)


@pytest.mark.parametrize("change", [{"seed": 1}, {"num_envs": 3}, {"explore": 0.2}, {"horizon": 8}])
def test_what_was_watched_under_other_settings_is_not_taken_for_it(
    world: World, config: AgentTrainConfig, tmp_path: Path, change: dict[str, Any]
) -> None:
    how = {name: value for name, value in change.items() if hasattr(config.foresight, name)}
    rest = {name: value for name, value in change.items() if name not in how}
    for each in (config, replace(config, **rest, foresight=replace(config.foresight, **how))):
        watch_all(each, world, tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_futures_of_another_world_or_dataset_are_not_taken_for_these(
    world: World, config: AgentTrainConfig, tmp_path: Path
) -> None:
    other = counting_dataset(tmp_path / "other", replace(counting_episode(60), seed=8), counting_episode(40))
    watch_all(config, world, tmp_path / "kept")
    watch_all(config, toy_world(seed=1), tmp_path / "kept")
    watch_all(replace(config, starts=str(other)), world, tmp_path / "kept")
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_a_future_is_as_long_as_its_horizon_or_a_little_longer() -> None:
    assert [ForesightConfig(horizon=ticks).num_steps(4) for ticks in (1, 4, 8, 9)] == [1, 1, 2, 3]


def test_a_damaged_part_is_named(world: World, config: AgentTrainConfig, tmp_path: Path) -> None:
    watch_all(config, world, tmp_path)
    damaged = min(tmp_path.glob("*/*.pt"))
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(CheckpointError, match=f"{damaged.name} is damaged .*delete it"):
        watch_all(config, world, tmp_path)
