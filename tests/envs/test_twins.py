import gymnasium as gym
import numpy as np
import pytest

import cfworld.envs
from cfworld.envs.doom_base import box_average
from cfworld.envs.twins import DoomRoomsTwin, DoomTakeCoverTwin, PanoramaTwin, Twin
from cfworld.errors import ActionError, ConfigError, EnvironmentClosedError, ResetNeededError

assert cfworld.envs.__name__ == "cfworld.envs"  # the import registers the ids
IDS = ["cfworld/DoomTakeCoverReal-v0", "cfworld/DoomRoomsReal-v0", "cfworld/PanoramaReal-v0"]
TWINS = [DoomTakeCoverTwin, DoomRoomsTwin, PanoramaTwin]


@pytest.fixture(scope="module")
def doom():
    twin = DoomTakeCoverTwin()
    yield twin
    twin.close()


@pytest.fixture(scope="module")
def rooms():
    twin = DoomRoomsTwin()
    yield twin
    twin.close()


@pytest.fixture
def panorama():
    twin = PanoramaTwin()
    yield twin
    twin.close()


@pytest.fixture(params=["doom", "rooms", "panorama"])
def twin(request) -> Twin:
    return request.getfixturevalue(request.param)


def play(twin: Twin, seed: int, num_steps: int = 1000, god: bool = False):
    """Random ticks; returns all frames, all rewards and the last ticks."""
    twin.reset(seed=seed, options={"god": god})
    rng = np.random.default_rng(seed)
    frames, rewards = [], []
    for _ in range(num_steps):
        ticks = twin.step_ticks(rng.integers(0, 3, 4))
        frames.append(ticks.frames)
        rewards.append(ticks.rewards)
        if ticks.terminated or ticks.truncated:
            break
    return np.concatenate(frames), np.concatenate(rewards), ticks


@pytest.mark.parametrize("env_id", IDS)
def test_no_wrapper_limits_the_steps(env_id):
    env = gym.make(env_id)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    assert env.spec is not None
    assert env.spec.max_episode_steps is None
    assert env.get_wrapper_attr("horizon") == 525
    env.close()


def test_the_same_seed_and_actions_give_the_same_frames_whatever_was_played_before(twin):
    first, rewards, _ = play(twin, seed=5, num_steps=30)
    play(twin, seed=6, num_steps=10, god=True)
    again, rewards_again, _ = play(twin, seed=5, num_steps=30)
    fresh = type(twin)()
    elsewhere, _, _ = play(fresh, seed=5, num_steps=30)
    fresh.close()
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, elsewhere)
    np.testing.assert_array_equal(rewards, rewards_again)


def test_resets_without_a_seed_continue_the_sequence_of_the_last_seed(twin):
    def episodes():
        rows = [twin.reset(seed=3)[1]]
        for _ in range(2):
            rows.append(twin.reset()[1])
            rows[-1]["frames"] = twin.step_ticks([1, 2, 1, 2]).frames
        return rows

    first, second = episodes(), episodes()
    for one, other in zip(first[1:], second[1:], strict=True):
        np.testing.assert_array_equal(one["frames"], other["frames"])
        assert one["variables"] == other["variables"]


def test_a_step_is_four_ticks_of_one_action(twin):
    twin.reset(seed=2)
    ticks = twin.step_ticks([1, 1, 1, 1])
    twin.reset(seed=2)
    obs, reward, terminated, truncated, info = twin.step(1)
    np.testing.assert_array_equal(twin.frames(), ticks.frames)
    np.testing.assert_array_equal(obs, ticks.frames[-1])
    assert reward == ticks.rewards.sum()
    assert (terminated, truncated, info["end_frame"], info["tick"]) == (False, False, 4, 4)
    assert info["variables"] == pytest.approx({name: row[-1] for name, row in ticks.variables.items()})


def test_single_ticks_add_up_to_a_step(twin):
    twin.reset(seed=2)
    whole = twin.step_ticks([1, 2, 0, 1])
    twin.reset(seed=2)
    parts = [twin.step_ticks([action]) for action in [1, 2, 0, 1]]
    np.testing.assert_array_equal(whole.frames, np.concatenate([part.frames for part in parts]))


def test_after_a_reset_all_frames_are_the_reset_frame(twin):
    obs, _ = twin.reset(seed=0)
    assert twin.frames().shape == (4, 64, 64, 3)
    assert np.all(twin.frames() == obs)


@pytest.mark.parametrize("cls", TWINS)
def test_stacked_observations_hold_the_frames_of_the_step_in_order(cls):
    twin = cls(obs="frames", info_frames=True)
    twin.reset(seed=0)
    obs, *_, info = twin.step(2)
    assert obs.shape == (64, 64, 12)
    for index, frame in enumerate(twin.frames()):
        np.testing.assert_array_equal(obs[..., 3 * index : 3 * index + 3], frame)
    np.testing.assert_array_equal(info["frames"], twin.frames())
    twin.close()


