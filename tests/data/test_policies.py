import hashlib
import json
from itertools import groupby

import numpy as np
import pytest
from gymnasium import spaces

from cfworld.data.blind import BLIND
from cfworld.data.policies import AGENT_CARD, draw_policy, full_name, held, make_policy, split_policy
from cfworld.data.policy_files import policy_digests
from cfworld.errors import ConfigError

DISCRETE = spaces.Discrete(3)
BOX = spaces.Box(np.array([-2, 0.5], np.float32), np.array([1, 3], np.float32))
FRAMES = np.zeros((1, 4, 4, 3), np.uint8)


def actions(name: str, ticks: int, space: spaces.Space = DISCRETE, seed: int = 0) -> np.ndarray:
    policy = make_policy(name, np.random.default_rng(seed), space)
    return np.concatenate([policy(FRAMES, 4) for _ in range(ticks // 4)])


def runs(values: np.ndarray) -> list[tuple[int, int]]:
    """Actions and for how long each was kept."""
    return [(action, len(list(group))) for action, group in groupby(values.tolist())]


@pytest.mark.parametrize("name", BLIND)
@pytest.mark.parametrize("space", [DISCRETE, BOX, spaces.Discrete(2)])
def test_actions_are_of_the_space_and_a_function_of_the_seed(name, space):
    taken = actions(name, 400, space)

    assert all(space.contains(action) for action in taken)
    np.testing.assert_array_equal(taken, actions(name, 400, space))


def test_sticky_actions_change_inside_latents_too():
    starts = np.flatnonzero(np.diff(actions("sticky", 4000))) + 1

    assert set(starts % 4) == {0, 1, 2, 3}
    assert len(set(actions("sticky", 4000))) == 3


def test_a_policy_that_is_held_decides_at_the_first_of_so_many_ticks():
    plain = make_policy("random", np.random.default_rng(4), DISCRETE)
    asked = np.concatenate([plain(FRAMES, ticks) for ticks in (4, 1, 5, 2)])
    policy = held(make_policy("random", np.random.default_rng(4), DISCRETE), 3)
    taken = np.concatenate([policy(FRAMES, ticks) for ticks in (4, 1, 5, 2)])
    np.testing.assert_array_equal(taken, np.repeat(asked[::3], 3))
    assert not np.array_equal(taken, asked)


def test_a_name_too_long_for_a_file_is_one_that_nobody_has():
    for name in ("z" * 400, "z" * 400 + ".zip", "agent:" + "z" * 400):
        with pytest.raises(ConfigError):
            make_policy(name, np.random.default_rng(0), DISCRETE)


def test_a_sweep_goes_both_ways_for_equally_long():
    first, *whole, _ = runs(actions("sweep", 2000))

    assert {action for action, _ in whole} == {1, 2}
    (length,) = {length for _, length in whole}
    assert 60 <= length <= 160
    assert first[1] <= length


def test_sweeps_differ_in_period():
    assert len({runs(actions("sweep", 800, seed=seed))[1][1] for seed in range(10)}) > 5


def test_looking_back_returns_to_where_it_began():
    heading = np.cumsum(np.array([0, -1, 1])[actions("look_back", 4000)])

    assert np.abs(heading).max() <= 160
    assert (heading == 0).sum() > 10


@pytest.mark.parametrize("seed", range(4))
def test_a_round_trip_takes_back_every_leg_in_reverse_order(seed):
    taken = actions("round_trip", 4000, spaces.Discrete(5), seed)
    moves = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])[taken]
    heading = np.cumsum(moves[:, 0]) * 2 * np.pi / 128
    along = moves[:, 1:] * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    pose = np.stack([heading, *np.cumsum(along, axis=0).T], axis=1)
    returned = np.abs(pose).max(axis=1) < 1e-9
    trips = runs(returned)

    assert np.abs(pose[:, 1:]).max() > 5
    assert sum(back for back, _ in trips) > 4
    assert max(length for back, length in trips if not back) > 200


def test_a_round_trip_uses_every_action_and_pans_further_than_it_walks():
    legs = [run for seed in range(3) for run in runs(actions("round_trip", 2000, spaces.Discrete(5), seed))]

    assert {action for action, _ in legs} == {0, 1, 2, 3, 4}
    assert np.median([ticks for action, ticks in legs if action in (1, 2)]) > 40
    assert np.median([ticks for action, ticks in legs if action in (3, 4)]) < 20


def test_a_round_trip_in_a_box_drives_every_axis_to_both_ends():
    taken = actions("round_trip", 2000, BOX)

    for axis in range(2):
        assert {BOX.low[axis], BOX.high[axis]} <= set(taken[:, axis])


def test_wandering_pans_and_goes_on_in_turn():
    whole = runs(actions("wander", 2000, spaces.Discrete(5)))[:-1]
    pans, walks = whole[::2], whole[1::2]

    assert {action for action, _ in pans} == {1, 2}
    assert {action for action, _ in walks} == {3}
    assert max(ticks for _, ticks in pans) <= 48
    assert 8 <= min(ticks for _, ticks in walks) <= max(ticks for _, ticks in walks) <= 64


def test_turning_goes_round_and_round():
    lengths = [length for action, length in runs(actions("turn", 4000)) if action]

    assert min(lengths[:-1]) >= 150


def test_doing_nothing_is_action_0_or_the_point_nearest_to_zero():
    assert not actions("noop", 40).any()
    np.testing.assert_array_equal(actions("noop", 4, BOX), [[0, 0.5]] * 4)


@pytest.mark.parametrize(
    ("name", "text"), [("a.json", json.dumps([[1, 3], [0, 2]])), ("a.txt", "1 3  # right\n\n0 2\n")]
)
def test_a_script_is_followed_and_begins_again(tmp_path, name, text):
    (tmp_path / name).write_text(text)

    assert actions(f"scripted:{tmp_path / name}", 8).tolist() == [1, 1, 1, 0, 0, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "1", "expected a JSON"),
        ("a.txt", "1 2 3", "expected a JSON"),
        ("a.txt", "", "no tick"),
        ("a.txt", "1 2\n1 0", "for 0 ticks in pair 2; expected a whole number from 1"),
        ("a.txt", "3 1", r"has 3 in pair 1; expected an action of Discrete\(3\)"),
        ("a.json", "[[1.7, 2]]", "has 1.7 in pair 1"),
        ("a.json", "[[1, 2.9]]", "for 2.9 ticks"),
        ("a.json", "[[2, -5]]", "for -5 ticks"),
        ("a.json", "[[1, 2], [9, 1]]", "has 9 in pair 2"),
        ("a.json", "[[true, 1]]", "has True"),
        ("a.json", "7", "expected a JSON"),
    ],
)
def test_a_script_without_sense_is_refused_when_the_policy_is_made(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)

    with pytest.raises(ConfigError, match=message):
        make_policy(f"scripted:{tmp_path / name}", np.random.default_rng(0), DISCRETE)


