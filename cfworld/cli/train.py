"""`cfworld train`: trains one stage of a world."""

import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

from cfworld.cli import common, help_text, keys
from cfworld.configs.schema import WorldSettings
from cfworld.errors import ConfigError
from cfworld.train.build import STAGES, like_imported, run_folder
from cfworld.train.distillation.distill import DistillConfig, Shown
from cfworld.train.launch import joined
from cfworld.train.loop import run
from cfworld.world import config_to_dict

__all__ = ["Paradigm", "TrainConfig", "main", "register_schemas"]

SUMMARY = (
    "Train one stage of a world. A run that was interrupted is resumed by the same command: its folder is "
    "runs/<world>/<stage> unless `out` says otherwise."
)
EXAMPLE = "world=panorama stage=teacher memory=uniform stage.loop.steps=1000 out=runs/uniform"


@dataclass(kw_only=True, slots=True)
class Paradigm:
    """Which memory is shown to whom while a student learns on its rollouts.

    Attributes:
        score_memory: What teacher and critic are shown.
        student_memory: What the student is shown, and keeps.
    """

    score_memory: Shown = Shown.MEMORY
    student_memory: Shown = Shown.MEMORY


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """What `cfworld train` takes.

    Attributes:
        world: The world, a file of configs/world.
        stage: What is trained and how, a file of configs/stage.
        paradigm: Which memory is shown to whom in the stages local and context, a file of configs/paradigm; null for
            what the stage says.
        data: What to learn from, in the place of world.train_data and world.eval_data: a folder or the id of a Minari
            dataset, or lerobot:<folder>. world.held_out of its episodes are held out; null for the world's own.
        device: Where to train: cpu, cuda, cuda:1 ...; cuda means one GPU for each of several processes.
        out: The run folder; null for runs/<world>/<stage>.
    """

    world: WorldSettings
    stage: Any
    paradigm: Paradigm | None = None
    data: str | None = None
    device: str = "cpu"
    out: str | None = None


def train(config: TrainConfig) -> dict[str, Any]:
    """Train a stage, and return its figures.

    Raises:
        ConfigError: If there is no such stage, or it has no use for a paradigm.
    """
    builders = {schema: build for schema, build in STAGES.values()}
    if type(config.stage) not in builders:
        raise ConfigError(f"got no stage; expected one of {', '.join(STAGES)}, as in stage=tokenizer.")
    settings = _under(config.paradigm, config.stage)
    folder = Path(config.out) if config.out else run_folder(config.world.name, settings.name)
    world = like_imported(config.world, keys.given_under("world"))
    learned = replace(world, train_data=config.data, eval_data="") if config.data else world
    with joined(config.device) as (team, device):
        stage, depends = builders[type(settings)](learned, settings, device, team)
        details = {"world": depends, "stage": config_to_dict(settings)}
        del details["stage"]["loop"]
        return run(stage, settings.loop, folder, device, details, team)


def _under(paradigm: Paradigm | None, settings: Any) -> Any:
    """The settings of a stage under a paradigm."""
    if paradigm is None:
        return settings
    if not isinstance(settings, DistillConfig):
        stage = next(name for name, (schema, _) in STAGES.items() if schema is type(settings))
        raise ConfigError(
            f"got a paradigm with stage={stage}; paradigms belong to the stages local and context. Leave paradigm= out."
        )
    return replace(settings, **asdict(paradigm))


def register_schemas() -> None:
    """Tell Hydra of the schemas of worlds and stages, which the files of both groups begin with."""
    store = ConfigStore.instance()
    store.store(group="world", name="world_schema", node=WorldSettings)
    for name, (schema, _) in STAGES.items():
        store.store(group="stage", name=f"{name}_schema", node=schema)


def main() -> None:
    """Run `cfworld train`."""
    register_schemas()
    common.run_command("train", TrainConfig, train, SUMMARY, example=EXAMPLE)
    if {"-h", "--help"} & set(sys.argv[1:]):
        for name, (schema, _) in STAGES.items():
            settings = common.composed("train", TrainConfig, f"stage={name}")["stage"]
            print(f"\n{help_text.group_help('stage', name, schema, settings)}")
