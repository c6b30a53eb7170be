"""What every command checks before it loads anything: where it computes, where it writes, what it is given."""

import os
from pathlib import Path
from typing import Any

from cfworld.errors import ConfigError

__all__ = ["check_device", "check_folder", "check_keys"]

_NAMES = ("world", "baseline", "out", "scenario", "teacher", "student")


def check_keys(config: Any) -> None:
    """Check `device`, `out` and the names of worlds in a command's configuration, where it has them.

    Raises:
        ConfigError: if a name is empty, the device cannot compute, or the folder cannot be written to.
    """
    for name in _NAMES:
        if getattr(config, name, None) == "":
            raise ConfigError(f"got {name}= with nothing after it; give {name} a value, or leave it out")
    if (device := getattr(config, "device", None)) is not None:
        check_device(device)
    if (out := getattr(config, "out", None)) is not None:
        check_folder(out)


def check_device(device: str) -> None:
    """Make sure that PyTorch computes on a device.

    Raises:
        ConfigError: if there is no such device here.
    """
    import torch  # not before a command runs: `--help` is quick

    try:
        torch.zeros(1, device=torch.device(device)).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        known = ["cpu", *(f"cuda:{index}" for index in range(count))]
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ConfigError(
            f"got device={device}, on which PyTorch cannot compute here ({reason}); choose among {', '.join(known)}"
        ) from None


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
