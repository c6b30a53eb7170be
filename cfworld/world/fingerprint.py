"""What tells one world's states from another's."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch

from cfworld.model import Generator
from cfworld.world.config import WorldConfig, config_to_dict

__all__ = ["fingerprint", "weight_sums"]

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
_FREE = ("sampler", "ends", "opening")
_LATER: Mapping[str, Mapping[str, Any]] = {
    "tokenizer": {"shortcuts": False},
    "transformer": {"prompt_layers": 1, "input_skip": False, "heads": True},
    "memory": {"recache": False},
}
"""Settings that worlds have had since later, and what they are where nothing is said: there they are left out, so that
what was fingerprinted before keeps its name."""


def weight_sums(generator: Generator) -> str:
    """What tells weights from others: sums of their bit patterns, integers and so the same on every device."""
    bits = [tensor.view(_BITS[tensor.element_size()]).sum(dtype=torch.int64) for tensor in generator.parameters()]
    return str(torch.stack(bits).tolist())


def fingerprint(config: WorldConfig, variant: str, weights: str) -> str:
    """Name a world by what its states depend on: its configuration and its weights.

    The sampler, the rule of ends, the opening and the names of actions are left out: a state may go on under others.

    Args:
        config: The world's settings.
        variant: student or teacher.
        weights: `weight_sums` of its generator.
    """
    settings = {name: value for name, value in config_to_dict(config).items() if name not in _FREE}
    settings["actions"] = config.actions.settings()
    for name in ("wan_vae", "tiny_vae"):
        if not settings[name]["resolution"]:
            del settings[name]
    for part, usual in _LATER.items():
        values = settings[part].items()
        settings[part] = {name: value for name, value in values if name not in usual or value != usual[name]}
    words = [config.name, json.dumps(settings, sort_keys=True), weights]
    return f"{config.name}/{variant}/{hashlib.sha256(' '.join(words).encode()).hexdigest()[:12]}"
