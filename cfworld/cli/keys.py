"""What is wrong with the keys and values of a command line, told with what would be right."""

import dataclasses
import difflib
import re
import sys
from collections.abc import Collection
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from cfworld.errors import ConfigError

__all__ = ["check_known", "given_under", "unknown_key", "wrong_value"]

_OTHER_TYPE = re.compile(
    r"Value '(?P<value>.*)' (?:of type '\w+' could not be converted to (?P<kind>Integer|Float)|is not a valid bool)",
    re.DOTALL,
)
_EXPECTED = {"Integer": "a whole number", "Float": "a number", None: "true or false"}


def check_known(config: DictConfig, groups: Collection[str] = ()) -> None:
    """Refuse a key that was added, as `+key=value` does, where no dataclass has one of that name.

    Args:
        config: what was composed; its parts know the dataclasses that they become.
        groups: what the command line chooses files from. Those that are no keys of the schema only choose.

    Raises:
        ConfigError: if there is such a key.
    """
    known = _fields(OmegaConf.get_type(config))
    for key in map(str, config):
        if known and key not in known:
            raise ConfigError(_told(str(config._get_full_key(key)), known, groups))
        if OmegaConf.is_missing(config, key) or OmegaConf.is_interpolation(config, key):
            continue
        if isinstance(part := config[key], DictConfig):
            check_known(part)


def given_under(parent: str) -> list[str]:
    """The keys under a parent that the command line sets, without it: of `world.fps=10` that is `fps`."""
    keys = (word.partition("=")[0].lstrip("+") for word in sys.argv[1:] if "=" in word)
    return [key.removeprefix(f"{parent}.") for key in keys if key.startswith(f"{parent}.")]


def unknown_key(error: BaseException | None, groups: Collection[str] = ()) -> str | None:
    """What to say where OmegaConf did not find a key; None if its error is about something else.

    Args:
        error: what OmegaConf raised.
        groups: see `check_known`.
    """
    if not isinstance(error, OmegaConfBaseException) or not error.full_key:
        return None
    known = _fields(error.object_type)
    if not known or error.full_key.rpartition(".")[2] in known:
        return None
    return _told(error.full_key, known, () if "." in error.full_key else groups)


def wrong_value(error: BaseException | None) -> str | None:
    """What to say where a value is missing or of another type; None if the error is about something else.

    Args:
        error: what OmegaConf raised.
    """
    if not isinstance(error, OmegaConfBaseException):
        return None
    if isinstance(error, MissingMandatoryValue):
        return f"got no {error.full_key}; expected {error.full_key}=VALUE"
    if (found := _OTHER_TYPE.search(str(error))) is None:
        return None
    return f"got {error.full_key}={found['value']}; expected {_EXPECTED[found['kind']]}"


def _fields(schema: Any) -> list[str]:
    """The keys of a dataclass; none of anything else, whose keys are the user's."""
    return [entry.name for entry in dataclasses.fields(schema)] if dataclasses.is_dataclass(schema) else []


def _told(full_key: str, known: Collection[str], groups: Collection[str]) -> str:
    parent, dot, key = full_key.rpartition(".")
    shown = {name: f"{name}=<choice>" for name in groups} | {name: name for name in known}
    near = difflib.get_close_matches(key, shown, n=1)
    hint = f'. Did you mean "{parent}{dot}{shown[near[0]]}"?' if near else ""
    return f"got the key {full_key}; expected one of {', '.join(shown.values())}{f' under {parent}' * bool(dot)}{hint}"
