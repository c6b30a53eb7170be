"""The causal video transformer and its heads."""

from cfworld.model.attention_backends import AttentionBackend
from cfworld.model.config import TransformerConfig
from cfworld.model.generator import ActionConfig, Generator
from cfworld.model.heads import Heads
from cfworld.model.rope import apply_rope, rope_table
from cfworld.model.transformer import ContextFunction, PromptKeys, TimeEmbedding, Transformer, TransformerOutput

__all__ = [
    "ActionConfig",
    "AttentionBackend",
    "ContextFunction",
    "Generator",
    "Heads",
    "PromptKeys",
    "TimeEmbedding",
    "Transformer",
    "TransformerConfig",
    "TransformerOutput",
    "apply_rope",
    "rope_table",
]
