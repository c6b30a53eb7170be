import json
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfworld.cli import play as play_module
from cfworld.cli.browser import BrowserWindow
from cfworld.cli.play import PlayConfig, play
from cfworld.data.policies import make_policy
from cfworld.envs.rendering import Keys, Window
from cfworld.envs.spaces import world_action_space
from cfworld.errors import ConfigError
from tests.toy import toy_world


@pytest.fixture(autouse=True)
def screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def typed(monkeypatch: pytest.MonkeyPatch, *strokes: str) -> None:
    """A player who presses one key a step (\"\" for none), and leaves after the last."""
    keys: Iterator[str] = iter(strokes)

    def read(_: Window) -> Keys:
        key = next(keys, "escape")
        return Keys(held=frozenset({key} - {""}), pressed=(key,) if key else ())

    monkeypatch.setattr(play_module.Window, "keys", read)


def script(folder: Path, episode: int = 0) -> list[list[int]]:
    return json.loads((folder / f"episode_{episode:03d}.json").read_text())


def test_what_was_played_is_kept_as_a_script_that_a_policy_repeats(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "1", "", "2")
    play(PlayConfig(world=toy, speed=100.0, out=str(tmp_path)))
    assert f"1 episodes in {tmp_path}" in capsys.readouterr().out
    assert script(tmp_path) == [[1, 4], [0, 4], [2, 4]]
    assert (tmp_path / "play.mp4").stat().st_size > 0
    space = world_action_space(toy_world().config.actions)
    policy = make_policy(f"scripted:{tmp_path / 'episode_000.json'}", np.random.default_rng(0), space)
    assert policy(np.zeros((4, 64, 64, 3), np.uint8), 12).tolist() == [1] * 4 + [0] * 4 + [2] * 4


def test_a_player_goes_back_to_the_moment_that_was_kept(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed(monkeypatch, "1", "f5", "2", "f9")
    play(PlayConfig(world=toy, speed=100.0, out=str(tmp_path)))
    assert script(tmp_path) == [[1, 4], [0, 4]]


def test_r_begins_the_next_episode(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "1", "r", "2")
    figures = play(PlayConfig(world=toy, speed=100.0, out=str(tmp_path)))
    assert [episode["steps"] for episode in figures["episodes"]] == [1, 2]
    assert script(tmp_path, 1) == [[0, 4], [2, 4]]


def test_a_pause_makes_no_step(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "1", "space", "1", "1", "space", "2")
    play(PlayConfig(world=toy, speed=100.0, out=str(tmp_path)))
    assert script(tmp_path) == [[1, 4], [0, 4], [2, 4]]


def test_the_simulator_is_played_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "right", "right")
    play(PlayConfig(world="panorama", twin=True, speed=100.0, out=str(tmp_path)))
    assert script(tmp_path) == [[2, 4], [2, 4]]


def test_the_page_offers_what_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offered: list[dict[str, Any]] = []

    class Page(BrowserWindow):
        def __init__(self, title: str, fps: float, **settings: Any):
            offered.append(settings)
            raise KeyboardInterrupt

    monkeypatch.setattr(play_module, "BrowserWindow", Page)
    for twin, keys in ((False, {}), (True, {"space": "turn left"})):
        with pytest.raises(KeyboardInterrupt):
            play(PlayConfig(world="panorama", twin=twin, keys=keys, port=0, out=str(tmp_path)))
    world, simulator = offered
    assert list(world["buttons"]) == ["0", "1", "2", "space", "r", "f5", "f9", "escape"]
    assert "f5 (keep the moment)" in world["told"]
    assert list(simulator["buttons"]) == ["0", "1", "2", "r", "escape"], "a simulator cannot be forked"
    assert "space (turn left)" in simulator["told"]
    assert "space (pause)" not in simulator["told"]


