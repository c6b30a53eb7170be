"""The one training loop: any stage, resumable to bit-identical losses on the CPU."""

import signal
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from cfworld import files
from cfworld.errors import TrainingError
from cfworld.interruption import EndRequest, on_signals
from cfworld.train.loop_config import LoopConfig
from cfworld.train.processes.team import ALONE, Team
from cfworld.train.stage import Stage
from cfworld.train.training_run import TrainingRun

__all__ = ["run"]


def run(
    stage: Stage,
    config: LoopConfig,
    folder: Path,
    device: torch.device | str = "cpu",
    details: Mapping[str, Any] | None = None,
    team: Team = ALONE,
) -> dict[str, Any]:
    """Train a stage, resuming from the newest checkpoint in `folder` if there is one.

    Args:
        stage: What to train. Its module is moved to `device`.
        config: How long and how.
        folder: Gets `config.yaml`, `checkpoints/`, `tensorboard/`, `samples/`, `export/`, `exports/` if some are to
            stay, and `figures.json`.
        device: Where to train.
        details: What else identifies the run (data, sizes): plain values, saved with the configuration and
            compared when the run is resumed.
        team: The processes that train it together, in the same folder; losses do not depend on how many they are.

    Returns:
        The figures: steps, minutes, last losses, examples a second, and what the last sample and the export returned
        (to the leader of several processes alone). Where there was no step left to take, losses and examples a second
        are those of the run that took the last one.

    Raises:
        ConfigError: If the folder holds a run of another configuration, or the batch cannot be shared out.
        TrainingError: If a loss or the norm of a gradient is not finite, or another process trains in the folder.
        CheckpointError: If its newest checkpoint is damaged.
        KeyboardInterrupt: After Ctrl-C, or SIGTERM (then `Terminated`), once the step under way has been taken and
            saved; a second Ctrl-C does not wait for that. (Several processes answer SIGTERM alone so, and at the next
            step that is logged.)
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    training = TrainingRun(stage, config, folder, torch.device(device), details or {}, team)
    with files.locked_folder(folder, TrainingError) if team.leads else nullcontext():
        return _train(training, config)


def _train(training: TrainingRun, config: LoopConfig) -> dict[str, Any]:
    training.resume()
    told = "ends after this step, which is saved; Ctrl-C again ends at once"
    request = EndRequest(told if training.team.leads else "")
    signals = (signal.SIGTERM,) if training.team.size > 1 else (signal.SIGTERM, signal.SIGINT)
    with on_signals(request, *signals):
        while training.step < config.steps:
            training.take_step()
            last, late = training.step == config.steps, training.is_late()
            if last or training.step % config.log_every == 0:
                training.log_step()
            saved = last or late or training.step % config.save_every == 0
            if saved:
                training.save()
            ending = training.is_ending(request)
            if ending and not saved:
                training.save()
            kept = not last and _due(training.step, config.export_every)
            if kept or (not (last or late or ending) and _due(training.step, config.sample_every)):
                training.sample()
            if kept:
                training.export(Path("exports") / f"step_{training.step:08d}")
            if ending:
                training.log.close()
                raise request.ending(f"step {training.step} is saved in {training.folder}, and can be gone on from")
            if late:
                break
    return training.finish()


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
