"""What others wrap around environments works around ours: Gymnasium's wrappers, and SB3's monitors."""

import subprocess
from pathlib import Path

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import pytest
from gymnasium.wrappers import (
    FrameStackObservation,
    HumanRendering,
    RecordEpisodeStatistics,
    RecordVideo,
    TimeLimit,
    TransformReward,
)
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from cfworld.envs import WorldEnv
from cfworld.world import Ends
from tests.toy import toy_world

STEPS = 3


def env(**arguments: object) -> WorldEnv:
    """A toy world whose episodes last for `STEPS` steps and never end before."""
    return WorldEnv(toy_world(ends=Ends.NEVER), **{"horizon": STEPS, **arguments})  # pyright: ignore[reportArgumentType]


def run(wrapped: gym.Env) -> tuple[list[float], dict]:
    """One episode under action 1; its rewards and the last info."""
    wrapped.reset(seed=0)
    rewards, done, info = [], False, {}
    while not done:
        _, reward, terminated, truncated, info = wrapped.step(1)
        rewards.append(float(reward))
        done = terminated or truncated
    return rewards, info


def test_a_recorded_video_plays_at_the_speed_of_the_game(tmp_path: Path) -> None:
    wrapped = RecordVideo(env(render_mode="rgb_array"), str(tmp_path / "videos"), episode_trigger=lambda _: True)
    run(wrapped)
    wrapped.close()
    (video,) = tmp_path.glob("videos/*.mp4")
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", str(video), "-f", "rawvideo", "-pix_fmt", "gray", "-"]
    shown = subprocess.run(command, capture_output=True, check=True)
    assert len(shown.stdout) == (1 + STEPS) * 64 * 64, "the reset and one frame per step"
    assert b"2.50 fps" in shown.stderr, "a step is four tenths of a second"


def test_episode_statistics_are_those_of_the_episode() -> None:
    rewards, info = run(RecordEpisodeStatistics(env()))
    assert info["episode"]["l"] == STEPS
    assert info["episode"]["r"] == pytest.approx(sum(rewards))


def test_stacked_observations_hold_the_last_ones_in_order() -> None:
    plain, stacked = env(), FrameStackObservation(env(), 2)
    plain.reset(seed=0)
    stacked.reset(seed=0)
    seen = [plain.step(1)[0] for _ in range(2)]
    stacked.step(1)
    np.testing.assert_array_equal(stacked.step(1)[0], np.stack(seen))


def test_a_time_limit_truncates_and_lies_outside_the_state() -> None:
    inner = env()
    limited = TimeLimit(inner, max_episode_steps=2)
    limited.reset(seed=0)
    before = inner.get_state()
    assert [limited.step(1)[3] for _ in range(2)] == [False, True]
    inner.set_state(before)
    assert inner.get_state().steps == 0, "the environment has gone back"
    assert limited._elapsed_steps == 2, "the wrapper has not"


def test_the_environment_itself_truncates_where_no_wrapper_does() -> None:
    assert len(run(env())[0]) == STEPS
    assert len(run(gym.make("cfworld/World-v0", world=toy_world(ends=Ends.NEVER), horizon=2))[0]) == 2


def test_rewards_may_be_transformed() -> None:
    assert run(TransformReward(env(), lambda reward: 2 * float(reward)))[0] == pytest.approx(
        [2 * r for r in run(env())[0]]
    )


def test_human_rendering_opens_a_window_and_closes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    wrapped = HumanRendering(env(render_mode="rgb_array"))
    assert len(run(wrapped)[0]) == STEPS
    wrapped.close()


def test_the_monitors_of_sb3_see_the_episode(tmp_path: Path) -> None:
    monitor = Monitor(env(), str(tmp_path / "one"))
    rewards, info = run(monitor)
    monitor.close()
    assert info["episode"]["r"] == pytest.approx(sum(rewards), abs=1e-5)

    monitored = VecMonitor(DummyVecEnv([env, env]))
    monitored.seed(0)
    monitored.reset()
    for _ in range(STEPS):
        _, _, dones, infos = monitored.step(np.ones(2, np.int64))
    assert dones.all()
    assert [found["episode"]["l"] for found in infos] == [STEPS, STEPS]
    assert infos[0]["episode"]["r"] == pytest.approx(sum(rewards), abs=1e-5)
    assert all(found["TimeLimit.truncated"] for found in infos)
    assert infos[0]["terminal_observation"].shape == (64, 64, 3)
