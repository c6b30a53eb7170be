"""The twin of Panorama: the exact simulator."""

import numpy as np

from cfworld.data.panorama import NUM_ACTIONS, Panorama
from cfworld.envs.twin_base import Twin

__all__ = ["PanoramaTwin"]


class PanoramaTwin(Twin):
    """The exact simulator behind `cfworld/Panorama-v0`: find the beacon in a ring of tiles.

    ## Description
    A camera pans over a ring of 16 tiles, 256 pixels around, of which it sees 64. The pattern is drawn anew
    for every episode, so that what lies outside the view can only be remembered. The compass above the tiles
    tells the absolute heading by its hue. One tile, a star on black, is the beacon.

    ## Action Space
    `Discrete(3)`: 0 stay, 1 left, 2 right. An action lasts four ticks of 1/10 s; a tick pans by two pixels,
    so that a full turn takes 32 steps.

    ## Observation Space
    uint8 in [0, 255]: the last frame [64, 64, 3], or with `obs="frames"` the four frames of the step on the
    channel axis [64, 64, 12], oldest first.

    ## Rewards
    +1 for every tick with the beacon's centre at most 8 pixels from the centre of the view, else 0; a step's
    reward is their sum.

    ## Starting State
    A random heading from which the beacon cannot be seen.

    ## Episode End
    `terminated` when the agent has stayed for 8 ticks on end with the beacon centred. `truncated` at the time
    limit. With `options={"god": True}` the beacon is never found.

    ## Arguments
    As in `Twin`: `obs`, `horizon`, `max_ticks`, `render_mode`, `info_frames`, `action_chunks`.

        twin = gym.make("cfworld/PanoramaReal-v0", obs="frames", max_ticks=700)

    ## Version History
    - v0: first version.
    """

    fps = 10
    num_actions = NUM_ACTIONS
    action_names = ("stay", "turn left", "turn right")

    _panorama: Panorama

    def _begin(self, game_seed: int, god: bool) -> np.ndarray:
        self._panorama = Panorama(game_seed, god)
        return self._panorama.frame()

    def _tick(self, action: int) -> tuple[np.ndarray | None, float, bool]:
        reward, found = self._panorama.tick(action)
        return self._panorama.frame(), reward, found

    def _variables(self) -> dict[str, float]:
        return self._panorama.variables()
