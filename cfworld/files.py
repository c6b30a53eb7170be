"""Files that appear whole or not at all, and folders that one process at a time writes to."""

import errno
import fcntl
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

__all__ = [
    "UNFINISHED",
    "discard_unfinished",
    "exists",
    "is_file",
    "locked_folder",
    "write_aside",
    "write_json",
    "write_text",
]

UNFINISHED = ".cfworld-unfinished-"
"""How the names of unfinished files begin: those of nobody else do."""


def exists(path: str | Path) -> bool:
    """Whether there is something at a path; nothing is where a text is too long for one."""
    return _answered(Path(path).exists)


def is_file(path: str | Path) -> bool:
    """Whether there is a file at a path; none is where a text is too long for one."""
    return _answered(Path(path).is_file)


def _answered(asked: Callable[[], bool]) -> bool:
    try:
        return asked()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


@contextmanager
def write_aside(path: str | Path, folder: Path | None = None) -> Iterator[Path]:
    """Give a temporary path beside `path`, and rename it to `path` once the block has ended without an error.

    Args:
        path: where the finished file shall be. Its folder is made if need be; its suffix is kept aside too,
            since some writers choose their format by it.
        folder: where the temporary file lies instead, on the same disk: for those who take every file beside `path`
            for a finished one.

    Yields:
        The path to write to. It is removed if the block raises.
    """
    path = Path(path)
    aside_folder = folder or path.parent
    for needed in (path.parent, aside_folder):
        needed.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{UNFINISHED}{path.stem}-", suffix=path.suffix, dir=aside_folder)
    os.close(handle)
    aside = Path(name)
    try:
        yield aside
        with aside.open("rb+") as file:
            os.fsync(file.fileno())
        aside.chmod(0o644)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def discard_unfinished(folder: Path) -> None:
    """Delete what `write_aside` left in a folder when it was killed. Only while nobody writes there."""
    for path in folder.glob(f"{UNFINISHED}*"):
        path.unlink()


@contextmanager
def locked_folder(folder: Path, error: type[Exception]) -> Iterator[None]:
    """Keep every other writer out of a folder, which is made if need be; the lock goes with the process that holds it.

    Args:
        folder: the folder.
        error: what to raise if another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            raise error(
                f"another process is writing to {str(folder)!r}; wait for it, or choose another folder"
            ) from held
        yield


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    with write_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: str | Path, figures: Mapping[str, Any]) -> None:
    """Write figures as JSON, whole or not at all.

    Args:
        path: the file.
        figures: numbers, strings, lists, mappings, paths, NumPy or PyTorch scalars and arrays, nested at
            will. A float that is not finite is written as null, since JSON has no word for it.
    """
    write_text(path, json.dumps(_plain(figures), indent=2, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value
