"""What every command shares: its Hydra app, its help, its output folder and its way to fail."""

import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn, TypeVar, get_origin

import hydra
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cfworld import files
from cfworld.cli import checks, help_text, keys
from cfworld.errors import CfworldError, CollectionError, ConfigError
from cfworld.interruption import Terminated

__all__ = ["composed", "fail", "open_output", "output_folder", "run_command", "write_config", "write_figures"]

Config = TypeVar("Config")

_QUIET = (
    "hydra.run.dir=.",
    "hydra.sweep.dir=.",
    "hydra.sweep.subdir=.",
    "hydra.output_subdir=null",
    "hydra/job_logging=disabled",
    "hydra/hydra_logging=disabled",
)
"""Hydra makes no folder of its own and sets up no log."""


def run_command(
    name: str,
    schema: type[Config],
    run: Callable[[Config], Any],
    summary: str = "",
    *,
    example: str = "",
    shown: Callable[[Config], Any] | None = None,
) -> None:
    """Run a command as a Hydra app on `sys.argv`.

    `configs/<name>.yaml` holds what differs from the schema's defaults. If it chooses from groups, in a
    defaults list that begins with `<name>_schema`, Hydra composes it. Otherwise no folder of `configs` is a
    group to the command, so that `world=` may name a world here and choose `configs/world/...` there.
    `--help` prints every key; other flags (`--config-dir`, `--cfg job`, ...) are Hydra's, and may stand anywhere.

    Args:
        name: the command as it is typed. Its configuration is `configs/<name with _>.yaml`.
        schema: the dataclass of the configuration. It may carry `field(metadata={"help": ...})`.
        run: gets the configuration as an instance of `schema`: no `DictConfig` goes further than here.
        summary: one sentence for `--help`.
        example: arguments for `--help` to show.
        shown: from the configuration to the one whose values `--help` shows; by default itself.

    Raises:
        SystemExit: with code 2 and a one-line message where the command line, the configuration or what it
            asks for is wrong, 130 after Ctrl-C and 143 after SIGTERM. With CFWORLD_DEBUG=1 in the environment the
            error itself is raised.
    """
    config_name = name.replace("-", "_")
    if {"-h", "--help"} & set(sys.argv[1:]):
        with _one_line_errors(name):
            values = composed(name, schema)
            if shown:
                values = dataclasses.asdict(shown(schema(**values)))
            print(help_text.command_help(name, schema, summary, example=example, values=values))
        return
    config_path = _store(config_name, schema)

    @hydra.main(version_base="1.3", config_path=config_path, config_name=config_name)
    def app(config: DictConfig) -> None:
        with _one_line_errors(name):  # in here too, before Hydra announces the error with its own lines
            keys.check_known(config, _groups(name))
            instance = _instance(config, schema)
            checks.check_keys(instance)
            run(instance)

    with _one_line_errors(name), _hydra_raises(), _quiet_arguments():
        app()


def composed(name: str, schema: type[Any], *overrides: str) -> dict[str, Any]:
    """The configuration of a command as it is composed where the command line adds nothing but `overrides`."""
    config_name = name.replace("-", "_")
    if _store(config_name, schema):
        with hydra.initialize_config_module("cfworld.configs", version_base="1.3"):
            config = hydra.compose(config_name, list(overrides))
    else:  # nothing to compose: the command's own file over the schema
        settings, given = help_text.read_settings(f"{config_name}.yaml"), OmegaConf.from_dotlist(list(overrides))
        config = OmegaConf.merge(OmegaConf.structured(schema), settings, given)
    values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    return values


def fail(message: str) -> NoReturn:
    """Print a one-line message on stderr and leave with exit code 2."""
    print(f"cfworld: error: {message}", file=sys.stderr)
    raise SystemExit(2)


def output_folder(command: str, out: str | None) -> Path:
    """The folder that a command writes to, which need not be there: what was asked for, or outputs/<command>/<time>."""
    return Path(out) if out else _fresh_folder(Path("outputs") / command)


def open_output(command: str, out: str | None, config: Any) -> Path:
    """Make the folder that a command writes to, and put the resolved configuration there as `config.yaml`.

    Args:
        command: the command's name.
        out: the folder that the user asked for, or None for `outputs/<command>/<time>`.
        config: the configuration, an instance of its schema.

    Returns:
        The folder.
    """
    folder = output_folder(command, out)
    write_config(folder, config)
    return folder


def write_config(folder: Path, config: Any) -> None:
    """Put a command's resolved configuration into its folder, which is made if need be, as `config.yaml`."""
    files.write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config)))


def write_figures(folder: Path, command: str, figures: dict[str, Any]) -> Path:
    """Write a command's figures as `<command>.json` into its folder, and give the file's path."""
    path = folder / f"{command}.json"
    files.write_json(path, figures)
    return path


def _fresh_folder(parent: Path) -> Path:
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    names = (stamp if count == 1 else f"{stamp}-{count}" for count in range(1, 1000))
    return next(parent / name for name in names if not (parent / name).exists())


def _store(config_name: str, schema: type[Any]) -> str | None:
    """Tell Hydra of a command's schema, and say where it finds the configuration files if it needs any."""
    store = ConfigStore.instance()
    settings = help_text.read_settings(f"{config_name}.yaml")
    defaults = settings.pop("defaults", [])
    if any(isinstance(entry, dict) for entry in defaults):
        store.store(name=f"{config_name}_schema", node=schema)
        return "pkg://cfworld.configs"
    node = OmegaConf.merge(OmegaConf.structured(schema), settings)
    for entry in dataclasses.fields(schema):
        if get_origin(entry.type) is dict:  # its keys are the user's
            OmegaConf.set_struct(OmegaConf.select(node, entry.name), False)
    store.store(name=config_name, node=node)
    return None


