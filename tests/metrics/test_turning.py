import numpy as np
import pytest

from cfworld.envs.twins import make_twin
from cfworld.errors import ConfigError
from cfworld.metrics.recordings import FIRST_SEED, record
from cfworld.metrics.routes import approaches
from cfworld.metrics.turning import TURNS, leave_and_return, turn_of
from tests.metrics.fakes import LONG

TURN = TURNS["cfworld/PanoramaReal-v0"]
PER_STEP = 4


@pytest.mark.parametrize("num_steps", [2, 6, 16, 32, 40, 50, 80, 200])
def test_a_path_returns_after_exactly_its_time(num_steps: int):
    actions = leave_and_return(TURN, num_steps, PER_STEP)
    assert len(actions) == num_steps * PER_STEP
    assert (actions == TURN.action).sum() == (actions == TURN.back).sum() == len(actions) // 2
    assert actions[0] == TURN.action
    assert actions[-1] == TURN.back


@pytest.mark.parametrize("num_steps", [34, 50, 80, 200])
def test_the_view_stays_out_of_sight_until_the_way_back(num_steps: int):
    way = np.where(leave_and_return(TURN, num_steps, PER_STEP) == TURN.action, 1, -1).cumsum()
    away = way[TURN.opposite - 1 : len(way) - TURN.opposite]
    assert away.min() >= TURN.hidden
    assert away.max() <= TURN.ticks - TURN.hidden


def test_the_camera_never_rests_while_away():
    way = np.where(leave_and_return(TURN, 80, PER_STEP) == TURN.action, 1, -1).cumsum()
    assert set(np.unique(way[TURN.opposite :])) >= {TURN.opposite - 16, TURN.opposite + 16}


def test_a_rest_lies_before_the_way_back():
    plain, rested = (leave_and_return(TURN, 34, PER_STEP, still) for still in (0, 5))
    back = TURN.opposite
    assert rested.tolist() == [*plain[:-back].tolist(), *[TURN.stay] * 5 * PER_STEP, *plain[-back:].tolist()]


def test_a_twin_that_nobody_can_turn_around_is_refused():
    with pytest.raises(ConfigError, match="no way to turn"):
        turn_of("cfworld/DoomTakeCoverReal-v0")


@pytest.mark.parametrize("still", [0, 3])
@pytest.mark.parametrize("source", TURNS)
def test_the_twin_shows_the_same_view_on_return_and_another_one_while_away(source: str, still: int):
    turn = TURNS[source]
    twin = make_twin(source, LONG)
    start = next(approaches(twin, turn, num_starts=1, prefix=40, first_seed=FIRST_SEED))
    away = record(twin, start.seed, start.history, leave_and_return(turn, 34, PER_STEP, still), 40, god=True)
    twin.close()
    assert away is not None
    left = start.prefix[-1].astype(int)
    assert np.array_equal(away.frames[-1], left)
    assert np.array_equal(start.frames[-1], left)  # after a full turn
    assert np.abs(away.frames[turn.opposite - 1] - left).mean() > 20
