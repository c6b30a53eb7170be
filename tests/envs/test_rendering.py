"""A screen is a window that opens when there is something to show."""

import sys

import numpy as np
import pytest

from cfworld.envs.rendering import Screen
from cfworld.errors import MissingDependencyError

FRAMES = np.zeros((2, 4, 6, 3), np.uint8)


def test_a_screen_opens_with_the_first_frame_and_again_after_it_was_closed() -> None:
    pygame = pytest.importorskip("pygame")
    pygame.display.quit()  # whatever other tests have left open
    screen = Screen("test", 1000)
    screen.close()
    assert not pygame.display.get_init()
    for scale in (2, 3):
        screen.show(FRAMES, scale)
        assert pygame.display.get_surface().get_size() == (6 * scale, 4 * scale)
        screen.close()
        screen.close()
        assert not pygame.display.get_init()


def test_a_screen_without_pygame_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    screen = Screen("test", 1000)
    with pytest.raises(MissingDependencyError, match=r"pip install -e '\.\[render\]'"):
        screen.show(FRAMES)
    screen.close()
