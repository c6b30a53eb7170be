"""A page in a browser in the place of a window, so that a world on a machine without a screen can be played."""

import json
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from html import escape
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from io import BytesIO
from string import Template
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from cfworld.envs.rendering import Keys
from cfworld.errors import ConfigError

__all__ = ["BrowserWindow"]

_MAX_MESSAGE = 4096
"""Bytes of what a page says of its keys."""
_QUALITY = 92
"""Of the JPEG pictures, of 100."""
_BOUNDARY = b"picture"
_NAMES: Mapping[str, str] = MappingProxyType(
    {
        " ": "space",
        "Enter": "return",
        "ArrowLeft": "left",
        "ArrowRight": "right",
        "ArrowUp": "up",
        "ArrowDown": "down",
        "PageUp": "page up",
        "PageDown": "page down",
        "ShiftLeft": "left shift",
        "ShiftRight": "right shift",
    }
)
"""Pygame's names for keys that a browser calls otherwise, by `KeyboardEvent.key`; by `code` where there are two."""
_SAME_NAMES = ("backspace", "delete", "end", "escape", "home", "insert", "tab", *(f"f{n}" for n in range(1, 13)))
"""Those of the keys without a character that a browser calls the same, but for capitals."""


class BrowserWindow:
    """Shows frames on a web page, at a steady rate, and reads the keys that are pressed there.

    The page is served by Python's own server and loads nothing from elsewhere. Any number of pages may be open: all
    show the same, and all have keys.

    Args:
        title: the page's title.
        fps: frames per second; `show` waits so that this rate is not exceeded.
        buttons: keys that the page also has buttons for, with their labels.
        known: the other keys that it reads; the browser keeps the rest.
        told: what it says below.
        host: the name or address that the page is served at.
        port: its port; 0 takes a free one.

    Raises:
        ConfigError: if nothing can be served there.
    """

    def __init__(
        self,
        title: str,
        fps: int | float,
        *,
        buttons: Mapping[str, str],
        known: Collection[str] = (),
        told: str = "",
        host: str = "127.0.0.1",
        port: int = 0,
    ):
        self._seconds = 1 / fps
        self._due = time.monotonic()
        self.page = _page(title, buttons, known, told)
        """The page, as HTML."""
        self._changed = threading.Condition()  # guards all that follows
        self._picture, self._count, self._viewers = b"", 0, 0
        self._held: dict[str, frozenset[str]] = {}
        """Keys that are down, by the page on which they are."""
        self._pressed: list[str] = []
        self._closed = False
        try:
            self._server = _Server((host, port), self)
        except (OSError, OverflowError) as error:
            raise ConfigError(
                f"got host={host}, port={port}, where no page can be served: {error}; expected an address of this "
                "machine, and a free port, or 0 for any"
            ) from error
        reached = socket.gethostname() if host in ("0.0.0.0", "::") else host
        self.address = f"http://{reached}:{self._server.server_address[1]}"
        """Where the page is."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def show(self, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        """Show one frame, uint8 [H, W, 3], and wait for its turn."""
        jpeg = BytesIO()
        Image.fromarray(frame).save(jpeg, "JPEG", quality=_QUALITY, subsampling=0)
        with self._changed:
            self._picture, self._count = jpeg.getvalue(), self._count + 1
            self._changed.notify_all()
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = time.monotonic() + self._seconds

    def has_key(self, name: str) -> bool:
        """Whether a page can tell of a key of this name; of Control, Alt and the keypad's own keys it cannot."""
        character = len(name) == 1 and name == name.lower() and name.isprintable() and name not in _NAMES
        return character or name in _NAMES.values() or name in _SAME_NAMES

    def keys(self) -> Keys:
        """Read the keyboard, as `Window.keys` does; wait while no page is open."""
        with self._changed:
            self._changed.wait_for(lambda: self._viewers)
            pressed, self._pressed = tuple(self._pressed), []
            return Keys(held=frozenset(pressed).union(*self._held.values()), pressed=pressed)

    def close(self) -> None:
        """Serve no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def press(self, page: str, held: Collection[str], pressed: Collection[str]) -> None:
        """Take note of the keys that are down on a page, and of those that went down."""
        with self._changed:
            self._held[page] = frozenset(held)
            self._pressed.extend(pressed)

    def watch(self, page: str, write: Callable[[bytes], None]) -> None:
        """Give every picture to `write` as it comes, but for those that come while it is busy, until it fails."""
        seen = -1
        with self._changed:
            self._viewers += 1
            self._changed.notify_all()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda last=seen: self._closed or self._count not in (0, last))
                    if self._closed:
                        return
                    picture, seen = self._picture, self._count
                write(picture)
        finally:
            with self._changed:
                self._viewers -= 1
                self._held.pop(page, None)  # of a page that is gone no key will go up


class _Server(ThreadingHTTPServer):
    """Serves one window."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], window: BrowserWindow):
        self.window = window
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    """The page at /, its pictures at /frames?<page>, its keys to /keys; a page calls itself by a number of its own."""

    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride] - the one that made it

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        if asked.path == "/":
            self._answer(HTTPStatus.OK, self.server.window.page, "text/html; charset=utf-8")
        elif asked.path == "/frames":
            self._pictures(asked.query)
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Only JSON is read, which no other site's page can send here unasked."""
        length = self.headers.get("Content-Length", "")
        if self.path != "/keys" or self.headers.get("Content-Type") != "application/json":
            return self._answer(HTTPStatus.NOT_FOUND)
        if not length.isdecimal() or int(length) > _MAX_MESSAGE:
            return self._answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        try:
            message = json.loads(self.rfile.read(int(length)))
            page = str(message["page"])
            held, pressed = ([str(key) for key in message[name]] for name in ("held", "pressed"))
        except (ValueError, KeyError, TypeError):
            return self._answer(HTTPStatus.BAD_REQUEST)
        self.server.window.press(page, held, pressed)
        return self._answer(HTTPStatus.NO_CONTENT)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal is the command's."""

    def _pictures(self, page: str) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()

        def write(picture: bytes) -> None:
            # the boundary after a picture comes at once: browsers show a picture when they have seen its end
            self.wfile.write(b"Content-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture))
            self.wfile.write(picture + b"\r\n--" + _BOUNDARY + b"\r\n")

        try:
            self.wfile.write(b"--" + _BOUNDARY + b"\r\n")
            self.server.window.watch(page, write)
        except OSError:
            pass  # the page was closed

    def _answer(self, status: HTTPStatus, content: bytes = b"", kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _page(title: str, buttons: Mapping[str, str], known: Collection[str], told: str) -> bytes:
    """The HTML of the page."""
    template = Template(files("cfworld.cli").joinpath("browser.html").read_text(encoding="utf-8"))

    def script(value: Any) -> str:
        return json.dumps(value).replace("</", "<\\/")

    return template.substitute(
        title=escape(title),
        told=escape(told),
        buttons=script(dict(buttons)),
        known=script(sorted({*known, *buttons})),
        names=script(dict(_NAMES)),
    ).encode()
