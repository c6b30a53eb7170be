"""Imports run one way, and no file grows beyond reading."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import cfworld

ROOT = Path(cfworld.__file__).parent

# Each name may import what stands before it. Names of one tuple may import one another.
CHAIN = (
    ("advice", "errors", "files", "interruption", "precision", "rows", "settings"),
    ("data",),
    ("tokenizer", "prompts"),
    ("model", "memory"),
    ("diffusion", "rollout", "prefix", "recache"),
    ("zoo",),
    ("world",),
    ("envs",),
    ("agents",),
)
RANK = {name: rank for rank, names in enumerate(CHAIN) for name in names}
CONSUMERS = {"train", "metrics", "export", "cli", "configs"}
EXCEPTIONS = {("data.collect", "envs")}
"""`data/collect.py` steps a Gymnasium env: the twin."""
NO_FRAMEWORKS = {name for name, rank in RANK.items() if rank <= RANK["world"]}


def modules() -> Iterator[tuple[str, Path]]:
    """Every module of the package, by its name within `cfworld`, wherever its folder lies."""
    for path in sorted(ROOT.rglob("*.py")):
        yield ".".join(path.relative_to(ROOT).with_suffix("").parts), path
    for link in sorted(entry for entry in ROOT.iterdir() if entry.is_symlink()):
        for path in sorted(link.resolve().rglob("*.py")):
            yield ".".join((link.name, *path.relative_to(link.resolve()).with_suffix("").parts)), path


MODULES = dict(modules())
EVERY_MODULE = pytest.mark.parametrize("module", MODULES)


def imports(path: Path) -> set[str]:
    """The dotted names that a file imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def attributes(path: Path) -> set[str]:
    """The attributes that a file reads off any name: `gym.make` gives `make`."""
    return {
        node.attr for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)
    }


def packages_of_cfworld(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("cfworld.")}


@EVERY_MODULE
def test_imports_run_one_way(module: str) -> None:
    package = module.split(".")[0]
    for imported in packages_of_cfworld(MODULES[module]) & RANK.keys():
        if package in RANK and (module, imported) not in EXCEPTIONS:
            assert RANK[imported] <= RANK[package], f"cfworld.{module} imports cfworld.{imported}"


@EVERY_MODULE
def test_nobody_in_the_chain_imports_a_consumer(module: str) -> None:
    if module.split(".")[0] in RANK:
        assert not packages_of_cfworld(MODULES[module]) & CONSUMERS


@EVERY_MODULE
def test_data_to_world_know_neither_sb3_nor_hydra(module: str) -> None:
    if module.split(".")[0] in NO_FRAMEWORKS:
        roots = {name.split(".")[0] for name in imports(MODULES[module])}
        assert not roots & {"stable_baselines3", "hydra", "omegaconf"}


@EVERY_MODULE
def test_below_the_environments_only_collect_makes_and_steps_environments(module: str) -> None:
    if module.split(".")[0] in NO_FRAMEWORKS and module not in {"data.collect", "errors"}:
        names = {name.removeprefix("gymnasium.") for name in imports(MODULES[module]) | attributes(MODULES[module])}
        assert not {name for name in names if name.split(".")[0] in {"make", "make_vec", "Env", "vector"}}
        assert not {name for name in names if name.split(".")[-1] == "step_ticks"}


@EVERY_MODULE
def test_nobody_imports_the_root_folders_by_their_own_names(module: str) -> None:
    roots = {name.split(".")[0] for name in imports(MODULES[module])}
    assert not roots & {"envs", "agents", "configs", "tests", "benchmarks"}


@EVERY_MODULE
def test_no_file_is_longer_than_500_lines(module: str) -> None:
    assert len(MODULES[module].read_text(encoding="utf-8").splitlines()) <= 500


def test_every_package_of_the_chain_has_a_place() -> None:
    packages = {name.split(".")[0] for name in MODULES} - {"__init__"}
    assert packages <= RANK.keys() | CONSUMERS


@pytest.mark.sources
def test_tests_do_not_import_the_root_folders_by_their_own_names() -> None:
    for path in Path(__file__).parent.rglob("*.py"):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & {"envs", "agents", "configs"}, path
