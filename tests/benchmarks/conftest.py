from collections.abc import Iterator

import pytest

from tests.hydra_tools import forgetful


@pytest.fixture(autouse=True)
def forgetful_store() -> Iterator[None]:
    """What is told to Hydra is forgotten after the test."""
    with forgetful():
        yield
