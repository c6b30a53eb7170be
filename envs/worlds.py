"""The environments of single worlds: `WorldEnv`, with what is known of the world.

They add nothing but their docstrings, `help(gym.make(id).unwrapped)`: what they do follows from `world`, which the
registration of their ids presets.
"""

from cfworld.envs.world_env import WorldEnv

__all__ = ["DoomRoomsEnv", "DoomTakeCoverEnv", "PanoramaEnv"]


class DoomTakeCoverEnv(WorldEnv):
    """The generated world of ViZDoom's TakeCover: dodge the fireballs, live long.

    ## Description
    Monsters at the far wall of a room throw fireballs; the agent can only step aside. The world was learned from
    episodes of `VizdoomTakeCover-v1`, whose twin is `cfworld/DoomTakeCoverReal-v0`. It shows 35 frames a second of
    game time and makes 4 a step: 8.75 steps a second. The world's card, `cfworld/zoo/doom_take_cover/README.md`, says
    what was measured and what is wrong with it.

    ## Action Space
    `Discrete(3)`: 0 stay, 1 move right, 2 move left; the names stand for the numbers. An action holds for the four
    frames of the step. A sequence of four, one for each frame, is taken too, and is the space
    `MultiDiscrete([3 3 3 3])` under `action_chunks=True`.

    ## Observation Space
    By `obs`: "frame", the last frame, uint8 [64, 64, 3]; "frames", the four frames of the step on the channel axis,
    oldest first, uint8 [64, 64, 12]; "latent", the chunk's latents, float32 [1024]. Health is not shown.

    ## Rewards
    The reward head's estimate of the simulator's, +1 for every frame: about 4 a step, and less in the step of an end.

    ## Starting State
    One of 256 beginnings of recorded episodes, the middle of the room, drawn by the seed or named by
    `options={"start": ...}`.

    ## Episode End
    `terminated` by the hazard head, which learned when the agent dies. `truncated` after 525 steps, 2,100 frames or
    60 s of game time, or by `truncate_above`.

    ## Arguments
    Those of `WorldEnv`, with `world` preset; there is a "student", the default, and a "teacher":

        env = gym.make("cfworld/DoomTakeCover-v0", obs="frames", horizon=300, variant="student")

    ## Version History
    - v0: first version.
    """


class PanoramaEnv(WorldEnv):
    """The generated world of a camera over a ring of tiles: the memory laboratory.

    ## Description
    A camera pans over a ring of 16 tiles whose pattern is drawn anew for every episode, so that what lies outside the
    view can only be remembered; one tile is the beacon, which is to be found. The world was learned from its twin,
    `cfworld/PanoramaReal-v0`. It shows 10 frames a second of game time and makes 4 a step: 2.5 steps a second. The
    world's card, `cfworld/zoo/panorama/README.md`, says what was measured: it remembers views for 13 to 20 seconds.

    ## Action Space
    `Discrete(3)`: 0 stay, 1 turn left, 2 turn right; the names stand for the numbers. An action holds for the four
    frames of the step. A sequence of four, one for each frame, is taken too, and is the space
    `MultiDiscrete([3 3 3 3])` under `action_chunks=True`.

    ## Observation Space
    By `obs`: "frame", the last frame, uint8 [64, 64, 3]; "frames", the four frames of the step on the channel axis,
    oldest first, uint8 [64, 64, 12]; "latent", the chunk's latents, float32 [1024].

    ## Rewards
    The reward head's estimate of the simulator's, summed over the step: +1 for every frame that shows the beacon at
    the centre, else 0.

    ## Starting State
    One of 256 beginnings of recorded episodes, each on a ring of its own, drawn by the seed or named by
    `options={"start": ...}`.

    ## Episode End
    `terminated` by the hazard head, which learned when the agent has stayed at the beacon for two steps. `truncated`
    after 525 steps, 2,100 frames or 210 s of game time, or by `truncate_above`.

    ## Arguments
    Those of `WorldEnv`, with `world` preset; there is a "student", the default, and a "teacher":

        env = gym.make("cfworld/Panorama-v0", obs="frames", horizon=300)

    ## Version History
    - v0: first version.
    """


class DoomRoomsEnv(WorldEnv):
    """The generated world of ViZDoom's MyWayHome with walls that are drawn anew: memory in first person.

    ## Description
    Rooms joined by corridors; at the end of one lies a green vest. The texture of each wall is drawn anew for every
    episode, so that what a wall looks like can only be remembered. The world was learned from its
    twin, `cfworld/DoomRoomsReal-v0`, and not for long enough: walls dissolve within seconds. It shows 35 frames a
    second of game time and makes 4 a step: 8.75 steps a second. The world's card, `cfworld/zoo/doom_rooms/README.md`,
    says what was measured, and how to train it further.

    ## Action Space
    `Discrete(5)`: 0 stay, 1 turn right, 2 turn left, 3 move forward, 4 move backward; the names stand for the numbers.
    An action holds for the four frames of the step. A sequence of four, one for each frame, is taken too, and is the
    space `MultiDiscrete([5 5 5 5])` under `action_chunks=True`.

    ## Observation Space
    By `obs`: "frame", the last frame, uint8 [64, 64, 3]; "frames", the four frames of the step on the channel axis,
    oldest first, uint8 [64, 64, 12]; "latent", the chunk's latents, float32 [2048].

    ## Rewards
    The reward head's estimate of the simulator's, summed over the step: -0.0001 for every frame, and +1 for reaching
    the vest.

    ## Starting State
    The beginning of a recorded episode, one of 17 places with walls of its own, drawn by the seed or named by
    `options={"start": ...}`.

    ## Episode End
    `terminated` by the hazard head, which learned when the vest is reached. `truncated` after 525 steps, 2,100 frames
    or 60 s of game time, or by `truncate_above`.

    ## Arguments
    Those of `WorldEnv`, with `world` preset; there is a "student", the default, and a "teacher":

        env = gym.make("cfworld/DoomRooms-v0", obs="frames", variant="teacher")

    ## Version History
    - v0: first version.
    """