def test_a_host_needs_a_port() -> None:
    with pytest.raises(ConfigError, match=r"got host=0\.0\.0\.0 without port"):
        PlayConfig(world="panorama", host="0.0.0.0")


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("in_front")
def test_whoever_ends_the_game_loses_nothing(
    toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: signal.Signals
) -> None:
    strokes = iter(("1", "2"))

    def read(_: Window) -> Keys:
        key = next(strokes, None)
        if key is None:
            signal.raise_signal(ending)
            raise AssertionError("the game goes on")
        return Keys(held=frozenset({key}), pressed=(key,))

    monkeypatch.setattr(play_module.Window, "keys", read)
    figures = play(PlayConfig(world=toy, speed=100.0, out=str(tmp_path)))
    assert [episode["steps"] for episode in figures["episodes"]] == [2]
    assert script(tmp_path) == [[1, 4], [2, 4]]
    assert (tmp_path / "play.mp4").stat().st_size > 0
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_world_is_played_in_a_browser(toy: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = PlayConfig(world=toy, port=port, speed=100.0, max_steps=3, out=str(tmp_path))
    game = threading.Thread(target=play, args=(settings,))
    game.start()
    while True:  # until the page is served
        page = HTTPConnection("127.0.0.1", port, timeout=20)
        with suppress(ConnectionRefusedError):
            page.request("GET", "/")
            break
        assert game.is_alive()
        time.sleep(0.05)
    assert '"1": "1", "2": "2", "space": "pause"' in page.getresponse().read().decode()
    page.request("POST", "/keys", '{"page": "1", "held": [], "pressed": ["2"]}', {"Content-Type": "application/json"})
    assert page.getresponse().status == 204
    page.close()
    page.request("GET", "/frames")  # the game begins
    game.join(60)
    assert script(tmp_path) == [[2, 4], [0, 4], [0, 4]]
    assert page.getresponse().read().count(b"image/jpeg") > 0


def test_without_a_screen_the_browser_is_named(toy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDL_VIDEODRIVER")
    monkeypatch.setattr(Window, "is_seen", False)
    with pytest.raises(ConfigError, match="found no screen to open a window on; give port=8000"):
        play(PlayConfig(world=toy, out=str(tmp_path)))


@pytest.mark.parametrize("key", ["foo", "Q"])
def test_a_key_that_does_not_exist_is_refused(toy: str, tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=f"got keys.{key}; expected pygame's name of a key"):
        play(PlayConfig(world=toy, keys={"q": 1, key: 1}, out=str(tmp_path)))


@pytest.mark.parametrize("key", ["left ctrl", "[5]", "Q", "foo"])
def test_a_key_that_no_page_can_read_is_refused(toy: str, tmp_path: Path, key: str) -> None:
    with pytest.raises(
        ConfigError, match=f"got keys.{re.escape(key)}; expected pygame's name of a key that a page can"
    ):
        play(PlayConfig(world=toy, keys={"q": 1, key: 1}, port=0, out=str(tmp_path)))


@pytest.mark.parametrize("key", ["q", "1", "-", "space", "left", "page up", "left shift", "return", "f5", "escape"])
def test_page_and_window_read_keys_of_the_same_names(key: str) -> None:
    for window in (Window("test", (8, 8), 1000), BrowserWindow("test", 1000, buttons={})):
        assert window.has_key(key)
        window.close()


def test_the_window_reads_the_keyboard() -> None:
    pygame = pytest.importorskip("pygame")
    window = Window("test", (8, 8), 1000)
    assert not window.is_seen, "SDL's dummy driver shows nothing"
    window.keys()
    pygame.event.post(pygame.event.Event(pygame.KEYDOWN, key=pygame.K_LEFT))
    assert window.keys() == Keys(held=frozenset({"left"}), pressed=("left",))
    assert window.keys() == Keys(held=frozenset({"left"}))
    pygame.event.post(pygame.event.Event(pygame.KEYUP, key=pygame.K_LEFT))
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    assert window.keys() == Keys(closed=True)
    window.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", 1),
        ("scale", -8),
        ("speed", float("nan")),
        ("speed", float("inf")),
        ("speed", 0.0),
        ("speed", -1.0),
        ("max_steps", -1),
        ("port", -1),
        ("port", 2**16),
        ("seed", -1),
        ("seed", 2**64),
    ],
)
def test_settings_that_cannot_be_played_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"got {name}={value}; expected"):
        PlayConfig(world="panorama", **{name: value})  # pyright: ignore[reportArgumentType]


def test_a_scale_that_gives_no_video_is_refused_before_a_window_opens(toy: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"got scale=1000 .* expected a scale from 4 to 253$"):
        play(PlayConfig(world=toy, scale=1000, out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()
