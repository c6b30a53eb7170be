"""Actions and texts to prompt tokens, at least one per frame."""

from cfworld.prompts.base import PromptEncoder, TextEncoder
from cfworld.prompts.config import ActionConfig, ActionKind, ActionPart, TextConfig
from cfworld.prompts.continuous import ContinuousPromptConfig, ContinuousPrompts
from cfworld.prompts.dictionary import DictPrompts
from cfworld.prompts.discrete import (
    DiscretePromptConfig,
    DiscretePrompts,
    MultiDiscretePromptConfig,
    MultiDiscretePrompts,
)
from cfworld.prompts.text import HashedWords, TextPromptConfig, TextPrompts

__all__ = [
    "ActionConfig",
    "ActionKind",
    "ActionPart",
    "ContinuousPromptConfig",
    "ContinuousPrompts",
    "DictPrompts",
    "DiscretePromptConfig",
    "DiscretePrompts",
    "HashedWords",
    "MultiDiscretePromptConfig",
    "MultiDiscretePrompts",
    "PromptEncoder",
    "TextConfig",
    "TextEncoder",
    "TextPromptConfig",
    "TextPrompts",
]
