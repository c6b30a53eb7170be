"""The root folders are reachable as `cfworld.*` in the sources too."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.mark.sources
@pytest.mark.parametrize("name", ["agents", "configs", "envs"])
def test_the_package_links_to_the_root_folder(name: str) -> None:
    link = REPOSITORY / "cfworld" / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / name
    assert link.resolve() == REPOSITORY / name
