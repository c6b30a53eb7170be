"""A page shows what is shown, and its keys are those of the player."""

import http.client
import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPResponse
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cfworld.cli import browser
from cfworld.cli.browser import BrowserWindow
from cfworld.envs.rendering import Keys
from cfworld.errors import ConfigError

RED, BLUE = (np.full((8, 16, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))


@pytest.fixture
def window() -> Iterator[BrowserWindow]:
    made = BrowserWindow("<a world>", 1000, buttons={"1": "left </script>"}, known=["left", "a"], told="Play.")
    yield made
    made.close()


def connection(window: BrowserWindow) -> HTTPConnection:
    return HTTPConnection(window.address.removeprefix("http://"), timeout=20)


def get(window: BrowserWindow, path: str) -> HTTPResponse:
    asked = connection(window)
    asked.request("GET", path)
    return asked.getresponse()


def post(window: BrowserWindow, body: str, kind: str = "application/json", path: str = "/keys") -> int:
    asked = connection(window)
    asked.request("POST", path, body, {"Content-Type": kind})
    return asked.getresponse().status


def strike(window: BrowserWindow, held: list[str], pressed: list[str], page: str = "1") -> int:
    return post(window, json.dumps({"page": page, "held": held, "pressed": pressed}))


def picture(stream: HTTPResponse) -> np.ndarray:
    """The next picture of the stream."""
    assert stream.readline() == b"--picture\r\n"
    headers = http.client.parse_headers(stream)
    content = stream.read(int(headers["Content-Length"]))
    assert (headers["Content-Type"], stream.read(2)) == ("image/jpeg", b"\r\n")
    return np.asarray(Image.open(BytesIO(content)))


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(window: BrowserWindow) -> None:
    answer = get(window, "/")
    page = answer.read().decode()
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "<title>&lt;a world&gt;</title>" in page
    assert r'const buttons = {"1": "left <\/script>"}, known = new Set(["1", "a", "left"]);' in page
    assert "://" not in page
    assert get(window, "/other").status == 404


def test_every_page_sees_what_is_shown_from_when_it_opens(window: BrowserWindow) -> None:
    window.show(BLUE)
    window.show(RED)
    streams = [get(window, "/frames") for _ in range(2)]
    for stream in streams:
        np.testing.assert_allclose(picture(stream), RED, atol=3)
    window.show(BLUE)
    for stream in streams:
        np.testing.assert_allclose(picture(stream), BLUE, atol=3)


def test_keys_are_held_until_they_go_up_and_pressed_once(window: BrowserWindow) -> None:
    stream = get(window, "/frames")
    assert strike(window, ["left"], ["left"]) == 204
    assert window.keys() == Keys(held=frozenset({"left"}), pressed=("left",))
    assert window.keys() == Keys(held=frozenset({"left"}))
    strike(window, ["left", "a"], ["a"])
    strike(window, [], [])
    assert window.keys() == Keys(held=frozenset({"a"}), pressed=("a",)), "down and up again counts for once"
    assert window.keys() == Keys()
    stream.close()


@pytest.mark.parametrize("key", ["Q", " ", "", "PageUp", "left ctrl", "right alt", "[5]", "f13"])
def test_other_names_are_of_no_key_that_a_page_reads(window: BrowserWindow, key: str) -> None:
    assert not window.has_key(key)


def test_the_keys_of_a_page_that_is_closed_go_up(window: BrowserWindow) -> None:
    stream, other = get(window, "/frames?1"), get(window, "/frames?2")
    strike(window, ["left"], [])
    strike(window, ["a"], [], page="2")
    assert window.keys().held == {"left", "a"}, "all pages have keys"
    strike(window, [], [], page="2")
    assert window.keys().held == {"left"}, "and none lets go of those of another"
    stream.close()
    for _ in range(1000):  # the server learns of it when it writes
        window.show(RED)
        if not window.keys().held:
            break
    assert window.keys() == Keys()
    other.close()


def test_the_game_waits_for_a_page(window: BrowserWindow) -> None:
    read: list[Keys] = []
    player = threading.Thread(target=lambda: read.append(window.keys()))
    player.start()
    player.join(0.2)
    assert not read
    stream = get(window, "/frames")
    player.join(20)
    assert read == [Keys()]
    stream.close()


@pytest.mark.parametrize(
    ("body", "kind", "path", "status"),
    [
        ("{}", "application/json", "/keys", 400),
        ("held", "application/json", "/keys", 400),
        ('{"page": "1", "held": 1, "pressed": []}', "application/json", "/keys", 400),
        ('{"held": ["left"], "pressed": []}', "application/json", "/keys", 400),
        ('{"held": ["left"], "pressed": []}', "text/plain", "/keys", 404),
        ('{"held": ["left"], "pressed": []}', "application/json", "/", 404),
        (json.dumps({"page": "1", "held": ["left"] * 1000, "pressed": []}), "application/json", "/keys", 413),
    ],
)
def test_what_is_no_message_of_a_page_presses_nothing(
    window: BrowserWindow, body: str, kind: str, path: str, status: int
) -> None:
    stream = get(window, "/frames")
    assert post(window, body, kind, path) == status
    assert window.keys() == Keys()
    stream.close()


def test_pictures_end_with_the_window() -> None:
    window = BrowserWindow("short", 1000, buttons={})
    window.show(RED)
    stream = get(window, "/frames")
    picture(stream)
    window.close()
    assert stream.read() == b"--picture\r\n"


def test_a_port_that_is_taken_is_refused_by_name(window: BrowserWindow) -> None:
    port = int(window.address.rpartition(":")[2])
    with pytest.raises(
        ConfigError, match=rf"got host=127.0.0.1, port={port}, where no page can be served: .* 0 for any"
    ):
        BrowserWindow("second", 10, buttons={}, port=port)


def test_what_is_shown_keeps_its_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    sleep = lambda seconds: clock.append(clock.pop() + seconds)  # noqa: E731
    monkeypatch.setattr(browser, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    window = BrowserWindow("slow", 20, buttons={})
    shown = []
    for busy in (0.0, 0.02, 0.5, 0.0):  # seconds that the world takes before each
        clock.append(clock.pop() + busy)
        window.show(RED)
        shown.append(round(clock[0] - 100.0, 6))
    assert shown == [0.0, 0.05, 0.55, 0.6], "20 a second, and after one that is late no hurry"
    window.close()
