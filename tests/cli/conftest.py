from collections.abc import Iterator

import pytest
from hydra.core.config_store import ConfigStore


@pytest.fixture(autouse=True)
def forgetful_store() -> Iterator[None]:
    """What a command tells Hydra is forgotten after the test: in life each command has its own process."""
    repo = ConfigStore.instance().repo
    before = {*repo, "hydra"}
    yield
    for name in repo.keys() - before:
        del repo[name]
