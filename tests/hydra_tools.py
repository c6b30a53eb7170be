"""Hydra in tests."""

from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.config_store import ConfigStore


@contextmanager
def forgetful() -> Iterator[None]:
    """Forget in the end what Hydra was told meanwhile: in life each command has its own process."""
    repo = ConfigStore.instance().repo
    before = {*repo, "hydra"}
    try:
        yield
    finally:
        for name in repo.keys() - before:
            del repo[name]
