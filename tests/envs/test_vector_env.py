from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from cfworld import Start, World
from cfworld.envs import WorldEnv, WorldVectorEnv
from cfworld.envs.rendering import tiled
from cfworld.errors import ActionError, ConfigError, EnvironmentClosedError, ResetNeededError, StartError
from cfworld.model import ActionConfig
from tests.toy import toy_world


@pytest.mark.parametrize("name", ["World", "DoomTakeCover", "Panorama", "DoomRooms"])
def test_every_world_has_a_vector_entry_point(name: str) -> None:
    assert gym.spec(f"cfworld/{name}-v0").vector_entry_point == "cfworld.envs.vector_env:WorldVectorEnv"


@pytest.mark.parametrize("obs", ["frames", "latent"])
def test_spaces_contain_what_is_returned(world: World, obs: str) -> None:
    envs = gym.make_vec(
        "cfworld/World-v0", num_envs=3, vectorization_mode="vector_entry_point", world=world, obs=obs, horizon=2
    )
    assert isinstance(envs, WorldVectorEnv)
    observation, _ = envs.reset(seed=0)
    assert envs.observation_space.contains(observation)
    envs.action_space.seed(0)
    for _ in range(3):
        observation, reward, terminated, truncated, infos = envs.step(envs.action_space.sample())
        assert envs.observation_space.contains(observation)
        assert [(array.dtype, array.shape) for array in (reward, terminated, truncated)] == [
            (np.float64, (3,)),
            (np.bool_, (3,)),
            (np.bool_, (3,)),
        ]
        assert all(envs.single_observation_space.contains(last) for last in infos.get("final_obs", []))
    envs.close()


def test_a_continuous_world_has_a_box_of_actions_for_each_row() -> None:
    envs = WorldVectorEnv(2, toy_world(actions=ActionConfig(low=[-1.0, 0.0], high=[1.0, 2.0])))
    assert envs.action_space.shape == (2, 2)
    envs.reset(seed=0)
    envs.step(np.array([[0.5, 1.5], [-1.0, 0.0]], np.float32))
    with pytest.raises(ActionError, match=r"shape \(2,\); expected \(2, 2\)"):
        envs.step(np.array([0.5, 1.5], np.float32))


def test_row_i_has_the_seed_plus_i_and_a_list_names_each(world: World) -> None:
    envs, single = WorldVectorEnv(3, world), WorldEnv(world)
    starts = [single.reset(seed=seed)[1]["start"] for seed in (20, 21, 22)]
    assert envs.reset(seed=20)[1]["start"].tolist() == starts
    assert envs.get_state().seeds == (20, 21, 22)
    envs.reset(seed=[22, 20, None])
    state = envs.get_state()
    assert state.seeds == (22, 20, 22)
    assert state.episodes.tolist() == [0, 0, 1]


def test_rows_without_a_seed_draw_their_own_once_and_go_on(world: World) -> None:
    envs, other = WorldVectorEnv(3, world), WorldVectorEnv(3, world)
    envs.reset()
    other.reset()
    seeds = envs.get_state().seeds
    assert len({*seeds, *other.get_state().seeds}) == 6
    envs.reset()
    assert envs.get_state().seeds == seeds
    assert envs.get_state().episodes.tolist() == [1, 1, 1]


def test_a_refused_reset_leaves_the_random_stream_as_it_was(world: World) -> None:
    envs, untouched = WorldVectorEnv(3, world), WorldVectorEnv(3, world)
    for one in (envs, untouched):
        one.reset(seed=1)
    with pytest.raises(StartError):
        envs.reset(seed=3, options={"start": 9999})
    assert envs.np_random.random() == untouched.np_random.random()
    assert envs.np_random_seed == untouched.np_random_seed


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("seed", [[1, 2], [1, 2, -3], -1, 1.5, "123", [1, 2, True]])
def test_wrong_seeds_are_refused(world: World, seed: Any) -> None:
    with pytest.raises(ConfigError, match="seed"):
        WorldVectorEnv(3, world).reset(seed=seed)


