import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sb3_contrib import RecurrentPPO
from stable_baselines3 import PPO

from cfworld.cli import main as cli
from cfworld.cli.live import LiveRows, policies
from cfworld.cli.rollout import RolloutConfig, rollout
from cfworld.envs.world_env import WorldEnv
from cfworld.errors import ConfigError
from cfworld.world import Ends
from tests.export.video_tools import read
from tests.toy import toy_world


def test_a_rollout_leaves_video_strip_configuration_and_figures(toy: str, tmp_path: Path) -> None:
    rollout(RolloutConfig(world=toy, frames=10, scale=4, out=str(tmp_path)))
    height, width = 4 * 64 + 44, 4 * 64  # below the frame, a panel for the caption
    told, frames = read(tmp_path / "rollout.mp4", height, width)
    assert f"{width}x{height}" in told
    assert len(frames) == 10
    with Image.open(tmp_path / "rollout.png") as strip:
        assert strip.width == 10 * (2 * 64 + 2)
    assert "frames: 10" in (tmp_path / "config.yaml").read_text()
    figures = json.loads((tmp_path / "rollout.json").read_text())
    wanted = {"frames", "fps", "step_ms_p50", "step_ms_p95", "seed", "world", "variant", "peak_memory_mb"}
    assert wanted <= figures.keys()
    assert figures["frames"] == 10
    assert figures["fps"] > 0
    assert figures["peak_memory_mb"] > 50


def test_a_rollout_may_keep_another_memory_than_the_worlds(toy: str, tmp_path: Path) -> None:
    figures = rollout(RolloutConfig(world=toy, frames=4, memory="infinity_rope", out=str(tmp_path)))
    assert figures["memory"] == "sink 1, slow 0, fast 6, bounded positions"
    with pytest.raises(ConfigError, match="memory='short'"):
        rollout(RolloutConfig(world=toy, frames=4, memory="short", out=str(tmp_path)))


def test_the_figures_count_the_episodes_that_met_the_horizon(tmp_path: Path) -> None:
    toy_world(horizon_frames=4, ends=Ends.NEVER).save_pretrained(tmp_path / "toy")
    figures = rollout(RolloutConfig(world=str(tmp_path / "toy"), frames=8, worlds=2, out=str(tmp_path / "out")))
    assert (figures["episodes"], figures["truncations"]) == (4, 4)
    assert figures["lengths"] == [[4, 4], [4, 4]]
    assert figures["truncated"] == [[True, True], [True, True]]


@pytest.mark.parametrize("obs", ["frame", "frames"])
def test_an_agent_of_sb3_may_act(tmp_path: Path, obs: str) -> None:
    world = toy_world()
    agent = PPO("CnnPolicy", WorldEnv(world, obs=obs), device="cpu", n_steps=8, batch_size=8)
    agent.save(tmp_path / "agent.zip")
    live = LiveRows(world, [0], policies(str(tmp_path / "agent.zip"), world))
    before = live.rows[0].frames
    seen = before[-1] if obs == "frame" else np.concatenate(list(before), axis=-1)
    assert set(live.step().actions[0]) == {int(agent.predict(seen, deterministic=True)[0])}


def test_a_file_that_is_no_agent_is_refused(tmp_path: Path) -> None:
    world = toy_world()
    PPO("CnnPolicy", WorldEnv(world), device="cpu", n_steps=8, batch_size=8).save(tmp_path / "agent.zip")
    for spoilt in (b"no", (tmp_path / "agent.zip").read_bytes()[:2000], archived({"clip_range": 3})):
        (tmp_path / "spoilt.zip").write_bytes(spoilt)
        with pytest.raises(ConfigError, match="not an agent"):
            policies(str(tmp_path / "spoilt.zip"), world)


def archived(settings: dict[str, Any]) -> bytes:
    """A zip whose settings say nothing that an agent can be made of."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("data", json.dumps(settings))
    return content.getvalue()


def test_an_agent_of_sb3_that_remembers_is_refused(tmp_path: Path) -> None:
    world = toy_world()
    small = {"lstm_hidden_size": 4, "features_extractor_kwargs": {"features_dim": 8}}
    agent = RecurrentPPO("CnnLstmPolicy", WorldEnv(world), n_steps=8, batch_size=8, policy_kwargs=small, device="cpu")
    agent.save(tmp_path / "agent.zip")
    with pytest.raises(ConfigError, match=r"remembers \(RecurrentActorCriticCnnPolicy\), and would act .* without"):
        policies(str(tmp_path / "agent.zip"), world)


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 0},
        {"worlds": 0},
        {"seed": -1},
        {"seed": 2**64},
        {"seed": 2**64 - 1, "worlds": 2},
        {"num_steps": 0},
        {"scale": 0},
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        RolloutConfig(world="toy", **wrong)


@pytest.mark.parametrize("scale", [1, 1000])
def test_a_scale_that_gives_no_video_is_refused_before_anything_is_generated(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scale: int
) -> None:
    monkeypatch.setattr(LiveRows, "__init__", lambda *_: pytest.fail("began"))
    with pytest.raises(ConfigError, match=f"got scale={scale} .* expected a scale from 2 to"):
        rollout(RolloutConfig(world=toy, frames=4, scale=scale, out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_the_command_line_reaches_the_rollout(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    cli.main(["rollout", f"world={toy}", "frames=4", "worlds=2", "policy=random", f"out={tmp_path}"])
    assert json.loads((tmp_path / "rollout.json").read_text())["worlds"] == 2
