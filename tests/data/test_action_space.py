"""Actions of any space: laid out as one array, read from Minari's files and written to them, chosen blindly."""

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from cfworld.data import CollectConfig, EpisodeStore, collect
from cfworld.data.action_space import flat, nested, unusable
from cfworld.data.blind import BLIND
from cfworld.data.choices import opposite_actions
from cfworld.data.policies import make_policy
from cfworld.errors import ConfigError, DatasetError

IMAGES = spaces.Box(0, 255, (8, 8, 3), np.uint8)
HANDS = spaces.Dict(
    mouse=spaces.Box(-1, 1, (2,), np.float32), jump=spaces.Discrete(2), keyboard=spaces.MultiDiscrete([2, 3])
)
TEXTS = ["open the door", "stay", "open the door", "go"]
FRAMES = np.zeros((1, 8, 8, 3), np.uint8)


class HandsEnv(gym.Env):
    """Takes keyboard, mouse and jump; the reward tells what it was given."""

    observation_space, action_space = IMAGES, HANDS

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        return np.zeros((8, 8, 3), np.uint8), {}

    def step(self, action: dict[str, Any]) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action)
        reward = 100.0 * action["jump"] + 10.0 * action["keyboard"][0] + action["keyboard"][1]
        return np.zeros((8, 8, 3), np.uint8), float(reward), False, False, {}


gym.register(id="fake/Hands-v0", entry_point="tests.data.test_action_space:HandsEnv")


def written(folder: Path, space: spaces.Space, actions: Any, *, jpeg: bool = False) -> Path:
    """A dataset that Minari itself wrote, with one episode of four ticks."""
    storage = MinariStorage.new(folder, observation_space=IMAGES, action_space=space, jpeg_encoding=jpeg)
    frames = list(np.zeros((5, 8, 8, 3), np.uint8))
    rewards, never = [0.0] * 4, [False] * 4
    storage.update_episodes(
        [EpisodeBuffer(observations=frames, actions=actions, rewards=rewards, terminations=never, truncations=never)]
    )
    storage.update_metadata({"dataset_id": "written-v0", "minari_version": minari.__version__})
    return folder


def test_parts_lie_side_by_side_in_the_order_of_their_names_and_come_apart_again():
    parts = {"mouse": np.array([[0.5, -0.5]], np.float32), "jump": np.array([1]), "keyboard": np.array([[1, 2]])}
    actions = flat(HANDS, parts)
    assert actions.dtype == np.float32
    assert actions.tolist() == [[1, 1, 2, 0.5, -0.5]]
    again = nested(HANDS, actions)
    assert {name: part.tolist() for name, part in again.items()} == {
        name: part.tolist() for name, part in parts.items()
    }
    assert HANDS.contains(nested(HANDS, actions[0]))


@pytest.mark.parametrize("jpeg", [False, True])
@pytest.mark.parametrize(
    ("space", "actions", "expected"),
    [
        (spaces.MultiDiscrete([2, 3]), [[1, 2], [0, 0], [1, 0], [0, 1]], [[1, 2], [0, 0], [1, 0], [0, 1]]),
        (spaces.MultiBinary(2), [[1, 0], [0, 0], [1, 1], [0, 1]], [[1, 0], [0, 0], [1, 1], [0, 1]]),
        (spaces.Text(20), TEXTS, [1, 2, 1, 0]),
        (
            spaces.Dict(say=spaces.Text(20), aim=spaces.Box(-1, 1, (1,))),
            {"say": TEXTS, "aim": [np.array([x], np.float32) for x in (0.0, 0.25, 0.5, 1.0)]},
            [[0, 1], [0.25, 2], [0.5, 1], [1, 0]],
        ),
    ],
)
def test_actions_that_minari_wrote_are_read(tmp_path: Path, space: Any, actions: Any, expected: list, jpeg: bool):
    if isinstance(actions, list) and not isinstance(actions[0], str):
        actions = [np.array(action, space.dtype) for action in actions]
    store = EpisodeStore.open(written(tmp_path / "data", space, actions, jpeg=jpeg))
    episode = store.episode(0)
    assert episode.actions.tolist() == expected
    assert episode.actions.dtype == (np.float32 if isinstance(space, spaces.Dict) else np.int64)
    assert store.episode(0, 1, 3).actions.tolist() == expected[1:3]
    assert store.texts == (["go", "open the door", "stay"] if "Text" in str(space) else [])


def test_a_component_beyond_its_size_is_damage(tmp_path: Path):
    actions = [np.array(action) for action in ([1, 2], [0, 3], [1, 0], [0, 1])]
    store = EpisodeStore.open(written(tmp_path / "data", spaces.MultiDiscrete([2, 3]), actions))
    with pytest.raises(DatasetError, match=r"actions from 0 to 3; expected MultiDiscrete\(\[2 3\]\)"):
        store.episode(0)


