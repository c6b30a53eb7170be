"""What holds for all tests."""

import gc
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
