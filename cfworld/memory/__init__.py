"""The slow-fast memory: a value with pure update functions."""

from cfworld.memory.config import MemoryConfig, Positions, PromotionRule
from cfworld.memory.positions import absolute_positions, bounded_positions, memory_positions
from cfworld.memory.presets import PRESETS, chosen_memory
from cfworld.memory.similarity import key_similarity, token_mean
from cfworld.memory.state import MemoryState, NewLatents, empty_memory
from cfworld.memory.update import commit, consolidate, is_check, push_index

__all__ = [
    "PRESETS",
    "MemoryConfig",
    "MemoryState",
    "NewLatents",
    "Positions",
    "PromotionRule",
    "absolute_positions",
    "bounded_positions",
    "chosen_memory",
    "commit",
    "consolidate",
    "empty_memory",
    "is_check",
    "key_similarity",
    "memory_positions",
    "push_index",
    "token_mean",
]
