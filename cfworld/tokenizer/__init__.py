"""Tokenizers: frames <=> latents."""

from cfworld.tokenizer.base import Tokenizer
from cfworld.tokenizer.block_vae import BlockVAE, BlockVAEConfig
from cfworld.tokenizer.tiny_vae import TinyVAE, TinyVAEConfig
from cfworld.tokenizer.wan_vae import WanVAE, WanVAEConfig

__all__ = ["BlockVAE", "BlockVAEConfig", "TinyVAE", "TinyVAEConfig", "Tokenizer", "WanVAE", "WanVAEConfig"]
