"""The one training loop: any stage, resumable to bit-identical losses on the CPU."""

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from cfworld import files
from cfworld.errors import ConfigError, TrainingError
from cfworld.train import run_state
from cfworld.train.ema import EMA
from cfworld.train.optim import build_optimizers, learning_rate

__all__ = ["LoopConfig", "Stage", "run", "step_generator"]


@dataclass(kw_only=True, slots=True)
class LoopConfig:
    """How long and how to train.

    Attributes:
        steps: Optimiser steps of the entire run.
        batch_size: Examples a step.
        lr: Peak learning rate.
        warmup: Steps of linear warm-up.
        schedule: "cosine" or "constant" after the warm-up.
        final_lr_ratio: Where the cosine ends, as a share of lr.
        weight_decay: Decoupled weight decay of matrices and kernels.
        betas: AdamW's decay rates.
        clip: Largest norm of the gradient; 0 turns clipping off.
        ema_decay: Decay of the moving average of the weights.
        seed: Seeds batches, noise and the first weights.
        log_every: Steps between two entries in the log.
        save_every: Steps between two checkpoints.
        sample_every: Steps between two contact sheets; 0 for one at the end alone.
        optimizer: "adamw", or "muon" for hidden matrices with AdamW for the rest.
        precision: "fp32", or "bf16" for autocast.
        compile: Compile the module with torch.compile.
        num_threads: Threads of PyTorch on the CPU; 0 leaves its default.
        max_minutes: Stop in good order after so many minutes; 0 sets no limit.
    """

    steps: int = 1000
    batch_size: int = 16
    lr: float = 1e-3
    warmup: int = 50
    schedule: str = "cosine"
    final_lr_ratio: float = 0.02
    weight_decay: float = 0.01
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    clip: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    log_every: int = 20
    save_every: int = 250
    sample_every: int = 500
    optimizer: str = "adamw"
    precision: str = "fp32"
    compile: bool = False
    num_threads: int = 0
    max_minutes: float = 0.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"Got {name}={getattr(self, name)}; expected at least 1.")
        for name in ("warmup", "sample_every", "num_threads", "max_minutes", "weight_decay", "clip", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"Got {name}={getattr(self, name)}; expected 0 or more.")
        for name in ("ema_decay", "final_lr_ratio"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"Got {name}={getattr(self, name)}; expected 0 to 1.")
        if len(self.betas) != 2 or not self.lr > 0.0:
            raise ConfigError(f"Got lr={self.lr}, betas={self.betas}; expected a positive rate and two betas.")
        choices = {
            "schedule": ("cosine", "constant"),
            "optimizer": ("adamw", "muon"),
            "precision": ("fp32", "bf16"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"Got {name}={getattr(self, name)!r}; expected one of {', '.join(allowed)}.")


@runtime_checkable
class Stage(Protocol):
    """What is trained, on what, and by which loss."""

    module: nn.Module
    """Its parameters with `requires_grad` are trained, in place."""

    def batch(self, step: int) -> Any:
        """Return the batch of a step: a pure function of (seed, step)."""
        ...

    def loss(self, batch: Any, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss and scalars to log; all randomness is `generator`'s, seeded by (seed, step)."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what else must be saved: tensors, numbers, strings, lists and dicts."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...

    def sample(self, ema_module: nn.Module, step: int, folder: Path) -> Mapping[str, float] | None:
        """Write a contact sheet into `folder`; scalars that are returned go into the log."""
        ...

    def export(self, ema_module: nn.Module, folder: Path) -> Mapping[str, Any] | None:
        """Write the final artefact into `folder`; what is returned joins the figures."""
        ...


def step_generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of a step, which depends on nothing but (seed, step)."""
    (state,) = np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state) >> 1)


def run(
    stage: Stage,
    config: LoopConfig,
    folder: Path,
    device: torch.device | str = "cpu",
    details: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Train a stage, resuming from the newest checkpoint in `folder` if there is one.

    Args:
        stage: What to train. Its module is moved to `device`.
        config: How long and how.
        folder: Gets `config.yaml`, `checkpoints/`, `tensorboard/`, `samples/`, `export/` and `figures.json`.
        device: Where to train.
        details: What else identifies the run (data, sizes): plain values, saved with the configuration and
            compared when the run is resumed.

    Returns:
        The figures: steps, minutes, last losses, examples a second, and what the last sample and the export returned.

    Raises:
        ConfigError: If the folder holds a run of another configuration.
        TrainingError: If a logged loss is not finite.
        CheckpointError: If its newest checkpoint is damaged.
    """
    if config.num_threads:
        torch.set_num_threads(config.num_threads)
    device = torch.device(device)
    module = stage.module.to(device).train()
    ema = EMA(module, config.ema_decay)
    optimizers = build_optimizers(
        module,
        name=config.optimizer,
        lr=config.lr,
        betas=(config.betas[0], config.betas[1]),
        weight_decay=config.weight_decay,
    )
    resolved = {"loop": asdict(config), **(details or {})}
    start = 0
    minutes_before = 0.0
    checkpoint = run_state.latest_checkpoint(folder)
    if checkpoint is not None:
        progress = run_state.read_progress(checkpoint)
        run_state.check_config(progress.config, resolved, folder, progress.step)
        stage.load_state_dict(run_state.load_checkpoint(checkpoint, module, ema.module, optimizers))
        start, minutes_before = progress.step, progress.minutes
    files.write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(resolved)))
    if config.compile:
        module.compile()

    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start)
    bar = tqdm(total=config.steps, initial=start, desc=folder.name, dynamic_ncols=True, mininterval=1.0)
    began = time.monotonic()
    logged: dict[str, float] = {}
    step = start

    def save() -> None:
        minutes = minutes_before + (time.monotonic() - began) / 60
        state = run_state.Progress(step=step, minutes=minutes, config=resolved)
        run_state.save_checkpoint(folder, state, module, ema.module, optimizers, stage.state_dict())

    while step < config.steps:
        rate = learning_rate(
            step,
            steps=config.steps,
            peak=config.lr,
            warmup=config.warmup,
            schedule=config.schedule,
            final_ratio=config.final_lr_ratio,
        )
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
        batch = stage.batch(step)
        with autocast:
            loss, metrics = stage.loss(batch, step_generator(config.seed, step, device))
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.clip or math.inf)
        for optimizer in optimizers:
            optimizer.step()
        ema.update(module, step)
        step += 1
        bar.update()

        if step % config.log_every == 0 or step == config.steps:
            scalars = {"loss": loss, "grad_norm": norm, **metrics}
            logged = {name: value.detach().item() for name, value in scalars.items()}
            _check_finite(logged["loss"], step)
            _log(writer, bar, step, {**logged, "lr": rate})
        if step % config.save_every == 0 or step == config.steps:
            save()
        if config.sample_every and step % config.sample_every == 0 and step < config.steps:
            _log_sample(writer, step, stage.sample(ema.module, step, _made(folder / "samples")))
        if config.max_minutes and (time.monotonic() - began) / 60 >= config.max_minutes:
            save()
            break

    seconds = time.monotonic() - began
    bar.close()
    sampled = stage.sample(ema.module, step, _made(folder / "samples"))
    _log_sample(writer, step, sampled)
    writer.close()
    exported = stage.export(ema.module, _made(folder / "export"))
    figures = {
        "steps": step,
        "minutes": round(minutes_before + seconds / 60, 3),
        "examples_per_second": round((step - start) * config.batch_size / seconds, 2) if step > start else None,
        "last": logged,
        **(sampled or {}),
        **(exported or {}),
    }
    run_state.write_figures(folder, figures)
    return figures


def _check_finite(loss: float, step: int) -> None:
    if not math.isfinite(loss):
        raise TrainingError(
            f"Got a loss of {loss} at step {step}; expected a finite number. Resume from the last checkpoint "
            "with a lower learning rate in another folder, or look at the data."
        )


def _log(writer: SummaryWriter, bar: "tqdm[Any]", step: int, scalars: Mapping[str, float]) -> None:
    for name, value in scalars.items():
        writer.add_scalar(f"train/{name}", value, step)
    rate = bar.format_dict["rate"]
    if rate:
        writer.add_scalar("train/steps_per_second", rate, step)
    bar.set_postfix(loss=f"{scalars['loss']:.4f}", refresh=False)


def _log_sample(writer: SummaryWriter, step: int, scalars: Mapping[str, float] | None) -> None:
    for name, value in (scalars or {}).items():
        writer.add_scalar(f"sample/{name}", value, step)
    if scalars:
        tqdm.write(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in scalars.items()))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
