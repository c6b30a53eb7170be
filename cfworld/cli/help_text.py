"""What `cfworld <command> --help` prints, read off the schema and the configuration files."""

import dataclasses
import enum
import importlib
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterable, Iterator
from importlib import resources
from typing import Any, get_args, get_type_hints

from omegaconf import OmegaConf

__all__ = ["command_help", "group_help", "groups", "read_settings"]

_WIDTH = 110
_REQUIRED = "???"
"""What stands for the value of a key that has to be given; such keys come first."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Key:
    """One line of the help: a dotted key, its type, its default and what it means."""

    name: str
    kind: str
    default: str
    help: str


def command_help(
    name: str, schema: type[Any], summary: str = "", *, example: str = "", values: dict[str, Any] | None = None
) -> str:
    """Describe a command.

    Args:
        name: the command's name.
        schema: its configuration dataclass. A field's meaning is its `metadata["help"]`, or else its entry
            under `Attributes:` in the docstring of its class.
        summary: one sentence on what the command does.
        example: arguments to show.
        values: what the keys are when nothing is given; by default what the command's own file and the schema say.

    Returns:
        The text.
    """
    settings = read_settings(f"{name.replace('-', '_')}.yaml")
    lines = [f"usage: cfworld {name} [key=value ...]"]
    lines += [f"example: cfworld {name} {example}", ""] if example else [""]
    lines += [*textwrap.wrap(summary, _WIDTH), ""] if summary else []
    for group, default in groups(settings.get("defaults", [])):
        lines += [*_group_lines(group, default), ""]
    keys = _keys(schema, settings if values is None else values)
    return "\n".join([*lines, *_lines(sorted(keys, key=lambda key: key.default != _REQUIRED))])


def group_help(group: str, name: str, schema: type[Any], values: dict[str, Any] | None = None) -> str:
    """Describe the keys that come with one choice of a group.

    Args:
        group: the group's name, a folder of the configuration.
        name: the choice, a file there.
        schema: its dataclass; see `command_help`.
        values: what its keys are; by default what its file and the schema say.

    Returns:
        The text.
    """
    settings = read_settings(f"{group}/{name}.yaml") if values is None else values
    return "\n".join([f"{group}={name}", *_lines(_keys(schema, settings, f"{group}."))])


def read_settings(path: str) -> dict[str, Any]:
    """Read a file of the configuration as it stands, nothing composed or resolved."""
    text = (resources.files("cfworld.configs") / path).read_text(encoding="utf-8")
    settings: Any = OmegaConf.to_container(OmegaConf.create(text))
    return settings or {}


def groups(defaults: list[Any]) -> Iterator[tuple[str, str | None]]:
    """The groups of a defaults list, each with its choice."""
    for entry in defaults:
        for group, default in entry.items() if isinstance(entry, dict) else ():
            yield str(group).removeprefix("override "), default


def _lines(keys: Iterable[_Key]) -> Iterator[str]:
    for key in keys:
        yield f"  {key.name}={key.default}  ({key.kind})"
        yield from textwrap.wrap(key.help, _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)


def _keys(schema: type[Any], settings: dict[str, Any], prefix: str = "") -> Iterator[_Key]:
    hints = get_type_hints(schema)
    described = _attributes(schema)
    for field in dataclasses.fields(schema):
        kind = hints[field.name]
        if dataclasses.is_dataclass(kind) and isinstance(kind, type):
            yield from _keys(kind, settings.get(field.name) or {}, f"{prefix}{field.name}.")
            continue
        yield _Key(
            name=prefix + field.name,
            kind=_kind(kind),
            default=_shown(settings[field.name] if field.name in settings else _default(field)),
            help=field.metadata.get("help") or described.get(field.name, ""),
        )


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else _REQUIRED


def _shown(value: Any) -> str:
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_shown, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value)


def _kind(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "|".join(str(member.value) for member in kind)
    if isinstance(kind, type) and not get_args(kind):
        return kind.__name__
    return str(kind).replace("typing.", "").replace("NoneType", "None")


def _attributes(schema: type[Any]) -> dict[str, str]:
    """Read the `Attributes:` sections of the Google docstrings of a class and its bases."""
    found: dict[str, str] = {}
    for base in reversed(schema.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        section = re.search(r"^(?:Attributes|Args):\n(.*?)(?=^\S|\Z)", text, re.M | re.S)
        body = textwrap.dedent(section[1]) if section else ""
        entries = re.findall(r"^(\w+)(?: \([^)]*\))?: (.*?)(?=^\w|\Z)", body, re.M | re.S)
        found |= {name: " ".join(meaning.split()) for name, meaning in entries}
    return found


def _group_lines(group: str, default: str | None) -> Iterator[str]:
    """A group, what it is, and its choices with the comment at the head of each file."""
    package = importlib.import_module(f"cfworld.configs.{group}")
    meaning = " ".join((package.__doc__ or "").split())
    yield f"  {group}=<choice>, {default or 'none'} by default. {meaning}"
    paths = sorted(resources.files(f"cfworld.configs.{group}").iterdir(), key=lambda path: path.name)
    choices = {path.name[:-5]: path.read_text(encoding="utf-8") for path in paths if path.name.endswith(".yaml")}
    width = max(map(len, choices), default=0)
    for choice, text in choices.items():
        yield f"      {choice:<{width}}  {_comment(text)}".rstrip()


def _comment(text: str) -> str:
    """The comment at the head of a file, without what it tells Hydra."""
    head = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.lstrip("# ") for line in head if "@package" not in line)