def test_an_environment_with_keyboard_and_mouse_is_collected_as_minari_would_store_it(tmp_path: Path):
    script = tmp_path / "script.json"
    moves = [
        [{"mouse": [0.5, -1], "jump": 1, "keyboard": [1, 2]}, 2],
        [{"mouse": [0, 0], "jump": 0, "keyboard": [0, 1]}, 1],
    ]
    script.write_text(json.dumps(moves))
    config = CollectConfig(
        env="tests.data.test_action_space:fake/Hands-v0",
        out=str(tmp_path / "out"),
        policies={f"scripted:{script}": 1.0},
        episodes=1,
        max_ticks=4,
    )
    collect(config, progress=False)

    episode = EpisodeStore.open(tmp_path / "out").episode(0)
    assert episode.rewards.tolist() == [112, 112, 1, 112]
    assert episode.actions[2:].tolist() == [[0, 0, 1, 0, 0], [1, 1, 2, 0.5, -1]]
    plain = minari.MinariDataset(tmp_path / "out" / "data")[0].actions
    assert plain["keyboard"].tolist() == [[1, 2], [1, 2], [0, 1], [1, 2]]
    assert plain["jump"].tolist() == [1, 1, 0, 1]


@pytest.mark.parametrize("name", BLIND)
@pytest.mark.parametrize("space", [HANDS, spaces.MultiDiscrete([2, 3, 1]), spaces.MultiBinary(3)])
def test_blind_policies_act_in_every_space(name: str, space: spaces.Space):
    policy = make_policy(name, np.random.default_rng(0), space)
    taken = np.concatenate([policy(FRAMES, 4) for _ in range(50)])
    assert all(space.contains(nested(space, action)) for action in taken.astype(space.dtype or taken.dtype))


def test_opposite_actions_move_one_component_away_from_the_neutral_action():
    pairs = [(one.tolist(), two.tolist()) for one, two in opposite_actions(spaces.MultiDiscrete([2, 1, 5]))]
    assert pairs == [([0, 0, 0], [1, 0, 0]), ([0, 0, 1], [0, 0, 2]), ([0, 0, 3], [0, 0, 4])]
    pairs = [(one.tolist(), two.tolist()) for one, two in opposite_actions(HANDS)]
    assert pairs[0] == ([0, 0, 0, 0, 0], [1, 0, 0, 0, 0])
    assert pairs[-1] == ([0, 0, 0, 0, -1], [0, 0, 0, 0, 1])


@pytest.mark.parametrize("action", ['{"jump": 1}', '{"jump": 1, "keyboard": [1, 3], "mouse": [0, 0]}', "3", '"jump"'])
def test_a_script_of_something_else_is_refused(tmp_path: Path, action: str):
    script = tmp_path / "script.json"
    script.write_text(f"[[{action}, 1]]")
    with pytest.raises(ConfigError, match="in pair 1; expected an action of Dict"):
        make_policy(f"scripted:{script}", np.random.default_rng(0), HANDS)


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        (spaces.Text(5), r"the action space is Text.*wrap the environment"),
        (spaces.Box(-np.inf, np.inf, (2,)), r"expected .* a bounded Box of floats"),
        (spaces.Box(0, 255, (2,), np.uint8), r"the action space is Box\(0, 255.*a bounded Box of floats"),
        (spaces.Discrete(3, start=1), r"they are Discrete\(3, start=1\); expected .*from 0"),
        (spaces.Dict(jump=spaces.MultiDiscrete([2, 2], start=[0, 1])), r"their part 'jump' is .*from 0"),
        (spaces.Dict(), "they are an empty Dict"),
    ],
)
def test_nothing_is_chosen_blindly_in_other_spaces(space: spaces.Space, problem: str):
    with pytest.raises(ConfigError, match=problem):
        make_policy("random", np.random.default_rng(0), space)


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        (spaces.Dict(), "they are an empty Dict; expected at least one part"),
        (spaces.Tuple([spaces.Discrete(2)]), "they are Tuple"),
        (spaces.Dict(eye=spaces.Discrete(2), hand=spaces.Dict()), "their part 'hand' is Dict()"),
        (spaces.Dict(eye=spaces.Discrete(2), hand=IMAGES), "their part 'hand' is Box"),
        (spaces.MultiDiscrete(np.array([[2, 2]])), "they are MultiDiscrete"),
    ],
)
def test_spaces_of_something_else_are_named(space: spaces.Space, problem: str):
    assert unusable(space).startswith(problem)
