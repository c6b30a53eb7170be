"""Tokenizers: frames <=> latents."""

from cfworld.tokenizer.base import Tokenizer
from cfworld.tokenizer.block_vae import BlockVAE, BlockVAEConfig

__all__ = ["BlockVAE", "BlockVAEConfig", "Tokenizer"]
