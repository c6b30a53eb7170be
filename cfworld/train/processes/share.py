"""How a run is shared out between several processes: rows, weights, and what cannot be."""

from torch import nn

from cfworld.errors import ConfigError
from cfworld.train.loop_config import LoopConfig
from cfworld.train.processes.team import Team
from cfworld.train.stage import SharedStage, Stage

__all__ = ["share_out"]


def share_out(stage: Stage, averages: nn.Module, config: LoopConfig, team: Team) -> None:
    """Give each process its rows of every batch, and its part of the weights.

    Args:
        stage: What they train.
        averages: The moving average of what they train.
        config: How.
        team: The processes.

    Raises:
        ConfigError: If the stage, the batch or the configuration is for one process.
    """
    if not isinstance(stage, SharedStage):
        raise ConfigError(f"{type(stage).__name__} has no way to share its batches; train it in one process.")
    if config.batch_size % team.size:
        raise ConfigError(
            f"got batch_size={config.batch_size} with {team.size} processes; expected a multiple of {team.size}, for "
            "each takes as many rows. Change stage.loop.batch_size or the number of processes."
        )
    if config.compile and config.shard:
        raise ConfigError(
            "got compile=true and shard=true with several processes; expected one of them at most. Set "
            "stage.loop.shard=false or stage.loop.compile=false."
        )
    team.agree(config.precision, shard=config.shard)
    team.shard(stage.module)
    team.shard(averages, shown=True)
    stage.join(team)
