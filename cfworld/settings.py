"""What settings may be: names of a choice, and whole numbers; anything else is refused by a `ConfigError`."""

from enum import EnumMeta, StrEnum
from numbers import Integral
from typing import Any

from cfworld.errors import ConfigError

__all__ = ["Choice", "check_counts"]


class _ByNameOrValue(EnumMeta):
    """Lets OmegaConf, which looks members up by their names, find them by their values too."""

    def __getitem__(cls, name: str) -> Any:
        return super().__getitem__(name) if name in cls.__members__ else cls(name)


class Choice(StrEnum, metaclass=_ByNameOrValue):
    """One of some names; any other is a ConfigError."""

    @classmethod
    def _missing_(cls, value: object) -> None:
        raise ConfigError(f"got {value!r} as {cls.__name__}; expected one of {', '.join(cls)}.")


def check_counts(settings: Any, *names: str, least: int = 1, prefix: str = "") -> None:
    """Make sure that settings are whole numbers, and large enough.

    Args:
        settings: Whose attributes they are.
        names: The attributes.
        least: The smallest that may stand.
        prefix: What a user writes before their names, such as "planner.".

    Raises:
        ConfigError: If one is not.
    """
    for name in names:
        value = getattr(settings, name)
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ConfigError(f"got {prefix}{name}={value!r}; expected an integer of at least {least}.")
