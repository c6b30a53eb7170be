"""The twins: real simulators with the spaces, frame size and step length of the generated worlds."""

from cfworld.envs.doom_twin import DoomTakeCoverTwin
from cfworld.envs.panorama_twin import PanoramaTwin
from cfworld.envs.twin_base import Ticks, Twin

__all__ = ["DoomTakeCoverTwin", "PanoramaTwin", "Ticks", "Twin"]
