"""The twin of DoomTakeCover: ViZDoom's take_cover scenario, 64x64, single ticks."""

from pathlib import Path

from cfworld.envs.doom_base import DoomTwin

__all__ = ["DoomTakeCoverTwin"]


class DoomTakeCoverTwin(DoomTwin):
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
    As in `Twin`: `obs`, `horizon`, `max_ticks`, `render_mode`, `info_frames`, `action_chunks`.

        twin = gym.make("cfworld/DoomTakeCoverReal-v0", obs="frames", max_ticks=700)

    ## Version History
    - v0: first version.
    """

    config_name = "take_cover.cfg"
    buttons = ("MOVE_LEFT", "MOVE_RIGHT")
    # The wrapper of VizdoomTakeCover-v1 numbers the button combinations in the order of itertools.product.
    presses = ((0, 0), (0, 1), (1, 0))
    num_actions = len(presses)
    action_names = ("stay", "move right", "move left")
    variable_names = ("HEALTH", "POSITION_X", "POSITION_Y", "ANGLE")

    def _scenario(self, stock: Path, folder: Path, game_seed: int, god: bool) -> Path:
        del folder, game_seed, god
        return stock / "take_cover.wad"
