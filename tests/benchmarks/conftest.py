import sys
from collections.abc import Iterator

import pytest
from hydra.core.config_store import ConfigStore


@pytest.fixture(autouse=True)
def forgetful_store() -> Iterator[None]:
    """What is told to Hydra is forgotten after the test: in life each command has its own process."""
    repo = ConfigStore.instance().repo
    before = {*repo, "hydra"}
    yield
    if settings := sys.modules.get("benchmarks.ablation.settings"):
        settings.composed.cache_clear()
    for name in repo.keys() - before:
        del repo[name]
