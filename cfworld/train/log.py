"""What a training run tells while it runs: a progress bar and TensorBoard."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

__all__ = ["NoLog", "RunLog"]


class RunLog:
    """The progress bar and the TensorBoard log of a run.

    Args:
        folder: The run folder; the log goes into its `tensorboard/`.
        start: Steps that were taken before. Entries of later ones, from a part that was cut off, are purged.
        steps: Steps of the entire run.
    """

    def __init__(self, folder: Path, start: int, steps: int) -> None:
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
        self._bar = tqdm(
            total=steps, initial=start, desc=folder.name, file=_Stderr(), dynamic_ncols=True, mininterval=1.0
        )

    def advance(self) -> None:
        """Move the bar by one step."""
        self._bar.update()

    def train(self, step: int, scalars: Mapping[str, float]) -> None:
        """Log the scalars of a step, `loss` among them."""
        for name, value in scalars.items():
            self._writer.add_scalar(f"train/{name}", value, step)
        rate = self._bar.format_dict["rate"]
        if rate:
            self._writer.add_scalar("train/steps_per_second", rate, step)
        self._bar.set_postfix(loss=f"{scalars['loss']:.4f}", refresh=False)

    def sample(self, step: int, scalars: Mapping[str, float] | None) -> None:
        """Log and print the figures of a sample."""
        for name, value in (scalars or {}).items():
            self._writer.add_scalar(f"sample/{name}", value, step)
        if scalars:
            tqdm.write(f"step {step}: " + ", ".join(f"{name} {value:.4g}" for name, value in scalars.items()))

    def close_bar(self) -> None:
        """End the bar: the last step was taken."""
        self._bar.close()

    def close(self) -> None:
        """End the log."""
        self._bar.close()
        self._writer.close()


class NoLog:
    """The log of a process that does not lead: it tells nothing."""

    def advance(self) -> None:
        """Nothing."""

    def train(self, step: int, scalars: Mapping[str, float]) -> None:
        """Nothing."""

    def sample(self, step: int, scalars: Mapping[str, float] | None) -> None:
        """Nothing."""

    def close_bar(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class _Stderr:
    """Standard error; what nobody reads any more, as where Ctrl-C ended `| tee` too, does not end the training."""

    def write(self, text: str) -> None:
        with suppress(BrokenPipeError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(BrokenPipeError):
            sys.stderr.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def __eq__(self, other: object) -> bool:
        return other is self or other is sys.stderr  # tqdm asks whether what it prints and the bar share a screen

    __hash__ = object.__hash__
