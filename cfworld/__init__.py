"""cfworld: generated worlds with long memory, as Gymnasium environments."""

import os
from importlib.metadata import version

if "OMP_WAIT_POLICY" not in os.environ:  # before PyTorch is imported: docs/speed.md, "On a busy machine"
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")

from cfworld.world import Start, StepOutput, World, WorldConfig, WorldState

__version__ = version("cfworld")

__all__ = ["Start", "StepOutput", "World", "WorldConfig", "WorldState", "__version__"]
