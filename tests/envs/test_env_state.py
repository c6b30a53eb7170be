import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from cfworld import Start, World
from cfworld.envs import EnvState, WorldEnv, WorldVectorEnv
from cfworld.errors import CheckpointError, ConfigError, DonatedStateError, StartError, StateError
from cfworld.memory import MemoryConfig
from cfworld.world import Ends
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
        (lambda: toy_world(name="another"), "state of another/.*; expected one of this world, toy/"),
        (lambda: toy_world(seed=1), "expected one of this world, toy/"),
        (
            lambda: toy_world(memory=MemoryConfig(num_sink=1, num_slow=1, num_fast=4, consolidate_every=2)),
            "or another memory",
        ),
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


def test_a_snapshot_on_another_device_is_refused(world: World) -> None:
    env = WorldEnv(world)
    env.reset(seed=0)
    snapshot = env.get_state()
    elsewhere = dataclasses.replace(snapshot.world, seeds=snapshot.world.seeds.to("meta"))
    with pytest.raises(StateError, match="got a state on meta; this world is on cpu"):
        env.set_state(dataclasses.replace(snapshot, world=elsewhere))


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


@pytest.mark.usefixtures("one_thread")
def test_one_row_goes_from_either_environment_to_the_other() -> None:
    world = toy_world(ends=Ends.NEVER)
    env, envs = WorldEnv(world), WorldVectorEnv(3, world)
    env.reset(seed=3)
    envs.reset(seed=8)
    env.step(1)
    envs.set_state(env.get_state(), rows=[1])
    expected = play(env, ACTIONS)
    for action, (observation, reward, *_) in zip(ACTIONS, expected, strict=True):
        seen, rewards, *_ = envs.step([0, action, 0])
        assert np.array_equal(seen[1], observation)
        assert rewards[1] == reward
    env.set_state(envs.get_state(rows=[2]))
    assert np.array_equal(env.step(2)[0], envs.step([0, 0, 2])[0][2])


def test_setting_rows_leaves_the_bits_of_the_others_alone(world: World) -> None:
    envs = WorldVectorEnv(3, world)
    envs.reset(seed=0)
    begun = envs.get_state()
    envs.step([0, 1, 2])
    before = envs.get_state()
    envs.set_state(begun.select([2, 0]), rows=np.array([True, False, True]))
    after = envs.get_state()
    assert after.seeds == (2, 1, 0)
    assert after.steps.tolist() == [0, 1, 0]
    assert bits(after.select([1])) == bits(before.select([1]))
    assert bits(EnvState.cat([after.select([2]), before.select([1]), after.select([0])])) == bits(
        EnvState.cat([begun.select([0]), before.select([1]), begun.select([2])])
    )


def test_writing_into_what_a_step_returned_leaves_the_state_alone(world: World) -> None:
    envs = WorldVectorEnv(2, world, obs="frames", info_frames=True)
    for call in (lambda: envs.reset(seed=0), lambda: envs.step([0, 1])):
        *arrays, infos = call()
        snapshot, frames = envs.get_state(), envs.frames()
        before, shown = bits(snapshot), frames.copy()
        for returned in (*arrays, *infos.values(), frames):
            if returned.dtype != object:
                returned.fill(0)
        assert bits(snapshot) == before
        assert np.array_equal(envs.frames(), shown)


def test_a_mask_of_one_info_is_not_that_of_another(world: World) -> None:
    infos = WorldVectorEnv(2, world).reset(seed=0)[1]
    infos["_start"][:] = False
    assert infos["_end_frame"].all()


def test_snapshots_that_do_not_fit_the_rows_are_refused(world: World) -> None:
    envs = WorldVectorEnv(3, world)
    envs.reset(seed=0)
    state = envs.get_state()
    for wrong, rows in ((state.select([0]), None), (state, [0, 1]), (state.select([0]), [5])):
        with pytest.raises(StateError):
            envs.set_state(wrong, rows)
    with pytest.raises(StateError, match="got a snapshot of 3 rows; expected one row"):
        WorldEnv(world).set_state(state)
    assert bits(envs.get_state()) == bits(state)


