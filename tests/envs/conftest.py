"""What the tests of the environments share: no window, and one toy world a module."""

from collections.abc import Iterator

import pytest
import torch

from cfworld import World
from tests.toy import toy_world


@pytest.fixture(autouse=True)
def no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


@pytest.fixture(scope="module")
def world() -> World:
    return toy_world()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The toy world's products are too small for the promise to hold with more: they have 4 tokens a latent."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
