"""How long and how the loop trains."""

import math
from dataclasses import dataclass, field

from cfworld.errors import ConfigError
from cfworld.settings import check_counts

__all__ = ["LoopConfig", "check_betas"]


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
        export_every: Steps between two exports that stay in exports/, each with a contact sheet, so that a stage which
            went too far, as `context` may, can be taken back; 0 for the one at the end alone.
        optimizer: "adamw", or "muon" for hidden matrices with AdamW for the rest.
        precision: "fp32", "bf16" for autocast, or "auto" for the faster of them on the device. A run resumes
            only with the format that it began with.
        compile: Compile the module with torch.compile; several processes need shard=false for it.
        gradient_checkpointing: Keep only what goes into each block of a transformer for the backward pass, and compute
            the rest again there: about a third more work for a fraction of the memory.
        shard: Let each of several processes keep a part of the weights, gradients and optimiser states of transformers
            (FSDP2); false keeps all of them in each, which is faster as long as they fit.
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
    export_every: int = 0
    optimizer: str = "adamw"
    precision: str = "fp32"
    compile: bool = False
    gradient_checkpointing: bool = False
    shard: bool = True
    num_threads: int = 0
    max_minutes: float = 0.0

    def __post_init__(self) -> None:
        check_counts(self, "steps", "batch_size", "log_every", "save_every")
        check_counts(self, "warmup", "sample_every", "export_every", "num_threads", "seed", least=0)
        for name in ("max_minutes", "weight_decay", "clip"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"got {name}={getattr(self, name)}; expected 0 or more.")
        for name in ("ema_decay", "final_lr_ratio"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"got {name}={getattr(self, name)}; expected 0 to 1.")
        if not 0.0 < self.lr < math.inf:
            raise ConfigError(f"got lr={self.lr}; expected a positive number.")
        check_betas("betas", self.betas)
        choices = {
            "schedule": ("cosine", "constant"),
            "optimizer": ("adamw", "muon"),
            "precision": ("fp32", "bf16", "auto"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"got {name}={getattr(self, name)!r}; expected one of {', '.join(allowed)}.")


def check_betas(name: str, betas: list[float]) -> None:
    """Make sure that AdamW can average with these rates.

    Raises:
        ConfigError: If it cannot.
    """
    if len(betas) != 2 or not all(0.0 <= beta < 1.0 for beta in betas):
        raise ConfigError(f"got {name}={betas}; expected two numbers from 0 to below 1.")
