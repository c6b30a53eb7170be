"""A tiny world with random weights, for tests of everything that stands on a world."""

from typing import Any

import torch

from cfworld import World, WorldConfig
from cfworld.memory import MemoryConfig, PromotionRule
from cfworld.model import ActionConfig, Generator, TransformerConfig
from cfworld.prompts import ActionPart, TextConfig
from cfworld.rollout import SamplerConfig
from cfworld.tokenizer import BlockVAEConfig
from cfworld.world import EncodedStarts


def memory_config(chunk: int) -> MemoryConfig:
    """A memory in which every second chunk is promoted, whatever it holds."""
    return MemoryConfig(
        num_sink=1,
        num_slow=2,
        num_fast=2 * chunk + 2,
        consolidate_every=2,
        latents_per_chunk=chunk,
        rule=PromotionRule.UNIFORM,
    )


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


DISCRETE = ActionConfig(num_actions=3, names=["stay", "move left", "move right"])
MULTI = ActionConfig(multi=[2, 2, 3])
BOX = ActionConfig(low=[-1.0, 0.0], high=[1.0, 2.0])
TEXT = ActionConfig(text=TextConfig(max_length=40, tokens=4, width=8))
DICT = ActionConfig(
    parts={
        "mouse": ActionPart(low=[-1.0, -1.0], high=[1.0, 1.0]),
        "keyboard": ActionPart(multi=[2, 2, 3]),
        "move": ActionPart(num_actions=3, names=["stay", "move left", "move right"]),
        "say": ActionPart(text=TextConfig(max_length=40, tokens=4, width=8)),
    }
)
KINDS = {"discrete": DISCRETE, "multi": MULTI, "box": BOX, "text": TEXT, "dict": DICT}
"""Actions of every kind, and one of each below."""
ACTIONS: dict[str, Any] = {
    "discrete": 2,
    "multi": [1, 0, 2],
    "box": [0.5, 1.5],
    "text": "open the red door",
    "dict": {"keyboard": [1, 0, 2], "mouse": [0.5, -0.5], "move": "move right", "say": "open the red door"},
}


def per_frame(kind: str, frames: int) -> Any:
    """The action of a kind, once for each of so many frames."""
    action = ACTIONS[kind]
    return {name: [part] * frames for name, part in action.items()} if kind == "dict" else [action] * frames


def toy_world(*, num_starts: int = 5, seed: int = 0, device: str = "cpu", **changes) -> World:
    """A world with random weights."""
    config = toy_config(**changes)
    with torch.random.fork_rng():
        torch.manual_seed(seed + 1)
        tokenizer = config.frame_coder.build()
        latents = torch.randn(num_starts, config.prefix_latents, *tokenizer.latent_shape)
        shape = (num_starts, config.prefix_latents, config.frames_per_latent)
        generator = toy_generator(config, seed)
        if config.actions.num_actions:
            actions = torch.randint(0, config.actions.num_actions, shape)
        elif config.actions.low:
            actions = torch.rand(*shape, len(config.actions.low))
        else:
            actions = torch.zeros(*shape, *generator.prompts.action_shape, dtype=generator.prompts.action_dtype)
    starts = EncodedStarts(latents=latents, actions=actions, seeds=torch.arange(num_starts))
    return World(config, tokenizer, generator, starts, device=device)
