import difflib
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import vizdoom

from cfworld.envs.doom_walls import (
    TEXTURES,
    Lump,
    draw_walls,
    read_wad,
    with_walls,
    without_goal,
    write_wad,
)
from cfworld.errors import ConfigError

STOCK = Path(vizdoom.scenarios_path) / "my_way_home.wad"
FREEDOOM = Path(vizdoom.__file__).parent / "freedoom2.wad"

ROOM = """
sidedef // 0
{
sector = 0;
texturemiddle = "BIGDOOR2";
}

sidedef // 1
{
sector = 0;
}

sidedef // 2
{
sector = 1;
offsetx = 112;
texturemiddle = "SFALL2";
}
"""


def textmap() -> str:
    return next(lump.data for lump in read_wad(STOCK) if lump.name == "TEXTMAP").decode("ascii")


def changed_lines(before: str, after: str) -> list[tuple[str, str]]:
    old, new = before.splitlines(), after.splitlines()
    assert len(old) == len(new)
    return [(one, other) for one, other in zip(old, new, strict=True) if one != other]


def test_walls_are_those_sides_that_have_a_texture_and_nothing_else_is_touched():
    assert len(draw_walls(ROOM, seed=0)) == 2
    assert changed_lines(ROOM, with_walls(ROOM, ["RED", "BLUE"])) == [
        ('texturemiddle = "BIGDOOR2";', 'texturemiddle = "RED";'),
        ('texturemiddle = "SFALL2";', 'texturemiddle = "BLUE";'),
    ]


def test_only_the_textures_of_the_stock_map_change():
    before = textmap()
    walls = draw_walls(before, seed=3)
    after = with_walls(before, walls)
    assert len(walls) == 76
    assert re.findall(r'texturemiddle = "(.*)"', after) == walls
    assert all(line.startswith("texturemiddle = ") for pair in changed_lines(before, after) for line in pair)


def test_a_seed_names_its_draw():
    before = textmap()
    assert draw_walls(before, seed=3) == draw_walls(before, seed=3)
    same = np.mean([one == other for one, other in zip(draw_walls(before, 3), draw_walls(before, 4), strict=True)])
    assert same < 0.2


def test_the_walls_of_a_room_differ():
    sides = "".join(f'sidedef\n{{\nsector = 4;\ntexturemiddle = "{i}";\n}}\n' for i in range(len(TEXTURES)))
    assert sorted(draw_walls(sides, seed=1)) == sorted(TEXTURES)


def test_every_texture_is_drawn_about_equally_often():
    before = textmap()
    drawn = [name for seed in range(300) for name in draw_walls(before, seed)]
    counts = np.array([drawn.count(name) for name in TEXTURES])
    assert set(drawn) == set(TEXTURES)
    assert counts.max() < 1.15 * counts.min()


def test_the_simulators_assets_have_every_texture():
    texture1 = next(lump.data for lump in read_wad(FREEDOOM) if lump.name == "TEXTURE1")
    (count,) = struct.unpack_from("<i", texture1)
    starts = struct.unpack_from(f"<{count}i", texture1, 4)
    names = {texture1[start : start + 8].split(b"\0")[0].decode() for start in starts}
    assert set(TEXTURES) <= names


def test_the_vest_loses_its_id_and_nothing_else():
    before = textmap()
    changes = [line for line in difflib.ndiff(before.splitlines(), without_goal(before).splitlines())]
    assert [line for line in changes if line[0] in "+-"] == ["- id = 22;", "+ id = 0;"]
    assert before.index("type = 2018") - before.index("id = 22;") < 100


def test_what_is_written_is_read_again(tmp_path):
    path = tmp_path / "rooms.wad"
    lumps = read_wad(STOCK)
    write_wad(path, lumps)
    again = read_wad(path)
    assert [lump.name for lump in again] == ["MAP01", "TEXTMAP", "BEHAVIOR", "DIALOGUE", "ZNODES", "SCRIPTS", "ENDMAP"]
    assert [lump.data.rstrip(b" ") for lump in again] == [lump.data.rstrip(b" ") for lump in lumps]


def test_a_longer_text_moves_no_other_lump(tmp_path):
    path = tmp_path / "rooms.wad"
    others = [Lump(name="MAP01", data=b""), Lump(name="ZNODES", data=b"nodes")]
    write_wad(path, [others[0], Lump(name="TEXTMAP", data=b"short"), others[1]])
    before = path.read_bytes()
    write_wad(path, [others[0], Lump(name="TEXTMAP", data=b"a longer text"), others[1]])
    after = path.read_bytes()
    assert len(before) == len(after)
    assert before.index(b"nodes") == after.index(b"nodes")
    assert b"a longer text" in after


def test_a_file_that_is_open_elsewhere_shows_what_is_written(tmp_path):
    path = tmp_path / "rooms.wad"
    write_wad(path, [Lump(name="TEXTMAP", data=b"old")])
    with path.open("rb") as reader:
        write_wad(path, [Lump(name="TEXTMAP", data=b"new")])
        assert b"new" in reader.read()


def test_what_is_no_wad_is_refused(tmp_path):
    path = tmp_path / "rooms.wad"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ConfigError, match="expected a WAD"):
        read_wad(path)


def test_a_map_that_would_move_the_lumps_behind_it_is_refused(tmp_path):
    path = tmp_path / "rooms.wad"
    write_wad(path, [Lump(name="TEXTMAP", data=b" " * 32768), Lump(name="ENDMAP", data=b"")])
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="TEXTMAP of 32769 bytes; expected at most 32768"):
        write_wad(path, [Lump(name="TEXTMAP", data=b" " * 32769), Lump(name="ENDMAP", data=b"")])
    assert path.read_bytes() == before
