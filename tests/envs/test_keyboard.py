import pytest

from cfworld.envs.keyboard import NEUTRAL, action_of, key_map
from cfworld.envs.rendering import Keys
from cfworld.errors import ConfigError

ROOMS = ["stay", "move left", "move right", "move forward", "turn left", "turn right"]


def test_arrows_letters_and_digits_stand_for_actions_by_their_names() -> None:
    keys = key_map(["stay", "move right", "move left"], 3)
    assert keys == {"0": 0, "1": 1, "2": 2, "right": 1, "d": 1, "left": 2, "a": 2}


def test_the_first_of_two_actions_for_one_way_gets_the_arrow() -> None:
    keys = key_map(ROOMS, 6)
    assert (keys["left"], keys["right"], keys["up"]) == (1, 2, 3)


def test_a_player_may_choose_keys_of_their_own() -> None:
    keys = key_map(ROOMS, 6, {"left": "turn left", "q": 1})
    assert (keys["left"], keys["a"], keys["q"]) == (4, 1, 1)


@pytest.mark.parametrize("action", ["jump", 6, -1, None, True, 1.5])
def test_a_key_for_an_action_that_does_not_exist_is_refused(action: object) -> None:
    with pytest.raises(ConfigError, match=r"keys\.q="):
        key_map(ROOMS, 6, {"q": action})


@pytest.mark.parametrize(
    ("keys", "action"),
    [
        (Keys(), NEUTRAL),
        (Keys(held=frozenset({"left"})), 1),
        (Keys(held=frozenset({"left", "right"}), pressed=("right",)), 2),
        (Keys(held=frozenset({"x"}), pressed=("x",)), NEUTRAL),
    ],
)
def test_the_key_pressed_last_wins(keys: Keys, action: int) -> None:
    assert action_of(keys, key_map(ROOMS, 6)) == action
