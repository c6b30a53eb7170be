from collections.abc import Iterator

import pytest

from tests.hydra_tools import forgetful
from tests.toy import toy_world


@pytest.fixture(autouse=True)
def forgetful_store() -> Iterator[None]:
    """What a command tells Hydra is forgotten after the test."""
    with forgetful():
        yield


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a toy world."""
    folder = tmp_path_factory.mktemp("toy")
    toy_world().save_pretrained(folder)
    return str(folder)