def test_returned_frames_belong_to_the_caller(twin):
    obs, _ = twin.reset(seed=0)
    before = twin.frames()
    obs[:] = 0
    twin.frames()[:] = 0
    np.testing.assert_array_equal(twin.frames(), before)


@pytest.mark.parametrize("cls", TWINS)
def test_the_horizon_truncates_and_does_not_terminate(cls):
    twin = cls(horizon=2)
    twin.reset(seed=0)
    assert twin.step(0)[2:4] == (False, False)
    assert twin.step(0)[2:4] == (False, True)
    twin.close()


def test_a_limit_inside_a_step_cuts_it_and_repeats_the_last_frame():
    twin = PanoramaTwin(max_ticks=6)
    twin.reset(seed=0)
    twin.step(2)
    _, _, terminated, truncated, info = twin.step(2)
    assert (terminated, truncated, info["end_frame"], info["tick"]) == (False, True, 4, 6)
    frames = twin.frames()
    assert np.any(frames[0] != frames[1])
    assert np.all(frames[2:] == frames[1])


@pytest.mark.parametrize("action", [3, -1, 1.0, np.float32(0), float("nan"), None, "left", [0], np.zeros(2, int)])
def test_a_wrong_action_is_refused_and_changes_nothing(panorama, action):
    panorama.reset(seed=0)
    with pytest.raises(ActionError, match="expected"):
        panorama.step(action)
    assert panorama.tick == 0


def test_single_ticks_take_names_too(panorama):
    seen = []
    for actions in ([1, 2, 0], ["turn left", "Turn Right", "stay"]):
        panorama.reset(seed=0)
        seen.append(panorama.step_ticks(actions).frames)
    assert np.array_equal(*seen)


@pytest.mark.parametrize("actions", [[], [0] * 5, 0, [[0]], [0.5], [0, 3], [[0], [0, 1]], "stay", ["jump"]])
def test_wrong_action_sequences_are_refused(panorama, actions):
    panorama.reset(seed=0)
    with pytest.raises(ActionError, match="expected"):
        panorama.step_ticks(actions)


@pytest.mark.parametrize("action", [0, np.int64(1), np.array(2), np.uint8(1)])
def test_every_kind_of_integer_is_an_action(panorama, action):
    panorama.reset(seed=0)
    panorama.step(action)


@pytest.mark.parametrize("cls", TWINS)
@pytest.mark.parametrize("call", [lambda twin: twin.step(0), lambda twin: twin.frames(), Twin.variables])
def test_nothing_goes_before_the_first_reset(cls, call):
    with pytest.raises(ResetNeededError):
        call(cls())


def test_a_step_after_the_end_needs_a_reset():
    twin = PanoramaTwin(horizon=1)
    twin.reset(seed=0)
    twin.step(0)
    with pytest.raises(ResetNeededError, match="after the end"):
        twin.step(0)
    twin.reset()
    twin.step(0)


@pytest.mark.parametrize("cls", TWINS)
def test_nothing_goes_after_closing_and_closing_twice_is_fine(cls):
    twin = cls()
    twin.reset(seed=0)
    twin.close()
    twin.close()
    for call in (twin.reset, twin.frames, twin.variables, twin.render, lambda: twin.step(0)):
        with pytest.raises(EnvironmentClosedError):
            call()


@pytest.mark.usefixtures("as_users_run_it")
@pytest.mark.parametrize(
    "kwargs",
    [
        {"obs": "latent"},
        {"render_mode": "ansi"},
        {"horizon": 0},
        {"max_ticks": 0},
        {"horizon": 1, "max_ticks": 4},
        {"horizon": 2.5},
        {"horizon": True},
        {"max_ticks": "5"},
        {"info_frames": "no"},
        {"action_chunks": 1},
    ],
)
def test_wrong_arguments_are_refused(kwargs):
    with pytest.raises(ConfigError, match="expected"):
        PanoramaTwin(**kwargs)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"start": 3}, r"got reset options \['start'\]; expected only \"god\""),
        ({"god": "yes"}, "got god='yes'; expected True or False"),
        (["god"], r"got options=\['god'\]; expected a dict with \"god\", or None"),
    ],
)
@pytest.mark.usefixtures("as_users_run_it")
def test_wrong_reset_options_are_refused(panorama, options, told):
    with pytest.raises(ConfigError, match=told):
        panorama.reset(options=options)


