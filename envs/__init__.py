"""Importing this package registers the environments with Gymnasium."""

from gymnasium.envs.registration import register  # pyright: ignore[reportUnknownVariableType]

from cfworld.envs.latents import LatentObservation, VectorLatentObservation
from cfworld.envs.scenario import Scenario
from cfworld.envs.scenarios.acts import built_in_policies
from cfworld.envs.scenarios.result import BranchResult, ScenarioResult
from cfworld.envs.twins import DoomRoomsTwin, DoomTakeCoverTwin, PanoramaTwin, Ticks, Twin
from cfworld.envs.vector_env import WorldVectorEnv
from cfworld.envs.world_env import EnvState, WorldEnv

__all__ = [
    "BranchResult",
    "DoomRoomsTwin",
    "DoomTakeCoverTwin",
    "EnvState",
    "LatentObservation",
    "PanoramaTwin",
    "Scenario",
    "ScenarioResult",
    "Ticks",
    "Twin",
    "VectorLatentObservation",
    "WorldEnv",
    "WorldVectorEnv",
    "built_in_policies",
]

_OWN_CHECKS = {"order_enforce": False, "disable_env_checker": True}
"""The environments check their callers themselves: Gymnasium's wrappers would forbid to go on from a snapshot without
a reset, and after a first reset that was refused."""

_WORLDS: dict[str, tuple[str, dict[str, str]]] = {
    "World": ("world_env:WorldEnv", {}),
    "DoomTakeCover": ("worlds:DoomTakeCoverEnv", {"world": "doom_take_cover"}),
    "Panorama": ("worlds:PanoramaEnv", {"world": "panorama"}),
    "DoomRooms": ("worlds:DoomRoomsEnv", {"world": "doom_rooms"}),
}
for _name, (_class, _kwargs) in _WORLDS.items():
    register(
        id=f"cfworld/{_name}-v0",
        entry_point=f"cfworld.envs.{_class}",
        vector_entry_point="cfworld.envs.vector_env:WorldVectorEnv",
        kwargs=_kwargs,
        **_OWN_CHECKS,
    )

register(id="cfworld/DoomRoomsReal-v0", entry_point="cfworld.envs.doom_rooms:DoomRoomsTwin", **_OWN_CHECKS)
register(id="cfworld/DoomTakeCoverReal-v0", entry_point="cfworld.envs.doom_twin:DoomTakeCoverTwin", **_OWN_CHECKS)
register(id="cfworld/PanoramaReal-v0", entry_point="cfworld.envs.panorama_twin:PanoramaTwin", **_OWN_CHECKS)
