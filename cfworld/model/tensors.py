"""Whether tensors from a file are those that a network has."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from cfworld.errors import CheckpointError

__all__ = ["check_tensors", "some"]

SHOWN = 8
"""Names that an error shows."""


def check_tensors(what: str, wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], origin: str) -> None:
    """Refuse tensors that are not exactly those that are wanted.

    Raises:
        CheckpointError: If some are missing, extra or of another shape; it names them.
    """
    missing, extra = sorted(wanted.keys() - tensors.keys()), sorted(tensors.keys() - wanted.keys())
    shapes = [
        f"{name} {list(tensors[name].shape)} instead of {list(wanted[name].shape)}"
        for name in sorted(wanted.keys() & tensors.keys())
        if tensors[name].shape != wanted[name].shape
    ]
    wrong = [
        f"{len(names)} {how}: {some(names)}"
        for how, names in (("missing", missing), ("extra", extra), ("of another shape", shapes))
        if names
    ]
    if wrong:
        raise CheckpointError(f"the tensors of {origin} do not make a {what}: {'; '.join(wrong)}.")


def some(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
