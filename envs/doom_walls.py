"""The walls of ViZDoom's MyWayHome, drawn anew: a map's TEXTMAP is text, so its textures can be rewritten."""

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, cycle
from pathlib import Path

import numpy as np

from cfworld.errors import ConfigError

__all__ = ["TEXTURES", "Lump", "draw_walls", "read_wad", "with_walls", "without_goal", "write_wad"]

TEXTURES = (
    "A-CAMO1",
    "A-CONCTE",
    "A-REDROK",
    "AQBRIK02",
    "AQLITE07",
    "AQLITE09",
    "AQLITE13",
    "AQLITE15",
    "AQLITE21",
    "AQTRIM07",
    "BIGMURAL",
    "BLAKWAL2",
    "BRICK11",
    "BRICK12",
    "COMPBLUE",
    "CRATE1",
    "DOORHI",
    "MARBFACE",
    "MODWALL3",
    "PANRED",
    "SHAWN2",
    "SKIN2",
    "WOOD10",
    "ZZWOLF1",
)
"""Walls of Freedoom's second phase that differ in colour or coarse pattern at 64x64 and do not move."""

_HEADER, _ENTRY = struct.Struct("<4sii"), struct.Struct("<ii8s")
_TEXTMAP_BYTES = 32768
_SIDEDEF = re.compile(r"sidedef[^{]*\{([^}]*)\}")
_SECTOR = re.compile(r"\bsector\s*=\s*(\d+)\s*;")
_TEXTURE = re.compile(r'(?<=\btexturemiddle = ")[^"]*(?=")')
_GOAL = re.compile(r"(thing[^{]*\{\s*)id = 22;([^}]*\btype = 2018;)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Lump:
    """A named piece of a WAD."""

    name: str
    """Up to eight ASCII characters."""
    data: bytes
    """Its content, empty for a marker."""


def read_wad(path: Path) -> list[Lump]:
    """The lumps of a WAD, in the order of its directory.

    Raises:
        ConfigError: if the file is no WAD.
    """
    content = path.read_bytes()
    if content[:4] not in (b"PWAD", b"IWAD"):
        raise ConfigError(f"got {str(path)!r} beginning with {content[:4]!r}; expected a WAD. Reinstall ViZDoom")
    _, count, directory = _HEADER.unpack_from(content)
    entries = (_ENTRY.unpack_from(content, directory + _ENTRY.size * i) for i in range(count))
    return [
        Lump(name=name.split(b"\0")[0].decode("ascii"), data=content[first : first + size])
        for first, size, name in entries
    ]


def write_wad(path: Path, lumps: Sequence[Lump]) -> None:
    """Write a WAD, or write over one in place: a simulator may have it open, and then sees the new lumps.

    The TEXTMAP is padded with blanks to a fixed size. So the lumps lie where they lay before, and what follows the
    text in the simulator's read buffer is the same.

    Args:
        path: the file.
        lumps: its lumps; those of the same map, apart from the TEXTMAP, if the file exists.

    Raises:
        ConfigError: if the TEXTMAP is larger than that size.
    """
    if too_large := [len(lump.data) for lump in lumps if lump.name == "TEXTMAP" and len(lump.data) > _TEXTMAP_BYTES]:
        raise ConfigError(
            f"got a TEXTMAP of {too_large[0]} bytes; expected at most {_TEXTMAP_BYTES}, so that the lumps behind it "
            "stay where they are. Use the map of the ViZDoom release that cfworld names"
        )
    padded = [lump.data.ljust(_TEXTMAP_BYTES) if lump.name == "TEXTMAP" else lump.data for lump in lumps]
    *starts, end = accumulate((len(data) for data in padded), initial=_HEADER.size)
    directory = [
        _ENTRY.pack(start, len(data), lump.name.encode("ascii"))
        for start, data, lump in zip(starts, padded, lumps, strict=True)
    ]
    content = b"".join([_HEADER.pack(b"PWAD", len(lumps), end), *padded, *directory])
    with path.open("r+b" if path.exists() else "wb") as file:
        file.write(content)


def draw_walls(textmap: str, seed: int) -> list[str]:
    """Draw a texture for every wall of a map; walls of one room differ while there are enough textures.

    Args:
        textmap: the map.
        seed: names the draw.

    Returns:
        The textures, in the order of the walls in the map.
    """
    sectors = [
        int(sector[1])
        for side in _SIDEDEF.findall(textmap)
        if _TEXTURE.search(side) and (sector := _SECTOR.search(side))
    ]
    rng = np.random.default_rng(seed)
    orders = {sector: cycle(rng.permutation(len(TEXTURES))) for sector in sorted(set(sectors))}
    return [TEXTURES[next(orders[sector])] for sector in sectors]


def with_walls(textmap: str, textures: Sequence[str]) -> str:
    """The map with other textures on its walls, in their order; nothing else changes."""
    following = iter(textures)
    return _TEXTURE.sub(lambda _: next(following), textmap)


def without_goal(textmap: str) -> str:
    """The map of MyWayHome with a vest that nothing follows from: the script that ends the episode seeks its id."""
    changed, count = _GOAL.subn(r"\g<1>id = 0;\2", textmap)
    assert count == 1, "MyWayHome has one vest"
    return changed
