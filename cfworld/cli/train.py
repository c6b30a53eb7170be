"""`cfworld train`: trains one stage of a world."""

import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore

from cfworld.cli import common, help_text
from cfworld.configs.schema import WorldSettings
from cfworld.data.store import EpisodeStore
from cfworld.errors import ConfigError
from cfworld.train.frame_bank import FrameBank
from cfworld.train.loop import Stage, run
from cfworld.train.tokenizer import TokenizerStage, TokenizerStageConfig

__all__ = ["STAGES", "TrainConfig", "main"]

SUMMARY = (
    "Train one stage of a world. A run that was interrupted is resumed by the same command: its folder is "
    "runs/<world>/<stage> unless `out` says otherwise."
)


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """What `cfworld train` takes.

    Attributes:
        world: The world, a file of configs/world.
        stage: What is trained and how, a file of configs/stage.
        device: Where to train: cpu, cuda, cuda:1 ...
        out: The run folder; null for runs/<world>/<stage>.
    """

    world: WorldSettings
    stage: Any
    device: str = "cpu"
    out: str | None = None


def tokenizer_stage(config: TrainConfig) -> Stage:
    """Read the datasets of the world and build the tokenizer's stage."""
    stage: TokenizerStageConfig = config.stage
    block = config.world.frames_per_latent
    train, held_out = (
        FrameBank.read(EpisodeStore.open(path), block, stage.max_gigabytes, stage.loop.seed)
        for path in (config.world.train_data, config.world.eval_data)
    )
    return TokenizerStage(stage, config.world.tokenizer, train, held_out, config.device)


STAGES: dict[str, tuple[type[Any], Callable[[TrainConfig], Stage]]] = {
    "tokenizer": (TokenizerStageConfig, tokenizer_stage),
}
"""Schema and builder of each stage, by its name; `configs/stage/<name>.yaml` holds its settings."""


def train(config: TrainConfig) -> dict[str, Any]:
    """Train a stage, and return its figures."""
    builders = {schema: build for schema, build in STAGES.values()}
    if type(config.stage) not in builders:
        raise ConfigError(f"Got no stage; expected one of {', '.join(STAGES)}, as in stage=tokenizer.")
    folder = Path(config.out) if config.out else Path("runs") / config.world.name / config.stage.name
    details = {"world": asdict(config.world), "stage": asdict(config.stage)}
    del details["stage"]["loop"]
    return run(builders[type(config.stage)](config), config.stage.loop, folder, config.device, details)


def main() -> None:
    """Run `cfworld train`."""
    store = ConfigStore.instance()
    store.store(group="world", name="world_schema", node=WorldSettings)
    for name, (schema, _) in STAGES.items():
        store.store(group="stage", name=f"{name}_schema", node=schema)
    common.run_command("train", TrainConfig, train, SUMMARY)
    if {"-h", "--help"} & set(sys.argv[1:]):
        for name, (schema, _) in STAGES.items():
            print(f"\n{help_text.group_help('stage', name, schema)}")


if __name__ == "__main__":
    main()
