"""A tiny world with random weights, for tests of everything that stands on a world."""

import torch

from cfworld import World, WorldConfig
from cfworld.memory import MemoryConfig
from cfworld.model import ActionConfig, Generator, TransformerConfig
from cfworld.rollout import SamplerConfig
from cfworld.tokenizer import BlockVAE, BlockVAEConfig
from cfworld.world import EncodedStarts


def toy_config(**changes) -> WorldConfig:
    """64x64 frames, two narrow blocks, a memory that is full after a dozen steps; `changes` override fields."""
    settings = {
        "name": "toy",
        "source": "cfworld/PanoramaReal-v0",
        "fps": 10,
        "prefix_latents": 2,
        "actions": ActionConfig(num_actions=3),
        "tokenizer": BlockVAEConfig(
            latent_channels=4, widths=[16, 16, 16], encoder_depths=[1, 1, 1], decoder_depths=[1, 1, 1]
        ),
        "transformer": TransformerConfig(
            in_channels=4,
            latent_size=[8, 8],
            patch_size=[4, 4],
            dim=24,
            depth=2,
            num_heads=2,
            ffn_dim=48,
            freq_dim=16,
            prompt_dim=16,
        ),
        "memory": MemoryConfig(num_sink=1, num_slow=2, num_fast=4, consolidate_every=2, threshold=1.1),
        "sampler": SamplerConfig(num_steps=2),
    }
    return WorldConfig(**(settings | changes))


def toy_generator(config: WorldConfig, seed: int = 0) -> Generator:
    """A generator with random weights, its zero-initialised output layer included."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = Generator(config.actions, config.transformer)
        torch.nn.init.normal_(generator.transformer.head.head.weight, std=0.2)
        torch.nn.init.normal_(generator.heads.reward.out.weight, std=0.5)
        torch.nn.init.normal_(generator.heads.hazard.out.weight, std=0.5)
    return generator


def toy_world(*, num_starts: int = 5, seed: int = 0, **changes) -> World:
    """A world with random weights."""
    config = toy_config(**changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed + 1)
        tokenizer = BlockVAE(config.tokenizer)
        latents = torch.randn(num_starts, config.prefix_latents, *tokenizer.latent_shape)
        shape = (num_starts, config.prefix_latents, config.frames_per_latent)
        if config.actions.num_actions:
            actions = torch.randint(0, config.actions.num_actions, shape)
        else:
            actions = torch.rand(*shape, len(config.actions.low))
    starts = EncodedStarts(latents=latents, actions=actions, seeds=torch.arange(num_starts))
    return World(config, tokenizer, toy_generator(config, seed), starts)