def _instance(config: DictConfig, schema: type[Config]) -> Config:
    instance = OmegaConf.to_object(config)
    if not isinstance(instance, schema):
        raise TypeError(f"configs/*.yaml gave a {type(instance).__name__}: name the schema first in its defaults list")
    return instance


def _groups(name: str) -> list[str]:
    """What a command's line chooses files from, as in `stage=teacher`."""
    settings = help_text.read_settings(f"{name.replace('-', '_')}.yaml")
    return [group for group, _ in help_text.groups(settings.get("defaults", []))]


def _message(error: Exception, name: str) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return _missing_choice(error.missing_cfg_file, error.options)
    if isinstance(error, OverrideParseException):
        return _unreadable(error)
    if (told := keys.unknown_key(error.__cause__, _groups(name))) is not None:
        return _sentence(told)
    if (told := keys.wrong_value(error) or keys.wrong_value(error.__cause__)) is not None:
        return _sentence(told)
    if isinstance(error, CollectionError):
        return _sentence(str(error).rstrip())  # a worker's traceback has lines
    text, cause = (" ".join(str(part or "").split()) for part in (error, error.__cause__))
    if cause and cause.rstrip(".") not in text:
        text = f"{text} {cause}"
    return _sentence(text)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _unreadable(error: OverrideParseException) -> str:
    """What to say where Hydra's grammar has no place for a character, such as any letter beyond ASCII."""
    problem = " ".join(str(error).split()).partition(" See https:")[0]
    key, equals, value = error.override.partition("=")
    got = f"got {error.override}, which cannot be read ({problem})"
    if not equals or not re.fullmatch(r"[+~]*[\w.@/-]+", key, re.ASCII):
        return f"{got}; expected key=value, with a key that --help shows."
    bare = value.strip("'\"")
    example = f"'{key}=[\"a text\"]'" if bare.startswith("[") else _quoted(key, bare)
    return (
        f"{got}; expected brackets in pairs, and a text with other characters than plain ones in quotes within the "
        f"shell's, as in {example}."
    )


def _quoted(key: str, text: str) -> str:
    """A text as a value, in Hydra's quotes within the shell's."""
    mark = '"' if "'" in text else "'"
    word = f"{key}={mark}" + text.replace(mark, f"\\{mark}") + mark
    if set(text) & set('"$`\\!'):  # between double quotes they mean something to the shell
        return shlex.quote(word)
    return '"' + word.replace('"', '\\"') + '"'


def _missing_choice(path: str, options: Iterable[str]) -> str:
    """What to say where a group has no such file; schemas are no choices."""
    group, _, choice = path.rpartition("/")
    known = ", ".join(sorted(name for name in options if not name.endswith("_schema")))
    return f"got {group}={choice}; expected one of {known}."


def _os_message(error: OSError, name: str) -> str:
    if not error.strerror:
        return _message(error, name)
    place = f" {str(error.filename)!r}" if error.filename is not None else ""
    return f"cannot read or write{place}: {error.strerror}. Give another path, or see to this one."


@contextmanager
def _one_line_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (CfworldError, HydraException, OmegaConfBaseException) as error:
        if os.environ.get("CFWORLD_DEBUG"):
            raise
        fail(f"{_message(error, name)} Try: cfworld {name} --help")
    except ValueError as error:
        if os.environ.get("CFWORLD_DEBUG") or not str(error).startswith("Config group override"):
            raise
        chosen = [word for word in sys.argv[1:] if word.partition("=")[0].lstrip("+") in _groups(name)]
        fail(f"got {' '.join(chosen)}; expected a name after each =. Try: cfworld {name} --help")
    except BrokenPipeError:  # whoever read along has gone, as `head` does once it has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains when it flushes at its end
        raise SystemExit(141) from None  # as a shell tells of SIGPIPE
    except OSError as error:
        if os.environ.get("CFWORLD_DEBUG"):
            raise
        fail(_os_message(error, name))
    except KeyboardInterrupt as interruption:
        print("\ncfworld: " + ": ".join(["interrupted", *map(str, interruption.args)]), file=sys.stderr)
        raise SystemExit(143 if isinstance(interruption, Terminated) else 130) from None  # of SIGTERM or of SIGINT


@contextmanager
def _hydra_raises() -> Iterator[None]:
    """Let Hydra raise its errors instead of printing them and leaving."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before


def _overrides_last(arguments: list[str]) -> list[str]:
    """Put flags before overrides: Hydra's parser takes overrides from one place only, with no flag between them."""
    if nameless := [word for word in arguments if word.startswith("=")]:
        raise ConfigError(f"got {' '.join(nameless)}; expected key=value, with nothing between key and =.")
    overrides = [word for word in arguments if re.match(r"[^-=][^=]*=|~[\w.]+$", word)]
    return [*(word for word in arguments if word not in overrides), *_QUIET, *overrides]


@contextmanager
def _quiet_arguments() -> Iterator[None]:
    before = sys.argv
    sys.argv = [before[0], *_overrides_last(before[1:])]
    try:
        yield
    finally:
        sys.argv = before
