"""Importing this package registers the environments with Gymnasium."""

from gymnasium.envs.registration import register  # pyright: ignore[reportUnknownVariableType]

from cfworld.envs.twins import DoomRoomsTwin, DoomTakeCoverTwin, PanoramaTwin, Ticks, Twin
from cfworld.envs.world_env import EnvState, WorldEnv

__all__ = ["DoomRoomsTwin", "DoomTakeCoverTwin", "EnvState", "PanoramaTwin", "Ticks", "Twin", "WorldEnv"]

register(id="cfworld/World-v0", entry_point="cfworld.envs.world_env:WorldEnv")
register(
    id="cfworld/DoomTakeCover-v0",
    entry_point="cfworld.envs.world_env:WorldEnv",
    kwargs={"world": "doom_take_cover"},
)
register(
    id="cfworld/Panorama-v0",
    entry_point="cfworld.envs.world_env:WorldEnv",
    kwargs={"world": "panorama"},
)
register(
    id="cfworld/DoomRooms-v0",
    entry_point="cfworld.envs.world_env:WorldEnv",
    kwargs={"world": "doom_rooms"},
)

register(id="cfworld/DoomRoomsReal-v0", entry_point="cfworld.envs.doom_rooms:DoomRoomsTwin")
register(id="cfworld/DoomTakeCoverReal-v0", entry_point="cfworld.envs.doom_twin:DoomTakeCoverTwin")
register(id="cfworld/PanoramaReal-v0", entry_point="cfworld.envs.panorama_twin:PanoramaTwin")
