"""One run of a stage: its steps, and what is written on the way."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from cfworld import files
from cfworld.errors import TrainingError
from cfworld.interruption import EndRequest
from cfworld.model import Transformer
from cfworld.precision import fast_precision
from cfworld.train import run_state
from cfworld.train.ema import EMA
from cfworld.train.log import NoLog, RunLog
from cfworld.train.loop_config import LoopConfig
from cfworld.train.optim import Role, build_optimizers, learning_rate
from cfworld.train.processes.share import share_out
from cfworld.train.processes.team import ALONE, Team
from cfworld.train.stage import Stage, StageWithAverage, StageWithProduct, StageWithRoles

__all__ = ["TrainingRun", "step_generator"]


class _Paced(NamedTuple):
    """A role as the loop uses it."""

    name: str
    parameters: list[nn.Parameter]
    optimizers: list[torch.optim.Optimizer]
    lr_ratio: float


def step_generator(seed: int, step: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return the generator of a step, which depends on nothing but (seed, step)."""
    (state,) = np.random.SeedSequence((seed, step)).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(state) >> 1)


class TrainingRun:
    """One run of a stage: what is trained, how far it has come, and where it is written.

    Args:
        stage: What to train.
        config: How long and how.
        folder: The run folder.
        device: Where to train.
        details: What else identifies the run.
        team: The processes that train it together.
    """

    def __init__(
        self,
        stage: Stage,
        config: LoopConfig,
        folder: Path,
        device: torch.device,
        details: Mapping[str, Any],
        team: Team = ALONE,
    ) -> None:
        if config.precision == "auto":
            config = replace(config, precision=fast_precision(device))
        self.stage, self.config, self.folder, self.device, self.team = stage, config, folder, device, team
        self.resolved = {"loop": asdict(config), **details}
        self.module = stage.module.to(device).train()
        self.product = stage.product if isinstance(stage, StageWithProduct) else ""
        self.made = self.module.get_submodule(self.product)
        self.ema = EMA(self.made, config.ema_decay)
        if isinstance(stage, StageWithAverage):
            stage.average = self.ema.module
        for network in self.module.modules():
            if isinstance(network, Transformer):
                network.checkpointed = config.gradient_checkpointing
        if team.size > 1:
            share_out(stage, self.ema.module, config, team)
        roles = stage.roles() if isinstance(stage, StageWithRoles) else {"": Role(module=self.module)}
        self.roles = [self._paced(name, role) for name, role in roles.items()]
        self.optimizers = [optimizer for role in self.roles for optimizer in role.optimizers]
        self.step = 0
        self.scalars: dict[str, Tensor] = {}
        self.logged: dict[str, float] = {}
        self._broken_at = torch.zeros((), dtype=torch.int64, device=device)
        """The first step that was not finite, 0 for none; kept on the device, to be looked at only now and then."""

    def resume(self) -> None:
        """Go on from the newest checkpoint, if there is one, and start the clock and the log."""
        minutes = 0.0
        checkpoint = run_state.latest_checkpoint(self.folder)
        if checkpoint is not None:
            progress = run_state.read_progress(checkpoint)
            run_state.check_config(progress.config, self.resolved, self.folder, progress.step)
            extra = run_state.load_checkpoint(
                checkpoint, self.module, self.ema.module, self.optimizers, self.team, self.product
            )
            self.stage.load_state_dict(extra)
            self.step, minutes = progress.step, progress.minutes
        if self.team.leads:
            files.write_text(self.folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(self.resolved)))
        if self.config.compile:
            self.module.compile()
        self.start, self.minutes_before = self.step, minutes
        self.log = RunLog(self.folder, self.step, self.config.steps) if self.team.leads else NoLog()
        self.began = time.monotonic()

    def take_step(self) -> None:
        """Take one optimiser step; the loop itself does not wait for the device."""
        step, config = self.step, self.config
        for role in self.roles:
            for optimizer in role.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = role.lr_ratio * self._learning_rate(step)
            for parameter in role.parameters:
                parameter.grad = None
        batch = self.stage.batch(step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            loss, metrics = self.stage.loss(batch, step_generator(config.seed, step, self.device))
        loss.backward()
        norms = {role.name: self.team.clip(role.parameters, config.clip, self.device) for role in self.roles}
        for optimizer in self.optimizers:
            optimizer.step()
        self.ema.update(self.made, step)
        self.step += 1
        norm = torch.stack(list(norms.values())).norm() if len(norms) > 1 else norms[self.roles[0].name]
        scalars = {**self._means({"loss": loss, **metrics}), "grad_norm": norm}
        if len(norms) > 1:
            scalars |= {f"grad_norm_{name}": value for name, value in norms.items()}
        self.scalars = scalars
        finite = self.scalars["loss"].isfinite() & self.scalars["grad_norm"].isfinite()
        self._broken_at = torch.where(finite | (self._broken_at > 0), self._broken_at, self.step)
        self.log.advance()

    def log_step(self) -> None:
        """Log the scalars of the last step.

        Raises:
            TrainingError: If a step was not finite.
        """
        self._check_finite()
        self.logged = {name: value.item() for name, value in self.scalars.items()}
        self.log.train(self.step, {**self.logged, "lr": self._learning_rate(self.step - 1)})

    def save(self) -> None:
        """Write a checkpoint.

        Raises:
            TrainingError: If a step was not finite; then nothing is written.
        """
        self._check_finite()
        state = run_state.Progress(step=self.step, minutes=self.minutes(), config=self.resolved)
        run_state.save_checkpoint(
            self.folder, state, self.module, self.ema.module, self.optimizers, self.stage.state_dict(), self.team
        )

    def sample(self) -> Mapping[str, float]:
        """Write a contact sheet, and return its figures."""
        figures = None
        with self.team.whole(self.ema.module, self.device) as module:
            if self.team.leads:
                figures = self.stage.sample(module, self.step, _made(self.folder / "samples"))
        self.log.sample(self.step, figures)
        return figures or {}

    def export(self, name: str | Path) -> Mapping[str, Any]:
        """Write the artefact into a folder of the run, and return its figures."""
        figures = None
        with self.team.whole(self.ema.module, self.device) as module:
            if self.team.leads:
                figures = self.stage.export(module, _made(self.folder / name))
        return figures or {}

    def finish(self) -> dict[str, Any]:
        """Write the last sample, the artefact and the figures."""
        seconds, minutes = time.monotonic() - self.began, self.minutes()
        taken = self.step - self.start
        self.log.close_bar()
        sampled = self.sample()
        self.log.close()
        exported = self.export("export")
        figures = {
            "steps": self.step,
            "minutes": round(minutes, 3),
            "examples_per_second": round(taken * self.config.batch_size / seconds, 2) if taken else None,
            "last": self.logged,
            **({} if taken else self._measured_before()),
            **sampled,
            **exported,
        }
        if self.team.leads:
            files.write_json(self.folder / "figures.json", figures)
        return figures

    def _measured_before(self) -> dict[str, Any]:
        """What is measured on steps alone, as it was when the last step was taken: a finished run may be run again."""
        written = self.folder / "figures.json"
        try:
            before = json.loads(written.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(before, dict) or before.get("steps") != self.step:
            return {}
        return {name: before[name] for name in ("examples_per_second", "last") if name in before}

    def minutes(self) -> float:
        """Time spent in training, over all resumed parts."""
        return self.minutes_before + (time.monotonic() - self.began) / 60

    def is_late(self) -> bool:
        """Whether this part of the run has used up its time."""
        limit = self.config.max_minutes
        return bool(limit) and self.team.any((time.monotonic() - self.began) / 60 >= limit)

    def is_ending(self, request: EndRequest) -> bool:
        """Whether somebody asked for the end; several processes tell each other where they wait anyway."""
        if self.team.size > 1 and self.step % self.config.log_every and self.step < self.config.steps:
            return False
        return self.team.any(request.made)

    def _paced(self, name: str, role: Role) -> _Paced:
        betas = role.betas or (self.config.betas[0], self.config.betas[1])
        return _Paced(
            name=name,
            parameters=[parameter for parameter in role.module.parameters() if parameter.requires_grad],
            optimizers=build_optimizers(
                role.module,
                name=self.config.optimizer,
                lr=self.config.lr,
                betas=betas,
                weight_decay=self.config.weight_decay,
                part=self.team.part,
                on_whole=self.team.on_whole,
            ),
            lr_ratio=role.lr_ratio,
        )

    def _means(self, scalars: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Means over the processes, in one exchange."""
        if self.team.size == 1:
            return {name: value.detach() for name, value in scalars.items()}
        values = torch.stack([value.detach().to(self.device, torch.float32) for value in scalars.values()])
        return dict(zip(scalars, self.team.mean(values).unbind(), strict=True))

    def _learning_rate(self, step: int) -> float:
        config = self.config
        return learning_rate(
            step,
            steps=config.steps,
            peak=config.lr,
            warmup=config.warmup,
            schedule=config.schedule,
            final_ratio=config.final_lr_ratio,
        )

    def _check_finite(self) -> None:
        if broken_at := int(self._broken_at):
            raise TrainingError(
                f"got a loss or a gradient that is not finite at step {broken_at}; expected finite numbers. Nothing "
                f"since was saved in {self.folder}. Train in another folder with a lower learning rate, or look at "
                "the data of that step."
            )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
