import numpy as np
import pytest

from cfworld.envs.twins import PanoramaTwin, make_twin
from cfworld.errors import ConfigError
from cfworld.metrics.recordings import FIRST_SEED, held_out, policy_actions, record
from tests.metrics.fakes import LONG, PANORAMA, MortalTwin


def panorama() -> PanoramaTwin:
    return PanoramaTwin(max_ticks=LONG)


def test_a_recording_is_the_episode_cut_at_its_start():
    twin = panorama()
    actions = policy_actions(twin, "sticky", 60, seed=FIRST_SEED)
    recording = record(twin, FIRST_SEED, actions[:40], actions[40:], prefix_ticks=16)
    assert recording is not None
    twin.reset(seed=FIRST_SEED)
    frames = np.concatenate([twin.step_ticks(actions[i : i + 1]).frames for i in range(60)])
    assert np.array_equal(recording.prefix, frames[24:40])
    assert np.array_equal(recording.frames, frames[40:])
    assert np.array_equal(recording.prefix_actions, actions[24:40])
    assert recording.valid.all()


def test_a_replay_of_a_held_out_start_is_exact():
    twin = panorama()
    for recording in held_out(twin, 3, num_ticks=20, prefix_ticks=8):
        again = record(twin, recording.seed, recording.history, recording.actions, 8)
        assert again is not None
        assert np.array_equal(again.prefix, recording.prefix)
        assert np.array_equal(again.frames, recording.frames)


def test_starts_lie_between_the_earliest_and_the_latest_tick():
    lengths = [len(r.history) for r in held_out(panorama(), 40, 4, prefix_ticks=8, latest_start=60)]
    assert min(lengths) >= 32
    assert max(lengths) <= 60
    assert len(set(lengths)) > 10
    assert {len(r.history) for r in held_out(panorama(), 3, 4, prefix_ticks=8, latest_start=0)} == {8}


def test_every_start_has_its_own_held_out_seed():
    seeds = [recording.seed for recording in held_out(panorama(), 5, 4, 8, first_seed=FIRST_SEED + 3)]
    assert seeds == sorted(set(seeds))
    assert seeds[0] >= FIRST_SEED + 3


def test_training_seeds_are_refused():
    with pytest.raises(ConfigError, match="smaller ones are for training"):
        next(held_out(panorama(), 1, 4, 8, first_seed=999_999))


def test_after_an_end_the_last_valid_frame_is_repeated_and_nothing_is_earned():
    twin = MortalTwin(max_ticks=LONG)
    recording = next(held_out(twin, 1, num_ticks=100, prefix_ticks=8, latest_start=0))
    death = len(recording.history) + recording.end
    assert recording.variables["TICKS"][recording.end] == death + 1
    assert np.array_equal(recording.valid, np.arange(100) < recording.end)
    assert (recording.frames[recording.end :] == recording.frames[recording.end - 1]).all()
    assert (recording.rewards[recording.end + 1 :] == 0).all()


def test_episodes_that_end_before_their_start_are_passed_over():
    twin = MortalTwin(max_ticks=LONG)
    found = list(held_out(twin, 6, 4, prefix_ticks=8, latest_start=75))
    assert len(found) == 6
    assert found[-1].seed > FIRST_SEED + 6


def test_starts_that_nobody_reaches_are_an_error():
    with pytest.raises(ConfigError, match="ended before their start"):
        next(held_out(MortalTwin(max_ticks=LONG), 1, 4, prefix_ticks=100))


def test_an_episode_with_god_does_not_end():
    recording = next(held_out(MortalTwin(max_ticks=LONG), 1, 200, prefix_ticks=8, god=True))
    assert recording.end == 200


def test_twins_are_made_by_their_ids_alone():
    assert isinstance(make_twin(PANORAMA, 50), PanoramaTwin)
    for source in ("cfworld/Nowhere-v0", "no id", ""):
        with pytest.raises(ConfigError, match="expected the id of a twin"):
            make_twin(source, 50)
    with pytest.raises(ConfigError, match="expected"):
        make_twin("CartPole-v1", 50)


def test_a_sweep_of_a_period_is_one_and_no_other_blind_policy_takes_an_argument():
    twin = panorama()
    assert policy_actions(twin, "sweep:3", 8, 5).tolist() == [1, 1, 1, 2, 2, 2, 1, 1]
    with pytest.raises(ConfigError, match="got noop:whatever; expected noop, which takes no argument"):
        policy_actions(twin, "noop:whatever", 8, 5)
