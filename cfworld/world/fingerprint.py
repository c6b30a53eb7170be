"""What tells one world's states from another's."""

import hashlib
import json

import torch

from cfworld.model import Generator
from cfworld.world.config import WorldConfig, config_to_dict

__all__ = ["fingerprint"]

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def fingerprint(config: WorldConfig, variant: str, generator: Generator) -> str:
    """Name a world by what its states depend on: its configuration, and the bits of its weights.

    The sampler, the rule of ends and the names of actions are left out: a state may go on under others. The sum of a
    weight's bit patterns is an integer, and so the same on every device.
    """
    settings = {name: value for name, value in config_to_dict(config).items() if name not in ("sampler", "ends")}
    settings["actions"] = config.actions.settings()
    bits = [tensor.view(_BITS[tensor.element_size()]).sum(dtype=torch.int64) for tensor in generator.parameters()]
    words = [config.name, json.dumps(settings, sort_keys=True), str(torch.stack(bits).tolist())]
    return f"{config.name}/{variant}/{hashlib.sha256(' '.join(words).encode()).hexdigest()[:12]}"
