"""The world: a pure step function with weights, its state, its starts and its checkpoints."""

from cfworld.world.config import Ends, WorldConfig, config_from_dict, config_to_dict
from cfworld.world.novelty import Novelty
from cfworld.world.opening import Opening
from cfworld.world.output import StepOutput
from cfworld.world.pretrained import find_world, zoo_names
from cfworld.world.start import EncodedStarts, Start
from cfworld.world.state import WorldState
from cfworld.world.world import World

__all__ = [
    "EncodedStarts",
    "Ends",
    "Novelty",
    "Opening",
    "Start",
    "StepOutput",
    "World",
    "WorldConfig",
    "WorldState",
    "config_from_dict",
    "config_to_dict",
    "find_world",
    "zoo_names",
]