@pytest.mark.usefixtures("as_users_run_it", "one_thread")
def test_forks_of_a_hundred_random_moments_share_the_future_of_the_same_actions_and_no_other() -> None:
    rng = np.random.default_rng(0)
    envs = WorldVectorEnv(10, toy_world(ends=Ends.NEVER), obs="latent")
    envs.reset(seed=0)
    moments = sorted(divmod(int(moment), 10) for moment in rng.choice(15 * 10, size=100, replace=False))
    actions = rng.integers(3, size=(17, 10))
    forks: list[EnvState] = []
    seen: list[Any] = []
    for step, given in enumerate(actions):
        forks += [envs.fork(3, row).get_state() for moment, row in moments if moment == step]
        seen.append(envs.step(given))

    side_by_side = WorldVectorEnv(300, envs.world, obs="latent")
    side_by_side.set_state(EnvState.cat(forks))
    for ahead in range(2):
        same = [actions[step + ahead, row] for step, row in moments]
        given = np.array([(action, action, (action + 1 + ahead) % 3) for action in same])
        observation, reward, *_, infos = side_by_side.step(given.flatten())
        for values, of_step in ((observation, 0), (reward, 1), (infos["hazard"], "hazard")):
            values = values.reshape(100, 3, -1)
            assert np.array_equal(values[:, 0], values[:, 1])
            assert (values[:, 0] != values[:, 2]).any(axis=1).all()
            for fork, (step, row) in zip(values, moments, strict=True):
                original = seen[step + ahead]
                expected = original[4][of_step] if of_step == "hazard" else original[of_step]
                assert np.array_equal(fork[0], np.ravel(expected[row]))


@pytest.mark.usefixtures("one_thread")
def test_a_fork_may_have_noise_of_its_own(world: World) -> None:
    envs = WorldVectorEnv(2, world, autoreset_mode="NextStep")
    envs.reset(seed=4)
    envs.step([0, 1])
    forks = envs.fork(3, row=1, seeds=[5, 6, 5])
    assert forks.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    latents = [forks.get_state().world.latents, envs.get_state([1]).world.latents]
    assert torch.equal(latents[0][0], latents[1][0])
    observation = forks.step([2, 2, 2])[0]
    assert np.array_equal(observation[0], envs.step([0, 2])[0][1]), "5 is the row's own seed"
    assert np.array_equal(observation[0], observation[2])
    assert not np.array_equal(observation[0], observation[1])
    assert forks.get_state().seeds == (5, 6, 5)
    with pytest.raises(ConfigError, match="got 2 seeds"):
        envs.fork(3, row=1, seeds=[5, 6])


def test_a_fork_is_made_like_its_environment_unless_it_is_told_otherwise(world: World) -> None:
    envs = WorldVectorEnv(2, world, autoreset_mode="NextStep", tensors=True)
    envs.reset(seed=0)
    envs.reset()
    alike, other = envs.fork(2, row=1), envs.fork(2, row=1, autoreset_mode="Disabled", tensors=False)
    assert (alike.autoreset_mode, alike.tensors) == (AutoresetMode.NEXT_STEP, True)
    assert (other.autoreset_mode, other.tensors) == (AutoresetMode.DISABLED, False)
    assert alike.get_state().episodes.tolist() == [1, 1]
    assert envs.fork(2, row=1, seeds=7).get_state().episodes.tolist() == [0, 0], "of seeds of their own"


def test_a_snapshot_keeps_its_own_horizon_until_its_episode_ends(world: World) -> None:
    short, long = WorldEnv(world, horizon=2), WorldEnv(world, horizon=9)
    for env in (short, long):
        env.reset(seed=0)
    long.set_state(short.get_state())
    assert [long.step(0)[3] for _ in range(2)] == [False, True]
    long.reset()
    assert long.get_state().horizon.tolist() == [9]


