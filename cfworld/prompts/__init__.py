"""Actions to prompt tokens, one token per frame."""

from cfworld.prompts.base import PromptEncoder
from cfworld.prompts.continuous import ContinuousPromptConfig, ContinuousPrompts
from cfworld.prompts.discrete import DiscretePromptConfig, DiscretePrompts

__all__ = [
    "ContinuousPromptConfig",
    "ContinuousPrompts",
    "DiscretePromptConfig",
    "DiscretePrompts",
    "PromptEncoder",
]
