"""The twin of DoomRooms: ViZDoom's MyWayHome with walls that are drawn anew for every episode."""

from pathlib import Path

from cfworld.envs.doom_base import DoomTwin
from cfworld.envs.doom_walls import Lump, draw_walls, read_wad, with_walls, without_goal, write_wad

__all__ = ["TICKS_OF_A_TURN", "DoomRoomsTwin"]

TICKS_OF_A_TURN = 128
"""A tick turns by exactly 1/128 of a turn, so that headings repeat exactly."""
_DEGREES = 360 / TICKS_OF_A_TURN


class DoomRoomsTwin(DoomTwin):
    """ViZDoom's MyWayHome in the spaces, frame size and step length of `cfworld/DoomRooms-v0`.

    ## Description
    Rooms joined by corridors; at the end of one lies a green vest. The map is always the same, but the
    texture of each of its 76 walls is drawn anew for every episode, so that what a wall looks like can only be
    remembered. The screen is rendered at 256x192 and averaged over boxes of 4x3 pixels.

    ## Action Space
    `Discrete(5)`: 0 nothing, 1 turn right, 2 turn left, 3 forward, 4 backward. An action lasts four ticks of 1/35 s.
    A tick turns by 2.8125 degrees, at once and exactly: 32 steps make a full turn, and as many ticks back undo a
    turn. (The buttons of the scenario itself turn by 1.76 degrees a tick for five ticks, then by 3.52, and never
    make a full turn exactly.) Speed is gained and lost gradually, up to 8.3 units a tick; where no wall is met, as
    many ticks backward undo those forward to within one unit, once the agent stands still (after up to 50 ticks).

    ## Observation Space
    uint8 in [0, 255]: the last frame [64, 64, 3], or with `obs="frames"` the four frames of the step on the
    channel axis [64, 64, 12], oldest first.

    ## Rewards
    The scenario's: -0.0001 for every tick, and +1 for reaching the vest; a step's reward is their sum.

    ## Starting State
    A random heading in one of 17 places, as the scenario draws them.

    ## Episode End
    `terminated` by reaching the vest, one tick after its reward. `truncated` at the time limit. With
    `options={"god": True}` the vest can be taken, but neither rewards nor ends.

    ## Arguments
    As in `Twin`: `obs`, `horizon`, `max_ticks`, `render_mode`, `info_frames`, `action_chunks`.

        twin = gym.make("cfworld/DoomRoomsReal-v0", obs="frames", max_ticks=700)

    ## Version History
    - v0: first version.
    """

    config_name = "my_way_home.cfg"
    buttons = ("TURN_LEFT_RIGHT_DELTA", "MOVE_FORWARD", "MOVE_BACKWARD")
    presses = ((0, 0, 0), (_DEGREES, 0, 0), (-_DEGREES, 0, 0), (0, 1, 0), (0, 0, 1))
    num_actions = len(presses)
    action_names = ("stay", "turn right", "turn left", "move forward", "move backward")
    variable_names = ("POSITION_X", "POSITION_Y", "ANGLE")

    def _scenario(self, stock: Path, folder: Path, game_seed: int, god: bool) -> Path:
        path = folder / "rooms.wad"
        write_wad(path, [self._redrawn(lump, game_seed, god) for lump in read_wad(stock / "my_way_home.wad")])
        return path

    @staticmethod
    def _redrawn(lump: Lump, game_seed: int, god: bool) -> Lump:
        if lump.name != "TEXTMAP":
            return lump
        textmap = lump.data.decode("ascii")
        textmap = with_walls(textmap, draw_walls(textmap, game_seed))
        return Lump(name=lump.name, data=(without_goal(textmap) if god else textmap).encode("ascii"))
