import importlib
import pkgutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import cfworld.cli
from cfworld.cli import common, help_text, main
from cfworld.errors import ConfigError
from cfworld.memory import PRESETS


@dataclass(kw_only=True, slots=True)
class Inner:
    """A part.

    Attributes:
        size: How large
            it is.
    """

    size: int = 3

    def __post_init__(self) -> None:
        if self.size < 0:
            raise ConfigError(f"got size={self.size}; expected 0 or more")


@dataclass(kw_only=True, slots=True)
class Outer:
    """A command's configuration, in the place of that of `cfworld calibrate`."""

    world: str
    out: str | None = field(default=None, metadata={"help": "Where to."})
    inner: Inner = field(default_factory=Inner)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Outer:
    """Run the command, and return the configuration that it got."""
    monkeypatch.setattr(sys, "argv", ["cfworld calibrate", *arguments])
    got: list[Outer] = []
    common.run_command("calibrate", Outer, got.append)
    return got[0]


def test_every_command_that_is_listed_exists_and_is_described() -> None:
    for name, summary in main.COMMANDS.items():
        assert summary
        assert callable(importlib.import_module(f"cfworld.cli.{name.replace('-', '_')}").main)


def test_every_command_that_exists_is_listed() -> None:
    names = {module.name for module in pkgutil.iter_modules(cfworld.cli.__path__)} - {"main", "__main__"}
    for name in sorted(names):
        if hasattr(importlib.import_module(f"cfworld.cli.{name}"), "main"):
            assert name.replace("_", "-") in main.COMMANDS


def test_help_and_version_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    main.main(["--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in main.COMMANDS)
    main.main(["--version"])
    assert capsys.readouterr().out.startswith("cfworld 0.")


def test_an_unknown_command_is_refused_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main.main(["rolout"])
    assert exit_.value.code == 2
    assert "Did you mean 'rollout'?" in capsys.readouterr().err


def test_a_command_gets_its_schema_with_the_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    config = run(monkeypatch, "world=here", "inner.size=4")
    assert config == Outer(world="here", inner=Inner(size=4))


def test_a_value_may_bear_the_name_of_a_group(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "world=runs/panorama").world == "runs/panorama"


def test_flags_of_hydra_may_stand_anywhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    flag = ["--config-dir", str(tmp_path)]
    for arguments in ([*flag, "world=a", "out=b"], ["world=a", *flag, "out=b"], ["world=a", "out=b", *flag]):
        assert run(monkeypatch, *arguments) == Outer(world="a", out="b")


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("inner.size=-1", "expected 0 or more"),
        ("wrld=x", "wrld"),
        ("inner.size=big", "got inner.size=big; expected a whole number. Try"),
        ("a=[", "no viable"),
        ("out=née", "in quotes within the shell's, as in \"out='née'\""),
        ("out=l'été", 'as in "out=\\"l\'été\\""'),
        ("metrics=[é]", "as in 'metrics=[\"a text\"]'"),
        ("née=out", "expected key=value, with a key that --help shows"),
        ("né", "expected key=value, with a key that --help shows"),
    ],
)
def test_a_wrong_value_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], argument: str, said: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(monkeypatch, argument)
    assert exit_.value.code == 2
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("text", ["née", "l'été", 'é"$HOME`', 'l\'été \\ "$HOME" à'])
def test_the_advice_on_quotes_gives_the_text_once_a_shell_has_read_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, f"out={text}")
    advice = capsys.readouterr().err.partition(" as in ")[2].partition(". Try:")[0]
    argument = subprocess.run(["sh", "-c", f"printf %s {advice}"], capture_output=True, text=True, check=True).stdout
    assert run(monkeypatch, "world=a", argument) == Outer(world="a", out=text)


@pytest.mark.parametrize("sign", ["", "+", "++"])
@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("wrld", 'got the key wrld; expected one of world, out, inner. Did you mean "world"?'),
        ("inner.sizes", 'got the key inner.sizes; expected one of size under inner. Did you mean "inner.size"?'),
        ("zzz", "got the key zzz; expected one of world, out, inner."),
    ],
)
def test_a_key_that_does_not_exist_is_told_with_those_that_do_and_the_nearest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sign: str, key: str, said: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(monkeypatch, f"{sign}{key}=3")
    assert exit_.value.code == 2
    assert capsys.readouterr().err == f"cfworld: error: {said} Try: cfworld calibrate --help\n"


@pytest.mark.parametrize("sign", ["", "+"])
@pytest.mark.parametrize(
    ("key", "meant"),
    [("stage.loop.stpes", "stage.loop.steps"), ("stge", "stage"), ("memry", "memory=<choice>")],
)
def test_a_key_of_training_is_told_in_its_group(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sign: str, key: str, meant: str
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    with pytest.raises(SystemExit):
        main.main(["train", f"{sign}{key}=3"])
    errors = capsys.readouterr().err
    assert f"got the key {key}; expected one of " in errors
    assert f'Did you mean "{meant}"?' in errors
    assert errors.count("\n") == 1


def test_keys_of_a_mapping_are_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass(kw_only=True, slots=True)
    class Free:
        keys: dict[str, str] = field(default_factory=dict)

    monkeypatch.setattr(sys, "argv", ["cfworld assemble", "keys.q=left", "+keys.w=right"])
    got: list[Free] = []
    common.run_command("assemble", Free, got.append)
    assert got == [Free(keys={"q": "left", "w": "right"})]


def test_the_error_itself_is_raised_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFWORLD_DEBUG", "1")
    with pytest.raises(ConfigError):
        run(monkeypatch, "inner.size=-1")


def test_help_shows_every_key_with_default_and_meaning() -> None:
    text = help_text.command_help("calibrate", Outer, "Does it.")
    assert "world=doom_take_cover  (str)" in text
    assert "out=null  (str | None)\n      Where to." in text
    assert "inner.size=3  (int)\n      How large it is." in text


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_key_of_every_command_is_explained(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    main.main([name, "--help"])
    lines = capsys.readouterr().out.splitlines()
    keys = [place for place, line in enumerate(lines) if line.startswith("  ") and line.endswith(")") and "=" in line]
    assert keys
    for place in keys:
        assert lines[place + 1].startswith("      "), lines[place]


@pytest.mark.parametrize("name", ["evaluate", "export", "rollout"])
def test_help_lists_the_presets_of_a_memory(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    main.main([name, "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    assert all(preset in printed for preset in PRESETS)


def test_output_goes_where_the_user_asks_or_to_a_fresh_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = Outer(world="here")
    asked = common.open_output("rollout", str(tmp_path / "there"), config)
    assert (asked / "config.yaml").read_text() == "world: here\nout: null\ninner:\n  size: 3\n"
    first, second = (common.open_output("rollout", None, config) for _ in range(2))
    assert first != second
    assert first.parent == second.parent == Path("outputs/rollout")


@pytest.mark.parametrize("name", main.COMMANDS)
def test_help_shows_what_is_composed_and_an_example(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    main.main([name, "--help"])
    printed = capsys.readouterr()
    assert f"example: cfworld {name} " in printed.out
    assert "${" not in printed.out
    assert printed.err == ""


def test_help_of_training_shows_the_world_that_is_composed_and_explains_the_groups(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    main.main(["train", "--help"])
    text = capsys.readouterr().out
    for line in ("world.transformer.num_heads=4  (int)", "world.transformer.in_channels=16  (int)", "stage=teacher"):
        assert line in text
    assert "memory=<choice>, none by default. What the world remembers" in text
    assert "uniform          Slow memory sampled at a fixed interval" in text
    assert "small  About 9 million parameters." in text