@pytest.mark.parametrize("action", ["0", "[0]", "[0, 4]", "[0, NaN]", "[0, true]"])
def test_a_script_for_a_box_gives_points_of_the_box(tmp_path, action):
    (tmp_path / "good.json").write_text("[[[-2, 0.5], 1], [[1, 3], 3]]")
    assert actions(f"scripted:{tmp_path / 'good.json'}", 4, BOX).tolist() == [[-2, 0.5], [1, 3], [1, 3], [1, 3]]

    (tmp_path / "bad.json").write_text(f"[[{action}, 1]]")
    with pytest.raises(ConfigError, match="expected an action of Box"):
        make_policy(f"scripted:{tmp_path / 'bad.json'}", np.random.default_rng(0), BOX)


def test_unknown_policies_and_unbounded_spaces_are_refused():
    with pytest.raises(ConfigError, match="'stick' is unknown; expected one of look_back, noop"):
        actions("stick", 4)
    with pytest.raises(ConfigError, match="bounded Box"):
        actions("sticky", 4, spaces.Box(-np.inf, np.inf, (2,)))


@pytest.mark.parametrize("name", [*(f"{name}:whatever" for name in BLIND if name != "sweep"), "noop:"])
def test_a_policy_without_eyes_takes_no_argument(name):
    kind = name.partition(":")[0]
    with pytest.raises(ConfigError, match=f"got {name}; expected {kind}, which takes no argument"):
        actions(name, 4)


