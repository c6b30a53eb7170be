"""What every command checks before it loads anything: where it computes, where it writes, what it is given."""

import os
from pathlib import Path
from typing import Any

from cfworld.errors import ConfigError

__all__ = ["check_folder", "check_keys"]

_NAMES = ("world", "baseline", "out", "scenario", "teacher", "student", "data", "host")


def check_keys(config: Any) -> None:
    """Check `device`, `out` and the names of worlds and datasets in a command's configuration, where it has them.

    Raises:
        ConfigError: if a name is empty, the device cannot compute, or the folder cannot be written to.
    """
    for name in _NAMES:
        if getattr(config, name, None) == "":
            raise ConfigError(f"got {name}= with nothing after it; give {name} a value, or leave it out")
    if (device := getattr(config, "device", None)) is not None:
        from cfworld.world.device import usable_device  # not before a command runs: `--help` is quick

        usable_device(device)
    if (out := getattr(config, "out", None)) is not None:
        check_folder(out)


def check_folder(out: str) -> None:
    """Make sure that a folder is there, or can be made.

    Raises:
        ConfigError: if it, or what it would lie in, is a file or may not be written to.
    """
    path = Path(out).absolute()
    found = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not found.is_dir():
        raise ConfigError(f"got out={out}, but {str(found)!r} is no folder; choose another folder with out=")
    if not os.access(found, os.W_OK | os.X_OK):
        raise ConfigError(f"got out={out}, but {str(found)!r} may not be written to; choose another folder with out=")
