import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cfworld.cli import checks, common, main
from cfworld.errors import CollectionError, ConfigError
from cfworld.interruption import EndRequest, on_signals
from tests.cli.test_main import Outer

COMMANDS = ["collect", "train", "evaluate", "rollout", "bench"]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command leaves with."""
    with pytest.raises(SystemExit) as exit_:
        main.main(arguments)
    assert exit_.value.code == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    return errors


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("below", ["", "/deeper"])
def test_an_out_that_is_a_file_is_refused_before_anything_is_loaded(
    command: str, below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    (tmp_path / "taken").write_text("")
    assert "is no folder; choose another" in refusal(capsys, command, f"out={tmp_path}/taken{below}")


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "collect"])
@pytest.mark.parametrize("device", ["cudaa", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused_before_anything_is_loaded(
    command: str, device: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    said = refusal(capsys, command, f"device={device}")
    assert f"got device={device!r}" in said
    assert "choose among cpu" in said


def test_what_is_there_is_accepted(tmp_path: Path) -> None:
    checks.check_folder(str(tmp_path / "new" / "folder"))
    checks.check_folder("relative/folder")


def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # permissions do not bind root
    with pytest.raises(ConfigError, match="may not be written to"):
        checks.check_folder(str(tmp_path / "new"))


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("rollout", "world"),
        ("bench", "world"),
        ("collect", "world"),
        ("evaluate", "baseline"),
        ("rollout", "out"),
        ("train", "data"),
    ],
)
def test_an_empty_name_is_not_the_folder_one_stands_in(
    command: str, key: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    assert f"got {key}= with nothing after it" in refusal(capsys, command, f"{key}=")


def test_an_unknown_choice_is_told_with_the_choices_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    said = refusal(capsys, "train", "stage=nope")
    assert "got stage=nope; expected one of context, heads, init, local, teacher, tokenizer." in said
    assert "got memory=nope; expected one of context_forcing, fast_only" in refusal(capsys, "train", "memory=nope")


@pytest.mark.parametrize("chosen", ["stage=5", "memory=null", "+world=3"])
def test_a_choice_that_is_no_name_is_told(
    chosen: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    assert f"got {chosen}; expected a name after each =" in refusal(capsys, "train", chosen)


@pytest.mark.parametrize(
    ("command", "argument", "said"),
    [
        ("rollout", "frames=abc", "got frames=abc; expected a whole number. Try"),
        ("evaluate", "drift.every=often", "got drift.every=often; expected a number. Try"),
        ("play", "twin=perhaps", "got twin=perhaps; expected true or false. Try"),
        ("train", "stage.loop.steps=many", "got stage.loop.steps=many; expected a whole number. Try"),
        ("assemble", "teacher=panorama", "got no student; expected student=VALUE. Try"),
    ],
)
def test_a_value_that_is_missing_or_of_another_type_is_told_with_what_was_expected(
    command: str, argument: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    assert said in refusal(capsys, command, argument)


def test_a_value_without_a_key_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    assert "got =3; expected key=value" in refusal(capsys, "rollout", "=3", "world=panorama")


def test_what_a_worker_said_keeps_its_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(config: Outer) -> None:
        raise CollectionError("a worker failed:\nTraceback:\n  File 'env.py', line 3\nValueError: no camera\n")

    monkeypatch.setattr(sys, "argv", ["cfworld calibrate", "world=here"])
    with pytest.raises(SystemExit, match="2"):
        common.run_command("calibrate", Outer, run)
    assert "\n  File 'env.py', line 3\nValueError: no camera." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FileNotFoundError(2, "No such file or directory", "there"), "'there': No such file or directory."),
        (OSError(28, "No space left"), "cannot read or write: No space left. Give another path, or see to this one."),
        (OSError("no space"), "no space."),
    ],
)
def test_what_the_system_refuses_is_told_in_one_line(
    error: OSError, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(config: Outer) -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["cfworld calibrate"])
    with pytest.raises(SystemExit, match="2"):
        common.run_command("calibrate", Outer, run)
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(("asked", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.usefixtures("in_front")
def test_the_exit_status_tells_which_signal_asked_for_the_end(
    asked: signal.Signals, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(config: Outer) -> None:
        request = EndRequest()
        with on_signals(request, signal.SIGTERM, signal.SIGINT):
            signal.raise_signal(asked)
            signal.raise_signal(signal.SIGTERM)  # whoever asks again changes nothing
        raise request.ending("step 3 is saved")

    monkeypatch.setattr(sys, "argv", ["cfworld calibrate"])
    with pytest.raises(SystemExit) as exit_:
        common.run_command("calibrate", Outer, run)
    assert exit_.value.code == status
    assert capsys.readouterr().err == "\ncfworld: interrupted: step 3 is saved\n"


def test_help_that_nobody_reads_to_the_end_ends_without_a_word() -> None:
    command = f"{shlex.quote(sys.executable)} -m cfworld.cli bench --help | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_cause_that_the_message_already_tells_is_not_told_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(config: Outer) -> None:
        raise ConfigError("cannot be read (it is too long)") from ValueError("it is too long")

    monkeypatch.setattr(sys, "argv", ["cfworld calibrate"])
    with pytest.raises(SystemExit, match="2"):
        common.run_command("calibrate", Outer, run)
    assert capsys.readouterr().err.count("too long") == 1