def test_resetting_one_row_leaves_the_bits_of_the_others_alone(world: World) -> None:
    envs, other = WorldVectorEnv(3, world), WorldVectorEnv(3, world)
    for each in (envs, other):
        each.reset(seed=0)
        each.step([0, 1, 2])
    options = {"reset_mask": np.array([False, True, False])}
    observation, infos = envs.reset(options=options)
    assert list(options) == ["reset_mask"]
    assert infos["_start"].tolist() == [False, True, False]
    assert np.array_equal(observation[[0, 2]], other.frames()[[0, 2], -1])
    for _ in range(3):
        one, two = envs.step([2, 1, 0]), other.step([2, 1, 0])
        for left, right in zip(one[:4], two[:4], strict=True):
            assert np.array_equal(left[[0, 2]], right[[0, 2]])
        assert not np.array_equal(one[0][1], two[0][1])
    ours, theirs = envs.get_state([0, 2]).world.tensors(), other.get_state([0, 2]).world.tensors()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ([True, False, True], TypeError),
        (np.array([1, 0, 1]), TypeError),
        (True, TypeError),
        (np.array([True, False]), ValueError),
        (np.zeros(3, np.bool_), ValueError),
    ],
)
def test_a_wrong_mask_is_refused_as_gymnasium_refuses_it(world: World, mask: Any, error: type[Exception]) -> None:
    envs = WorldVectorEnv(3, world)
    envs.reset(seed=0)
    with pytest.raises(error, match="reset_mask"):
        envs.reset(options={"reset_mask": mask})


def test_an_unknown_option_is_answered_with_those_that_there_are(world: World) -> None:
    with pytest.raises(ConfigError, match=r"\['reset_masks'\]; expected only \"reset_mask\" and \"start\""):
        WorldVectorEnv(2, world).reset(options={"reset_masks": np.array([True, True])})


def test_the_first_reset_is_one_of_all_rows(world: World) -> None:
    with pytest.raises(ResetNeededError, match="all rows"):
        WorldVectorEnv(2, world).reset(options={"reset_mask": np.array([True, False])})


def test_one_start_is_for_all_rows_and_a_list_has_one_for_each(world: World) -> None:
    envs = WorldVectorEnv(3, world, starts=[4])
    assert envs.reset(seed=0, options={"start": 2})[1]["start"].tolist() == [2, 2, 2]
    assert envs.reset(seed=0, options={"start": [1, None, 0]})[1]["start"].tolist() == [1, 4, 0]
    given = Start(frames=np.zeros((8, 64, 64, 3), np.uint8), actions=np.zeros(8, np.int64))
    start = envs.reset(seed=0, options={"start": [given, None, 0]})[1]["start"]
    assert start[0].startswith("sha256:")
    assert start[1:].tolist() == [4, 0]
    with pytest.raises(ConfigError, match="got 2 starts; expected one start, or one for each of the 3 rows"):
        envs.reset(options={"start": [1, 2]})
    with pytest.raises(StartError):
        envs.reset(options={"start": [1, 2, 99]})


def test_with_tensors_the_same_comes_without_arrays(world: World) -> None:
    arrays, tensors = WorldVectorEnv(2, world, horizon=2), WorldVectorEnv(2, world, horizon=2, tensors=True)
    arrays.reset(seed=0)
    assert isinstance(tensors.reset(seed=0)[0], torch.Tensor)
    for _ in range(3):
        expected, found = arrays.step([1, 2]), tensors.step(torch.tensor([1, 2]))
        for array, tensor in zip(expected[:4], found[:4], strict=True):
            assert isinstance(tensor, torch.Tensor)
            assert not tensor.is_inference()
            assert np.array_equal(array, tensor.numpy())
        assert expected[4].keys() == found[4].keys()
        heads = (infos.get("final_info", infos) for infos in (expected[4], found[4]))
        values, tensor = (infos["reward_frames"] for infos in heads)
        assert np.array_equal(values, tensor.numpy())
    assert isinstance(tensors.frames(), torch.Tensor)


@pytest.mark.parametrize("actions", [[0], [0, 3], 1, [[0, 1]], [0.0, 1.0], None])
def test_wrong_actions_are_refused_and_change_nothing(world: World, actions: Any) -> None:
    envs, other = WorldVectorEnv(2, world), WorldVectorEnv(2, world)
    for each in (envs, other):
        each.reset(seed=0)
    with pytest.raises(ActionError, match="expected"):
        envs.step(actions)
    assert np.array_equal(envs.step([0, 1])[0], other.step([0, 1])[0])


def test_calls_out_of_order_are_refused(world: World) -> None:
    envs = WorldVectorEnv(2, world)
    for call in (lambda: envs.step([0, 0]), envs.frames, envs.get_state, lambda: envs.fork(2, 0)):
        with pytest.raises(ResetNeededError):
            call()
    envs.reset(seed=0)
    envs.close()
    envs.close()
    for call in (lambda: envs.step([0, 0]), envs.reset, envs.frames, envs.render):
        with pytest.raises(EnvironmentClosedError):
            call()
    with pytest.raises(ConfigError, match="num_envs=0"):
        WorldVectorEnv(0, world)


