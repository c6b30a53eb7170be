"""The twins: real simulators with the spaces, frame size and step length of the generated worlds."""

from cfworld.envs.doom_rooms import DoomRoomsTwin
from cfworld.envs.doom_twin import DoomTakeCoverTwin
from cfworld.envs.panorama_twin import PanoramaTwin
from cfworld.envs.twin_base import Ticks, Twin

__all__ = ["DoomRoomsTwin", "DoomTakeCoverTwin", "PanoramaTwin", "Ticks", "Twin"]