@pytest.mark.usefixtures("one_thread")
def test_a_saved_state_goes_on_equally_in_a_new_process(tmp_path: Path, world: World) -> None:
    envs = WorldVectorEnv(3, world, horizon=4)
    given = Start(frames=np.zeros((8, 64, 64, 3), np.uint8), actions=np.zeros(8, np.int64))
    envs.reset(seed=[2**64 - 1, 1, 2], options={"start": [given, 3, None]})
    envs.step([0, 1, 2])
    envs.get_state().save(tmp_path / "state.safetensors")
    starts = envs.get_state().starts
    assert str(starts[0]).startswith("sha256:")
    assert starts[1] == 3
    program = """
import sys
import numpy as np
import torch
from cfworld.envs import EnvState, WorldEnv, WorldVectorEnv
from tests.toy import toy_world
torch.set_num_threads(1)
world = toy_world()
envs, env = WorldVectorEnv(3, world, horizon=4), WorldEnv(world)
state = EnvState.load(sys.argv[1] + "/state.safetensors")
envs.set_state(state)
env.set_state(state.select([1]))
alone = env.step(1)[0]
np.savez(sys.argv[1] + "/seen.npz", alone, *[envs.step([2, 1, 0])[0] for _ in range(4)])
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program, str(tmp_path)], check=True)
    seen = np.load(tmp_path / "seen.npz")
    alone, *together = (seen[name] for name in seen.files)
    assert np.array_equal(alone, together[0][1])
    for observation in together:
        assert np.array_equal(envs.step([2, 1, 0])[0], observation)
    assert len(together) == 4
    loaded = EnvState.load(tmp_path / "state.safetensors")
    assert loaded.seeds == (2**64 - 1, 1, 2)
    assert loaded.starts == starts


def test_what_is_no_saved_state_is_refused(tmp_path: Path, world: World) -> None:
    path = tmp_path / "state.safetensors"
    with pytest.raises(CheckpointError, match=r"state\.safetensors"):
        EnvState.load(path)
    path.write_bytes(b"no state")
    with pytest.raises(CheckpointError, match=r"EnvState\.save"):
        EnvState.load(path)
    world.initial(seeds=[0])[0].save(path)
    with pytest.raises(CheckpointError, match=r"EnvState\.save"):
        EnvState.load(path)


def test_a_donated_state_is_good_for_nothing(tmp_path: Path, world: World) -> None:
    envs = WorldVectorEnv(2, world)
    envs.reset(seed=0)
    state = envs.get_state()
    world.step(state.world, [0, 0], donate=True)
    for call in (
        lambda: state.select([0]),
        lambda: EnvState.cat([state]),
        lambda: state.save(tmp_path / "state.safetensors"),
        lambda: envs.set_state(state),
        lambda: envs.fork(2, 0),
        lambda: envs.step([0, 0]),
    ):
        with pytest.raises(DonatedStateError):
            call()


def bits(state: EnvState) -> list[Any]:
    """Everything in a state, comparable."""
    tensors = {**state.world.tensors(), "end_frame": state.end_frame}
    arrays = [state.steps, state.horizon, state.episodes, state.ended]
    return [{name: value.tolist() for name, value in tensors.items()}, state.seeds, [a.tolist() for a in arrays]]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("seeds", "said"),
    [
        ([None, 1], "expected an integer for every copy, or seeds=None for copies that share the noise"),
        ([None, None], "expected an integer for every copy, or seeds=None for copies that share the noise"),
        ("ab", "expected an integer, a sequence of one per row, or None"),
        (1.5, "expected an integer, a sequence of one per row, or None"),
        (True, "expected an integer, a sequence of one per row, or None"),
        ([1, 2.5], "got seeds=2.5; expected integers of at least 0"),
        ([True, 1], "got seeds=True; expected integers of at least 0"),
        ([1, -1], "got seeds=-1; expected integers of at least 0"),
        ([1, "2"], "got seeds='2'; expected integers of at least 0"),
    ],
)
def test_seeds_of_a_fork_that_are_none_are_refused_by_name(world: World, seeds: Any, said: str) -> None:
    env, envs = WorldEnv(world), WorldVectorEnv(2, world)
    env.reset(seed=0)
    envs.reset(seed=0)
    for fork in (lambda: env.fork(2, seeds=seeds), lambda: envs.fork(2, row=0, seeds=seeds)):
        with pytest.raises(ConfigError, match="got seeds=") as refused:
            fork()
        assert said in str(refused.value)


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("seeds", [None, 3, "a", [None], [1.5]])
def test_a_state_is_reseeded_with_integers_alone(world: World, seeds: Any) -> None:
    state, _ = world.initial([0])
    with pytest.raises(StartError, match="seeds are"):
        state.reseeded(seeds)
