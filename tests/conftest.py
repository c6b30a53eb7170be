"""What holds for all tests."""

import gc
import signal
from collections.abc import Iterator

import jaxtyping
import pytest


def pytest_collection_finish() -> None:
    """Keep the many objects of a collected suite from the garbage collector, which would visit them again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def as_users_run_it() -> Iterator[None]:
    """Annotations are enforced only where tests check shapes, so values of wrong types reach the checks."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def in_front() -> Iterator[None]:
    """Ctrl-C is answered, as it is not by what a script put into the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
