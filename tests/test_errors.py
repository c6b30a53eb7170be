"""What errors tell."""

import ast
import tomllib
from pathlib import Path

import pytest

from cfworld.errors import MissingDependencyError
from tests.test_architecture import MODULES

REPOSITORY = Path(__file__).parents[1]


def extras_asked_for() -> set[str]:
    """The extras that errors name."""
    return {
        ast.literal_eval(call.args[2])
        for path in MODULES.values()
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "with_hint"
    }


def test_a_missing_package_is_told_with_the_command_that_brings_it():
    assert str(MissingDependencyError.with_hint("fp8", "torchao", "fp8")) == (
        "fp8 needs torchao, which is not installed; run `pip install -e '.[fp8]'` in the clone of cfworld"
    )


@pytest.mark.sources
def test_every_extra_that_is_asked_for_is_in_the_table_of_the_readme_and_can_be_installed():
    asked = extras_asked_for()
    assert asked == {"doom", "render", "lerobot", "wan", "distributed", "fp8"}
    page = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "pip install -e '.[doom,render]'" in page
    for extra in asked:
        assert f"| `{extra}` |" in page
        assert extra in known["optional-dependencies"]
