import dataclasses
from typing import Any

import numpy as np
import pytest

from cfworld import World
from cfworld.envs.world_env import WorldEnv
from cfworld.errors import (
    DonatedStateError,
    StateError,
)
from cfworld.memory import MemoryConfig
from tests.envs.episodes import ACTIONS, play, same
from tests.toy import toy_world


@pytest.mark.parametrize("obs", ["frame", "latent"])
def test_a_fork_repeats_what_followed_any_number_of_times(world: World, obs: str) -> None:
    env = WorldEnv(world, obs=obs)
    env.reset(seed=3)
    play(env, [1, 2])
    snapshot = env.get_state()
    shown = env.frames()
    first = play(env, ACTIONS)
    for _ in range(2):
        env.reset(seed=9)
        env.set_state(snapshot)
        assert np.array_equal(env.frames(), shown)
        assert same(play(env, ACTIONS), first)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("wrong", [None, 3, "snapshot", {}])
def test_what_is_no_snapshot_is_refused(world: World, wrong: Any) -> None:
    env = WorldEnv(world)
    with pytest.raises(StateError, match=r"expected what get_state\(\) returned"):
        env.set_state(wrong)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: toy_world(name="another"), "snapshot of another/.*; expected one of toy/"),
        (lambda: toy_world(seed=1), "expected one of toy/"),
        (lambda: toy_world(memory=MemoryConfig(num_sink=1, num_slow=1, num_fast=4, consolidate_every=2)), "and memory"),
    ],
)
def test_a_snapshot_of_another_world_is_refused_and_changes_nothing(world: World, other: Any, message: str) -> None:
    foreign = WorldEnv(other())
    foreign.reset(seed=0)
    env, twin = WorldEnv(world), WorldEnv(world)
    env.reset(seed=0)
    twin.reset(seed=0)
    with pytest.raises(StateError, match=message):
        env.set_state(foreign.get_state())
    assert same(play(env, [1]), play(twin, [1]))


def test_a_snapshot_of_two_rows_or_one_given_away_is_refused(world: World) -> None:
    env = WorldEnv(world)
    env.reset(seed=0)
    snapshot = env.get_state()
    with pytest.raises(StateError, match="one row"):
        env.set_state(dataclasses.replace(snapshot, world=snapshot.world.select([0, 0])))
    world.step(snapshot.world, [0], donate=True)
    with pytest.raises(DonatedStateError):
        env.set_state(snapshot)


def test_a_fork_lives_in_another_environment_too_and_leads_to_the_same_next_episode(world: World) -> None:
    env, other = WorldEnv(world, horizon=5), WorldEnv(world, horizon=5)
    env.reset(seed=3)
    play(env, [1, 2])
    other.set_state(env.get_state())
    assert same(play(env, ACTIONS), play(other, ACTIONS))
    assert np.array_equal(env.reset()[0], other.reset()[0])


def test_the_horizon_is_part_of_the_state(world: World) -> None:
    env = WorldEnv(world, horizon=3, termination_fn=lambda step: [False])
    env.reset(seed=0)
    env.step(0)
    snapshot = env.get_state()
    for _ in range(2):
        env.set_state(snapshot)
        assert [step[2:4] for step in play(env, ACTIONS)] == [(False, False), (False, True)]
