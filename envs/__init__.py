"""Importing this package registers the environments with Gymnasium."""

from gymnasium.envs.registration import register

register(id="cfworld/DoomTakeCoverReal-v0", entry_point="cfworld.envs.doom_twin:DoomTakeCoverTwin")
register(id="cfworld/PanoramaReal-v0", entry_point="cfworld.envs.panorama_twin:PanoramaTwin")
