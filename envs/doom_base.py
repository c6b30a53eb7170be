"""What the twins that ViZDoom simulates share: one simulator for all episodes, averaged screens, single ticks."""

import contextlib
import shutil
import tempfile
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from cfworld.envs.twin_base import Twin
from cfworld.errors import MissingDependencyError

__all__ = ["DoomTwin", "box_average"]

BOX_HEIGHT, BOX_WIDTH = 3, 4


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


class DoomTwin(Twin, ABC):
    """Base of the twins that ViZDoom simulates.

    A twin supplies `_scenario`, the class attributes below and `num_actions`.
    """

    fps = 35
    config_name: ClassVar[str]
    """ViZDoom's file of the scenario's settings."""
    buttons: ClassVar[Sequence[str]]
    """ViZDoom's names of the buttons."""
    presses: ClassVar[Sequence[Sequence[float]]]
    """What each action does to each button."""
    variable_names: ClassVar[Sequence[str]]
    """ViZDoom's names of the variables that are reported."""

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._game: Any = None
        self._folder = Path()
        self._release: Callable[[], object] | None = None

    def close(self) -> None:
        """Release the simulator and the window. A second call does nothing."""
        if self._release is not None:
            self._release()
            self._release = None
            self._game = None
        super().close()

    @abstractmethod
    def _scenario(self, stock: Path, folder: Path, game_seed: int, god: bool) -> Path:
        """Prepare the scenario's file for an episode.

        Args:
            stock: the scenarios that come with ViZDoom.
            folder: the twin's own, which is removed with the simulator.
            game_seed: the seed of the episode, 32 bits.
            god: whether the episode has no real end.

        Returns:
            The file, the same one for every episode: the simulator opens it once.
        """

    def _begin(self, game_seed: int, god: bool) -> np.ndarray:
        vizdoom = _import_vizdoom(type(self).__name__)
        first = self._game is None
        if first:
            self._game = self._open(vizdoom)
        scenario = self._scenario(Path(vizdoom.scenarios_path), self._folder, game_seed, god)
        self._game.set_seed(game_seed)
        if first:
            self._game.set_doom_scenario_path(str(scenario))
            self._game.init()
        else:
            self._game.new_episode()
        if god:
            self._game.send_game_command("god")
        return box_average(self._game.get_state().screen_buffer)

    def _tick(self, action: int) -> tuple[np.ndarray | None, float, bool]:
        reward = self._game.make_action(self.presses[action], 1)
        state = self._game.get_state()
        if state is None:
            return None, reward, True
        return box_average(state.screen_buffer), reward, False

    def _variables(self) -> dict[str, float]:
        return {name: self._game.get_game_variable(handle) for name, handle in self._handles.items()}

    def _open(self, vizdoom: Any) -> Any:
        """A simulator that is about to start, and will be released with this twin."""
        self._folder = Path(tempfile.mkdtemp(prefix="cfworld-doom-"))
        saves = Path.cwd() / "_vizdoom"
        saves.mkdir(exist_ok=True)  # two simulators that make it at once crash
        self._handles = {name: getattr(vizdoom.GameVariable, name) for name in self.variable_names}
        game = vizdoom.DoomGame()
        self._release = weakref.finalize(self, _close_game, game, self._folder, saves)
        game.load_config(str(Path(vizdoom.scenarios_path) / self.config_name))
        game.set_doom_game_path(str(Path(vizdoom.__file__).parent / "freedoom2.wad"))
        game.set_doom_config_path(str(self._folder / "doom.ini"))
        game.set_available_buttons([getattr(vizdoom.Button, name) for name in self.buttons])
        game.set_window_visible(False)
        game.set_screen_resolution(vizdoom.ScreenResolution.RES_256X192)
        game.set_screen_format(vizdoom.ScreenFormat.RGB24)
        game.set_episode_timeout(0)
        return game


def _import_vizdoom(wanted_by: str) -> Any:
    try:
        import vizdoom
    except ImportError as error:
        raise MissingDependencyError.with_hint(wanted_by, "ViZDoom", "doom") from error
    return vizdoom


def _close_game(game: Any, settings: Path, saves: Path) -> None:
    """Stop the simulator and remove the folders that it made: its settings, and its saves where empty."""
    game.close()
    shutil.rmtree(settings, ignore_errors=True)
    with contextlib.suppress(OSError):
        saves.rmdir()
