"""Generated episodes as a Minari dataset."""

from pathlib import Path
from typing import Any

from cfworld.data import StoreWriter
from cfworld.envs.spaces import frame_space, world_action_space
from cfworld.export.provenance import ExportPlan
from cfworld.world import WorldConfig

__all__ = ["minari_writer"]


def minari_writer(plan: ExportPlan, world: WorldConfig) -> StoreWriter:
    """The writer of a dataset that `minari.load_dataset` opens, every pixel as it was generated.

    Its metadata say that it is `generated`, and hold the provenance. An episode's attributes hold its seed, its policy
    and its start.

    Args:
        plan: The export.
        world: The world's configuration.
    """
    metadata: dict[str, Any] = {
        "generated": True,
        "provenance": plan.provenance,
        "description": f"Episodes that the world model {plan.provenance['world']} generated; no simulator made them.",
        "fps": world.fps,
        "frames_per_step": world.frames_per_step,
    }
    return StoreWriter(
        Path(plan.config.out),
        observation_space=frame_space(world.resolution),
        action_space=world_action_space(world.actions),
        source=plan.source,
        metadata=metadata,
    )