@pytest.mark.parametrize("cls", TWINS)
def test_the_render_rate_is_that_of_the_rendered_frames(cls):
    assert cls(render_mode="rgb_array").metadata["render_fps"] * 4 == cls.fps
    assert cls(render_mode="rgb_array_list").metadata["render_fps"] == cls.fps


def test_rendering_returns_the_last_frame_or_all_of_the_step():
    one, all_of_them = PanoramaTwin(render_mode="rgb_array"), PanoramaTwin(render_mode="rgb_array_list")
    for env in (one, all_of_them):
        env.reset(seed=0)
        env.step(2)
    np.testing.assert_array_equal(one.render(), one.frames()[-1])
    np.testing.assert_array_equal(np.array(all_of_them.render()), one.frames())


def test_panorama_terminates_at_the_eighth_tick_of_staying_at_the_beacon(panorama):
    panorama.reset(seed=0)
    while abs((panorama.variables()["BEACON"] - panorama.variables()["HEADING"] + 128) % 256 - 128) > 8:
        panorama.step_ticks([2])
    first, second = panorama.step(0), panorama.step(0)
    assert first[1:4] == (4.0, False, False)
    assert second[1:4] == (4.0, True, False)
    assert second[4]["end_frame"] == 3


def test_box_average_of_known_boxes():
    screen = np.zeros((6, 8, 3), np.uint8)
    screen[:3, :4] = 255
    screen[3, 0] = 6  # 6 / 12 rounds up to 1
    screen[3, 4] = 5  # 5 / 12 rounds down to 0
    np.testing.assert_array_equal(box_average(screen)[..., 0], [[255, 0], [1, 0]])


def test_box_average_equals_the_rounded_mean():
    screen = np.random.default_rng(0).integers(0, 256, (192, 256, 3), dtype=np.uint8)
    mean = screen.reshape(64, 3, 64, 4, 3).mean(axis=(1, 3))
    np.testing.assert_array_equal(box_average(screen), np.floor(mean + 0.5))


def test_doom_is_the_stock_environment_box_averaged(doom, tmp_path, monkeypatch):
    import vizdoom
    from vizdoom import gymnasium_wrapper

    monkeypatch.chdir(tmp_path)  # where the stock environment leaves its settings
    assert gymnasium_wrapper
    stock = gym.make(
        "VizdoomTakeCover-v1",
        screen_resolution=vizdoom.ScreenResolution.RES_256X192,
        disable_env_checker=True,
    )
    assert stock.action_space == doom.action_space
    obs, _ = stock.reset(seed=9)
    frame, _ = doom.reset(seed=9)
    np.testing.assert_array_equal(frame, box_average(obs["screen"]))
    for action in np.random.default_rng(9).integers(0, 3, 60):
        obs, reward, terminated, *_ = stock.step(action)
        ticks = doom.step_ticks([action])
        assert (ticks.rewards[0], ticks.terminated) == (reward, terminated)
        np.testing.assert_array_equal(ticks.frames[0], box_average(obs["screen"]))
    stock.close()


@pytest.mark.parametrize(("action", "sign"), [(0, 0), (1, -1), (2, 1)])
def test_doom_moves_right_and_left(doom, action, sign):
    doom.reset(seed=0)
    before = doom.variables()
    doom.step(action)
    assert doom.variables() == before  # the simulator holds the player for the first seven ticks
    doom.step(action)
    after = doom.variables()
    assert before["ANGLE"] == 0  # the view is along x, so that y grows to the left
    assert np.sign(after["POSITION_Y"] - before["POSITION_Y"]) == sign
    assert after["POSITION_X"] == before["POSITION_X"]


def test_doom_terminates_by_death_and_keeps_the_last_valid_frame(doom):
    frames, rewards, last = play(doom, seed=5)
    assert (last.terminated, last.truncated) == (True, False)
    assert last.variables["HEALTH"][-1] <= 0
    assert np.all(rewards == 1)
    assert np.all(doom.frames()[len(last.frames) - 1 :] == frames[-2])


def test_doom_god_outlives_the_time_limit(doom):
    frames, _, last = play(doom, seed=5, god=True)
    assert len(frames) == 2100
    assert (last.terminated, last.truncated) == (False, True)
    assert last.variables["HEALTH"][-1] == 100


def test_doom_god_holds_in_the_first_episode_and_ends_with_it():
    twin = DoomTakeCoverTwin(max_ticks=600)
    _, _, god = play(twin, seed=5, god=True)
    _, _, mortal = play(twin, seed=5)
    twin.close()
    assert (god.terminated, mortal.terminated) == (False, True)


def test_doom_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    twin = DoomTakeCoverTwin()
    twin.reset(seed=0)
    twin.close()
    assert list(tmp_path.iterdir()) == []
