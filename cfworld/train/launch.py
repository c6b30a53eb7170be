"""What a launcher started: one process, or several that find each other.

`accelerate launch` and `torchrun` tell each process through the environment which one it is. Accelerate picks the
device and the way to talk, and connects it to the others.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from cfworld.errors import ConfigError, MissingDependencyError
from cfworld.train.processes.team import ALONE, Team

__all__ = ["connect", "joined"]


@contextmanager
def joined(device: str) -> Iterator[tuple[Team, str]]:
    """Join the processes that `accelerate launch` or `torchrun` started, if it did.

    Args:
        device: Where to train: "cpu", "cuda", "cuda:1" ...

    Yields:
        The team, and the device of this process.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ALONE, device
        return
    from cfworld.train.parallel import Processes

    team = Processes(device)
    yield team, str(team.device)
    team.leave()


def connect(device: str) -> torch.device:
    """Join the processes that a launcher started.

    Accelerate knows how they talk on each kind of device, and which of a machine's devices is whose.
    """
    try:
        from accelerate import PartialState
    except ImportError as error:
        raise MissingDependencyError.with_hint("training in several processes", "accelerate", "distributed") from error
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if device not in ("cpu", "cuda"):
        raise ConfigError(
            f"got device={device!r} with several processes; expected 'cpu', or 'cuda' for one GPU each. Choose GPUs by "
            "CUDA_VISIBLE_DEVICES."
        )
    if device == "cuda" and torch.cuda.device_count() < local:
        raise ConfigError(
            f"got {local} processes on this machine, which has {torch.cuda.device_count()} GPUs; expected one GPU for "
            "each. Start fewer processes, or train with device=cpu."
        )
    state: Any = PartialState(cpu=device == "cpu")
    return torch.device(state.device)
