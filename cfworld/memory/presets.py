"""Memories by name: Context Forcing's and those of its baselines, each laid over a world's own."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from cfworld.advice import advise
from cfworld.errors import ConfigError
from cfworld.memory.config import MemoryConfig, Positions, PromotionRule

__all__ = ["MEMORY_HELP", "PRESETS", "check_positions", "chosen_memory"]

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "context_forcing": {
            "num_sink": 2,
            "num_slow": 8,
            "num_fast": 7,
            "rule": PromotionRule.SURPRISAL,
            "positions": Positions.BOUNDED,
        },
        "fast_only": {"num_sink": 0, "num_slow": 0, "num_fast": 7},
        "infinity_rope": {"num_sink": 1, "num_slow": 0, "num_fast": 6, "positions": Positions.BOUNDED},
        "longlive": {"num_sink": 3, "num_slow": 0, "num_fast": 14, "positions": Positions.ABSOLUTE},
        "self_forcing": {"num_sink": 0, "num_slow": 0, "num_fast": 17},
        "uniform": {"rule": PromotionRule.UNIFORM},
    }
)
"""What each preset changes, by its name. `configs/memory` says the same to `cfworld train`, and a test compares."""

MEMORY_HELP = f"One of {', '.join(PRESETS)}, in place of the memory that the world was trained with; null for its own."
"""What commands say of a memory that is laid over a world's own."""


def chosen_memory(own: MemoryConfig, memory: MemoryConfig | str | None) -> MemoryConfig:
    """The memory that a world is to have.

    Args:
        own: The memory that it was saved with.
        memory: Another one, the name of a preset that is laid over its own, or None to leave it.

    Raises:
        ConfigError: If there is no such preset, or it does not fit the world's chunks.
    """
    if memory is None:
        return own
    if isinstance(memory, MemoryConfig):
        return memory
    if memory not in tuple(PRESETS):
        raise ConfigError(
            f"got memory={memory!r}; expected a MemoryConfig or one of the presets {', '.join(PRESETS)}, or nothing "
            "for the world's own"
        )
    return replace(own, **PRESETS[memory])


def check_positions(own: MemoryConfig, chosen: MemoryConfig) -> None:
    """Warn where a memory tells a trained network of positions that it has not learned to read.

    Args:
        own: The memory that the network was trained with.
        chosen: The one that it is to read.
    """
    if chosen.positions is not own.positions:
        advise(
            f"got a memory of {chosen.positions} positions for a world that was trained with {own.positions} ones: it "
            "has not learned to read them, and what it shows may decay. Keep the world's own, unless that is what you "
            "want to see"
        )
