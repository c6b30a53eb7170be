"""cfworld: generated worlds with long memory, as Gymnasium environments."""

from importlib.metadata import version

from cfworld.world import Start, StepOutput, World, WorldConfig, WorldState

__version__ = version("cfworld")

__all__ = ["Start", "StepOutput", "World", "WorldConfig", "WorldState", "__version__"]
