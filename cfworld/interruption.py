"""What happens when somebody asks for the end: by Ctrl-C, or by SIGTERM, as schedulers do."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["EndRequest", "Terminated", "on_signals"]

Handler = Callable[[int, FrameType | None], None]


class Terminated(KeyboardInterrupt):
    """Ends, as Ctrl-C would, what SIGTERM asked to end."""


@contextmanager
def on_signals(handler: Handler, *signals: signal.Signals) -> Iterator[None]:
    """Let a handler answer signals while the block runs; outside the main thread, which alone may do so, let all be.

    A signal that is ignored stays ignored, as Ctrl-C is by what a script put into the background; and one that is
    answered by what is not Python's stays with that, since it could not be given back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in signals if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, handler) for number in ours}
    try:
        yield
    finally:
        for number, handled in before.items():
            signal.signal(number, handled)


class EndRequest:
    """Notes a wish for the end, for whoever works in steps to fulfil between two of them.

    A second Ctrl-C does not wait.

    Args:
        told: what to tell those who ask; "" for nothing.
    """

    def __init__(self, told: str = "") -> None:
        self._told = told
        self._first: int | None = None

    @property
    def made(self) -> bool:
        """Whether somebody in this process has asked."""
        return self._first is not None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Answer a signal."""
        if self.made and number == signal.SIGINT:
            signal.default_int_handler(number, frame)
        if not self.made:
            self._first = number
        if self._told:
            # Whoever read along may have gone by the same Ctrl-C, as `tee` does; or it came in the midst of a line.
            with suppress(OSError, RuntimeError):
                print(f"\ncfworld: {self._told}", file=sys.stderr, flush=True)

    def ending(self, message: str) -> KeyboardInterrupt:
        """What to raise once the wish is fulfilled, by whatever signal it was made first.

        Where another process was asked, it is `Terminated`: several processes answer SIGTERM alone.
        """
        return KeyboardInterrupt(message) if self._first == signal.SIGINT else Terminated(message)