def test_a_sweep_may_be_given_the_ticks_of_each_way():
    assert runs(actions("sweep:20", 100)) == [(1, 20), (2, 20)] * 2 + [(1, 20)]
    np.testing.assert_array_equal(actions("sweep:20", 100), actions("sweep:20", 100, seed=1))


@pytest.mark.parametrize("name", ["sweep:", "sweep:0", "sweep:-3", "sweep:fast"])
def test_a_sweep_of_no_ticks_is_refused(name):
    with pytest.raises(ConfigError, match=f"got {name}; expected the ticks of each way from 1, as in sweep:110"):
        actions(name, 4)


def test_every_spelling_names_its_kind(tmp_path):
    (tmp_path / AGENT_CARD).write_text("{}")
    (tmp_path / "12:30.zip").touch()
    folder, timed = str(tmp_path), str(tmp_path / "12:30.zip")
    spelled = {
        "noop": ("noop", ""),
        "planner": ("planner", ""),
        "sweep:20": ("sweep", "20"),
        "scripted:a.zip": ("scripted", "a.zip"),
        "agent:doom_take_cover": ("agent", "doom_take_cover"),
        f"agent:{folder}": ("agent", folder),
        folder: ("agent", folder),
        "sb3:a:b.zip": ("sb3", "a:b.zip"),
        "a.zip": ("sb3", "a.zip"),
        timed: ("sb3", timed),
        "mine:a.zip": ("mine", "a.zip"),
        "nobody": ("nobody", ""),
    }
    assert {name: split_policy(name) for name in spelled} == spelled
    assert [full_name(name) for name in (folder, f"agent:{folder}", "a.zip", "noop", "sweep:20")] == [
        f"agent:{folder}",
        f"agent:{folder}",
        "sb3:a.zip",
        "noop",
        "sweep:20",
    ]


def test_a_folder_is_not_taken_for_a_policy_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "noop").mkdir()
    (tmp_path / "noop" / AGENT_CARD).write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert split_policy("noop") == ("noop", "")
    assert split_policy("./noop") == ("agent", "./noop")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("planner", "which plans in a generated world, and there is none here"),
        ("agent:doom_take_cover", "a factory of the kind 'agent', as in cfworld.agents.players.FACTORIES"),
        ("a.zip", "a factory of the kind 'sb3'"),
    ],
)
def test_whoever_cannot_act_here_is_told_apart_from_nobody(name, said):
    with pytest.raises(ConfigError, match=said):
        actions(name, 4)


def test_files_tell_policies_of_one_name_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {"moves.json": "[[1, 1]]", "a.zip": "agent", "best/agent.json": "card", "20": "no file of a sweep"}
    (tmp_path / "best").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    found = policy_digests(["noop", "sweep:20", "scripted:moves.json", "a.zip", "agent:best", "scripted:gone.json"])

    read = {"moves.json": "moves.json", "a.zip": "a.zip", "best": "best/agent.json"}
    assert found == {name: hashlib.sha256(files[file].encode()).hexdigest() for name, file in read.items()}
    assert policy_digests(["best"]) == policy_digests(["agent:best"])
    assert policy_digests(["agent:doom_take_cover"]).keys() == {"doom_take_cover"}


def test_policies_are_drawn_by_their_weights_in_the_order_of_their_names():
    """As data that were collected before were drawn."""
    rng, same = np.random.default_rng(3), np.random.default_rng(3)
    weights = {"turn": 3.0, "noop": 1.0, "sticky": 0.0}
    drawn = [draw_policy(weights, rng) for _ in range(400)]
    assert drawn == [("noop", "sticky", "turn")[same.choice(3, p=[0.25, 0, 0.75])] for _ in range(400)]
