"""The twin of DoomTakeCover: ViZDoom's take_cover scenario, 64x64, single ticks."""

import contextlib
import shutil
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cfworld.envs.twin_base import Twin
from cfworld.errors import MissingDependencyError

__all__ = ["DoomTakeCoverTwin", "box_average"]

BOX_HEIGHT, BOX_WIDTH = 3, 4
VARIABLES = ("HEALTH", "POSITION_X", "POSITION_Y", "ANGLE")
# The wrapper of VizdoomTakeCover-v1 numbers the button combinations in the order of itertools.product;
# the scenario's buttons are MOVE_LEFT, MOVE_RIGHT.
BUTTONS = ([0, 0], [0, 1], [1, 0])


def box_average(screen: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Average boxes 3 pixels tall and 4 wide, rounding half up.

    Args:
        screen: uint8 [H, W, 3], H a multiple of 3 and W of 4.

    Returns:
        uint8 [H / 3, W / 4, 3].
    """
    height, width, channels = screen.shape
    rows = screen.reshape(height // BOX_HEIGHT, BOX_HEIGHT, width * channels)
    sums = rows[:, 0].astype(np.uint16)
    for row in range(1, BOX_HEIGHT):
        sums += rows[:, row]
    columns = sums.reshape(height // BOX_HEIGHT, width // BOX_WIDTH, BOX_WIDTH, channels)
    total = columns[:, :, 0].copy()
    for column in range(1, BOX_WIDTH):
        total += columns[:, :, column]
    num_pixels = BOX_HEIGHT * BOX_WIDTH
    return ((total + num_pixels // 2) // num_pixels).astype(np.uint8)


class DoomTakeCoverTwin(Twin):
    """ViZDoom's TakeCover in the spaces, frame size and step length of `cfworld/DoomTakeCover-v0`.

    ## Description
    Imps at the far wall of a room throw fireballs; the agent can only step aside. More imps appear with time.
    The scenario and its actions are those of `VizdoomTakeCover-v1`; the screen is rendered at 256x192 and
    averaged over boxes of 4x3 pixels.

    ## Action Space
    `Discrete(3)`: 0 nothing, 1 move right, 2 move left. An action lasts four ticks of 1/35 s. The agent gains
    and loses speed gradually; the simulator holds it still for the first seven ticks of an episode.

    ## Observation Space
    uint8 in [0, 255]: the last frame [64, 64, 3], or with `obs="frames"` the four frames of the step on the
    channel axis [64, 64, 12], oldest first. Health is not shown.

    ## Rewards
    +1 for every tick, the one of death included; a step's reward is their sum. Death costs nothing.

    ## Starting State
    The middle of the room, facing three imps, with health 100.

    ## Episode End
    `terminated` by death only; a fireball takes 21 to 168 of health. `truncated` at the time limit.
    With `options={"god": True}` nothing hurts.

    ## Arguments
    As in `Twin`: `obs`, `horizon`, `max_ticks`, `render_mode`, `info_frames`.

    ## Version History
    - v0: first version.
    """

    fps = 35
    num_actions = len(BUTTONS)

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._game: Any = None
        self._release: Callable[[], object] | None = None

    def close(self) -> None:
        """Release the simulator and the window. A second call does nothing."""
        if self._release is not None:
            self._release()
            self._release = None
            self._game = None
        super().close()

    def _begin(self, game_seed: int, god: bool) -> np.ndarray:
        if self._game is None:
            folder = Path(tempfile.mkdtemp(prefix="cfworld-doom-"))
            saves = Path.cwd() / "_vizdoom"
            saves.mkdir(exist_ok=True)  # two simulators that make it at once crash
            self._game = self._make_game(folder)
            self._release = weakref.finalize(self, _close_game, self._game, folder, saves)
            self._game.set_seed(game_seed)
            self._game.init()
        else:
            self._game.set_seed(game_seed)
            self._game.new_episode()
        if god:
            self._game.send_game_command("god")
        return box_average(self._game.get_state().screen_buffer)

    def _tick(self, action: int) -> tuple[np.ndarray | None, float, bool]:
        reward = self._game.make_action(BUTTONS[action], 1)
        state = self._game.get_state()
        if state is None:
            return None, reward, True
        return box_average(state.screen_buffer), reward, False

    def _variables(self) -> dict[str, float]:
        return {name: self._game.get_game_variable(self._handles[name]) for name in VARIABLES}

    def _make_game(self, folder: Path) -> Any:
        try:
            import vizdoom
        except ImportError as error:
            raise MissingDependencyError(
                "got DoomTakeCoverTwin without ViZDoom, expected it installed; pip install cfworld[doom]"
            ) from error
        self._handles = {name: getattr(vizdoom.GameVariable, name) for name in VARIABLES}
        game = vizdoom.DoomGame()
        game.load_config(str(Path(vizdoom.scenarios_path) / "take_cover.cfg"))
        game.set_doom_config_path(str(folder / "doom.ini"))
        game.set_window_visible(False)
        game.set_screen_resolution(vizdoom.ScreenResolution.RES_256X192)
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        game.set_episode_timeout(0)
        return game


def _close_game(game: Any, settings: Path, saves: Path) -> None:
    """Stop the simulator and remove the folders that it made: its settings, and its saves where empty."""
    game.close()
    shutil.rmtree(settings, ignore_errors=True)
    with contextlib.suppress(OSError):
        saves.rmdir()
