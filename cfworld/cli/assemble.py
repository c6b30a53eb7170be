"""`cfworld assemble`: puts the teacher and the student of one world into one folder."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from cfworld.cli import common
from cfworld.errors import CheckpointError, ConfigError
from cfworld.world import World

__all__ = ["AssembleConfig", "assemble", "main"]

SUMMARY = (
    "Put the teacher and the student of one world, which their stages exported apart, into one folder, from which "
    'World.from_pretrained(folder, variant="teacher") takes either. Novelty scores come along; cards do not.'
)
EXAMPLE = "teacher=runs/panorama/teacher/export student=runs/panorama/heads/export out=worlds/panorama"


@dataclass(kw_only=True, slots=True)
class AssembleConfig:
    """What `cfworld assemble` takes.

    Attributes:
        teacher: A world of the zoo or a folder that has a teacher.
        student: One that has a student of the same world: the same but for the weights and the sampler.
        out: The folder to make; it must not exist, or be empty.
    """

    teacher: str
    student: str
    out: str


def assemble(config: AssembleConfig) -> dict[str, str]:
    """Write the world, whole or not at all, and return the fingerprints of its variants, as they are stored: in bf16.

    Raises:
        ConfigError: If there is something in the folder.
        CheckpointError: If a variant is missing, or the two are of different worlds.
    """
    folder = Path(config.out).resolve()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ConfigError(f"got out={config.out}, where there is something already; expected a new or an empty folder")
    worlds = [
        World.from_pretrained(name_or_path, variant=variant, precision="bf16")
        for variant, name_or_path in (("teacher", config.teacher), ("student", config.student))
    ]
    names = [world.config.name for world in worlds]
    if len(set(names)) > 1:
        raise CheckpointError(
            f"got the teacher of {names[0]!r} and the student of {names[1]!r}; expected both of one world"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as aside:
        made = Path(aside) / folder.name
        for world in worlds:
            world.save_pretrained(made)
        made.replace(folder)
    figures = {world.variant: world.fingerprint for world in worlds}
    common.write_figures(common.open_output("assemble", str(folder), config), "assemble", figures)
    print(f"{' and '.join(figures.values())} in {folder}")
    return figures


def main() -> None:
    """Run `cfworld assemble`."""
    common.run_command("assemble", AssembleConfig, assemble, SUMMARY, example=EXAMPLE)
