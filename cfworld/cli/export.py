"""`cfworld export`: generates a dataset from a world."""

from dataclasses import dataclass, field, fields
from typing import Any

from cfworld.cli import checks, common
from cfworld.cli.collect import POLICIES_HELP, policy_weights
from cfworld.export.config import ExportConfig
from cfworld.export.dataset import export_dataset
from cfworld.memory.presets import MEMORY_HELP
from cfworld.world.pretrained import load_config

__all__ = ["ExportCommand", "main", "run"]

SUMMARY = (
    "Roll a world out, many episodes side by side, and write them as a dataset that says what generated it. The same "
    "command resumes an export that was interrupted, and what was finished can be read at any moment."
)
EXAMPLE = "world=doom_take_cover format=lerobot episodes=2000 policies=[sweep@0.5,sb3:agent.zip@0.5]"


@dataclass(kw_only=True, slots=True)
class ExportCommand:
    """What `cfworld export` takes.

    Attributes:
        world: A world of the zoo, or a checkpoint folder.
        variant: student or teacher; null for the best there is.
        format: minari or lerobot (format v3.0).
        out: The dataset's folder; null for datasets/generated/<world>_<format>, where the world's own name counts.
            What was interrupted there is resumed.
        episodes: How many.
        policies: Policies with weights, of which every episode draws one: see `who_acts`.
        seed: Episode e is the one that `reset(seed=seed + e)` begins.
        starts: Where episodes begin, each an index, a picture, a saved state or minari:DATASET#EPISODE@TICK; null for
            all of the world's own.
        max_steps: Truncate an episode after so many steps; null for the world's own horizon.
        ends: sampled, greedy or never; null for the world's own rule.
        truncate_above: Truncate an episode after a step whose novelty is higher; null never does.
        num_steps: Denoising steps; null for the world's own.
        memory: In place of the world's own: see `MEMORY_HELP`.
        device: Where to generate: cpu, cuda, cuda:1 ...
        rows: Episodes generated side by side.
        shard_episodes: Episodes in a file; an interruption loses at most this many, and those under way.
        use_videos: Of lerobot: MP4 files, which lose a little; false keeps every pixel, as PNG within the tables.
        crf: Of lerobot: what the videos may lose, from 0 (very little) to 51.
        task: Of lerobot: what the episodes are about; null names the world.
    """

    world: str
    variant: str | None = None
    format: str = "minari"
    out: str | None = None
    episodes: int = 1000
    policies: list[str] = field(metadata={"help": POLICIES_HELP})
    seed: int = 0
    starts: list[str] | None = None
    max_steps: int | None = None
    ends: str | None = None
    truncate_above: float | None = None
    num_steps: int | None = None
    memory: str | None = field(default=None, metadata={"help": MEMORY_HELP})
    device: str = "cpu"
    rows: int = 16
    shard_episodes: int = 32
    use_videos: bool = True
    crf: int = 18
    task: str | None = None

    def config(self) -> ExportConfig:
        """The export alone."""
        values: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        values["policies"] = policy_weights(self.policies)
        values["out"] = self.out or f"datasets/generated/{load_config(self.world).name}_{self.format}"
        return ExportConfig(**values)


def run(command: ExportCommand) -> dict[str, Any]:
    """Export, and return the figures."""
    config = command.config()
    checks.check_folder(config.out)
    figures = export_dataset(config)
    common.open_output("export", config.out, command)
    print(f"{figures['episodes']} generated episodes, {figures['ticks']} ticks in {config.out}")
    return figures


def main() -> None:
    """Run `cfworld export`."""
    common.run_command("export", ExportCommand, run, SUMMARY, example=EXAMPLE)