@pytest.mark.usefixtures("as_users_run_it")
def test_tensors_are_asked_for_by_a_switch(world: World) -> None:
    with pytest.raises(ConfigError, match="got tensors=1; expected True or False"):
        WorldVectorEnv(2, world, tensors=1)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("mode", ["rgb_array", "rgb_array_list", "human"])
def test_rendering_gives_one_picture_a_row_or_one_window(world: World, mode: str) -> None:
    envs = WorldVectorEnv(3, world, render_mode=mode)
    envs.reset(seed=0)
    envs.step([0, 1, 2])
    shown = envs.render()
    if mode == "human":
        assert shown is None
    else:
        expected = envs.frames()[:, -1] if mode == "rgb_array" else envs.frames()
        assert shown is not None
        assert all(np.array_equal(one, other) for one, other in zip(shown, expected, strict=True))
    envs.close()


def test_pictures_are_arrays_where_all_else_is_tensors(world: World) -> None:
    envs = WorldVectorEnv(2, world, render_mode="rgb_array", tensors=True)
    envs.reset(seed=0)
    pictures = envs.render()
    assert pictures is not None
    assert [type(picture) for picture in pictures] == [np.ndarray] * 2


def test_pictures_are_tiled_row_after_row() -> None:
    frames = np.arange(1, 4, dtype=np.uint8)[:, None, None, None, None] * np.ones((3, 2, 4, 5, 3), np.uint8)
    grid = tiled(frames)
    assert grid.shape == (2, 8, 10, 3)
    assert [grid[0, 0, 0, 0], grid[0, 0, 5, 0], grid[0, 4, 0, 0], grid[0, 4, 5, 0]] == [1, 2, 3, 0]


def test_gymnasium_may_limit_the_steps_of_an_episode(world: World) -> None:
    rows = {"num_envs": 2, "world": world, "ends": "never"}
    envs = gym.make_vec("cfworld/World-v0", max_episode_steps=2, **rows)
    assert isinstance(envs, WorldVectorEnv)
    envs.reset(seed=0)
    assert [envs.step([0, 0])[3].tolist() for _ in range(3)] == [[False] * 2, [True] * 2, [False] * 2]
    assert envs.get_state().horizon.tolist() == [2, 2], "the limit goes with the state"
    assert envs.fork(3, row=0).horizon == 2
    assert envs.spec is not None
    again = gym.make_vec(envs.spec)
    assert (again.num_envs, again.unwrapped.horizon) == (2, 2)  # pyright: ignore[reportAttributeAccessIssue]


def test_a_registration_may_limit_the_steps_of_an_episode(world: World) -> None:
    name = "cfworld/Limited-v0"
    entries = {"entry_point": WorldEnv, "vector_entry_point": WorldVectorEnv}
    gym.register(name, **entries, max_episode_steps=3, kwargs={"world": world})
    try:
        assert gym.make_vec(name, num_envs=2).unwrapped.horizon == 3  # pyright: ignore[reportAttributeAccessIssue]
        assert gym.make(name).get_wrapper_attr("_max_episode_steps") == 3
    finally:
        del gym.registry[name]


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize("wrong", [0, -1, 1.5, "3", True])
def test_a_limit_that_is_none_is_refused_by_the_name_it_was_given_under(world: World, wrong: object) -> None:
    with pytest.raises(ConfigError, match=f"got max_episode_steps={wrong!r}; expected an integer of at least 1"):
        gym.make_vec("cfworld/World-v0", num_envs=2, world=world, max_episode_steps=wrong)
    with pytest.raises(ConfigError, match=r"got horizon=5 and max_episode_steps=.*; expected one of them"):
        gym.make_vec("cfworld/World-v0", num_envs=2, world=world, horizon=5, max_episode_steps=wrong)


@pytest.mark.usefixtures("as_users_run_it")
def test_a_seed_of_numpys_seeds_what_one_of_pythons_does(world: World) -> None:
    seeds = []
    for seed in (3, np.int64(3)):
        envs = WorldVectorEnv(2, world)
        envs.reset(seed=seed)  # pyright: ignore[reportArgumentType]
        seeds.append((envs.np_random_seed, envs.get_state().seeds))
    assert seeds[0] == seeds[1] == (3, (3, 4))
