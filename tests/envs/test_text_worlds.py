"""Worlds out of Wan as environments: actions are texts, or names that say them."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env

import cfworld.envs
from cfworld import World
from cfworld.envs import WorldEnv
from cfworld.errors import ActionError, StartError
from cfworld.world import Opening
from tests.wan_toy import TABLE, pipeline_folder, wan_world

assert cfworld.envs.__name__ == "cfworld.envs"  # the import registers the ids
pytestmark = pytest.mark.usefixtures("as_users_run_it")
DOOR, SKY = "a red door opens", "the sky darkens"


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    folder = pipeline_folder(tmp_path_factory.mktemp("wan"))
    return {"texts": wan_world(folder), "table": wan_world(folder, actions=TABLE)}


def make(world: World | Path, **more: Any) -> gym.Env:
    return gym.make("cfworld/World-v0", world=world, **more)


def inside(env: gym.Env) -> WorldEnv:
    assert isinstance(env.unwrapped, WorldEnv)
    return env.unwrapped


@pytest.mark.parametrize(("kind", "action_chunks"), [("texts", False), ("table", True)])
def test_they_keep_the_contract_of_gymnasium(kind: str, action_chunks: bool, worlds: dict[str, World]):
    env = make(worlds[kind], action_chunks=action_chunks, obs="frames", render_mode="rgb_array")
    check_env(env.unwrapped, skip_close_check=True)


def test_the_actions_are_texts_or_those_of_the_table(worlds: dict[str, World]):
    texts, table = (make(world).action_space for world in worlds.values())
    assert isinstance(texts, spaces.Text)
    assert (texts.min_length, texts.max_length) == (0, 60)
    assert table == spaces.Discrete(2)


def test_a_saved_world_is_made_by_its_folder(worlds: dict[str, World], tmp_path: Path):
    worlds["texts"].save_pretrained(tmp_path)
    env = make(tmp_path)
    env.reset(seed=0, options={"start": f"prompt:{DOOR}"})
    observation, reward, terminated, truncated, info = env.step(SKY)
    assert observation.shape == (16, 16, 3)
    assert (reward, terminated, truncated) == (0.0, False, False)
    assert info["end_frame"] == 12
    assert inside(env).frames().shape == (12, 16, 16, 3)


def test_an_episode_begins_under_the_prompt_that_was_asked_for(worlds: dict[str, World]):
    env = make(worlds["texts"])
    _, usual = env.reset(seed=0)
    assert usual["start"] == "prompt:"
    told, info = env.reset(seed=0, options={"start": f"prompt:{SKY}"})
    assert info["start"] == f"prompt:{SKY}"
    same, _ = env.reset(seed=0, options={"start": Opening(action=SKY)})
    other, _ = env.reset(seed=1, options={"start": Opening(action=SKY)})
    assert np.array_equal(told, same)
    assert not np.array_equal(told, other)
    named = make(worlds["table"])
    assert named.reset(seed=0)[1]["start"] == "prompt:open"
    assert np.array_equal(named.reset(seed=0, options={"start": "prompt:darken"})[0], told)
    with pytest.raises(StartError, match="the action of an opening does not fit this world"):
        named.reset(seed=0, options={"start": "prompt:jump"})


def test_a_snapshot_replays_exactly_over_a_prompt_switch(worlds: dict[str, World]):
    env = make(worlds["texts"], obs="frames")
    env.reset(seed=3)
    env.step(DOOR)
    snapshot = inside(env).get_state()
    told = [SKY, SKY, DOOR]
    first = [env.step(text)[0] for text in told]
    for _ in range(2):
        inside(env).set_state(snapshot)
        assert all(np.array_equal(env.step(text)[0], seen) for text, seen in zip(told, first, strict=True))
    inside(env).set_state(snapshot)
    assert not np.array_equal(env.step(DOOR)[0], first[0]), "another prompt is another future"


def test_rows_of_a_vector_environment_are_the_episodes_of_single_ones(worlds: dict[str, World]):
    envs = gym.make_vec("cfworld/World-v0", num_envs=2, world=worlds["texts"], horizon=3)
    envs.reset(seed=5)
    rows = [envs.step([DOOR, SKY])[0] for _ in range(2)]
    for row, text in enumerate((DOOR, SKY)):
        env = make(worlds["texts"])
        env.reset(seed=5 + row)
        assert all(np.array_equal(env.step(text)[0], observations[row]) for observations in rows)
    *_, truncated, info = envs.step([DOOR, SKY])
    assert truncated.all()
    assert info["final_info"]["end_frame"].tolist() == [12, 12]


def test_wrong_actions_are_refused(worlds: dict[str, World]):
    env = make(worlds["texts"])
    env.reset(seed=0)
    with pytest.raises(ActionError, match="expected texts of at most 60 characters"):
        env.unwrapped.step(3)
    with pytest.raises(ActionError, match="a text of 61 characters"):
        env.unwrapped.step("x" * 61)
    table = make(worlds["table"])
    table.reset(seed=0)
    with pytest.raises(ActionError, match="open"):
        table.unwrapped.step("close")
