"""A network of few blocks is the beginning of one with more: at first it does what it did, and all of it can learn."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cfworld.errors import ConfigError
from cfworld.model import Generator
from cfworld.train.deepening import deepened_generator
from cfworld.train.teacher import teacher_weights
from tests.toy import toy_config, toy_generator, toy_world

DEPTH = toy_config().transformer.depth


def generator(depth: int) -> Generator:
    config = toy_config()
    made = toy_generator(replace(config, transformer=replace(config.transformer, depth=depth)))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made.key_centre.copy_(torch.arange(depth)[:, None])
    return made


def deepened(old: Generator, depth: int) -> Generator:
    new = generator(depth)
    new.load_state_dict(deepened_generator(old.state_dict(), len(old.key_centre), depth))
    return new


def velocity(of: Generator) -> Tensor:
    """Of two noisy latents, each of which sees itself alone."""
    config = of.transformer.config
    noisy = torch.randn(1, 2, config.in_channels, *config.latent_size, generator=torch.Generator().manual_seed(0))
    prompts = torch.ones(1, 2, config.frames_per_latent, config.prompt_dim)

    def no_context(_layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        return keys.flatten(1, 2)[:, :0], values.flatten(1, 2)[:, :0]

    return of.transformer(
        noisy, torch.full((1, 2), 0.7), prompts, torch.zeros(1, 2, dtype=torch.long), no_context
    ).velocity


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 3), (2, 5), (3, 3)])
@torch.no_grad()
def test_a_deepened_network_predicts_what_the_old_one_did(before: int, after: int):
    old = generator(before)
    torch.testing.assert_close(velocity(deepened(old, after)), velocity(old))


def test_every_new_block_has_the_centre_of_the_one_that_it_follows():
    assert deepened(generator(2), 5).key_centre[:, 0].tolist() == [0, 0, 0, 1, 1]
    assert deepened(generator(4), 6).key_centre[:, 0].tolist() == [0, 0, 1, 2, 2, 3]


def has_gradient(block: nn.Module, name: str) -> bool:
    gradient = block.get_parameter(name).grad
    return gradient is not None and bool(gradient.any())


def test_what_a_new_block_adds_can_be_learnt():
    """Its outputs are zero, and have a gradient; what goes into them has one after the first step."""
    new = deepened(generator(1), 2)
    optimiser = torch.optim.SGD(new.parameters(), lr=1e-2)
    for step in range(2):
        optimiser.zero_grad()
        velocity(new).square().mean().backward()
        block = new.transformer.blocks[1]
        for layer in ("self_attn.o", "cross_attn.o", "ffn.2"):
            assert has_gradient(block, f"{layer}.weight"), layer
        assert has_gradient(block, "ffn.0.weight") == (step > 0)
        optimiser.step()


@pytest.mark.parametrize(("before", "after"), [(2, 1), (0, 2)])
def test_fewer_blocks_and_copies_of_none_are_refused(before: int, after: int):
    with pytest.raises(ConfigError, match=f"got depth={after} for weights of {before} blocks"):
        deepened_generator(generator(before).state_dict(), before, after)


def test_a_teacher_begins_with_the_weights_of_one_of_fewer_blocks(tmp_path: Path):
    toy_world().save_pretrained(tmp_path)
    config = toy_config()
    deep = toy_config(transformer=replace(config.transformer, depth=DEPTH + 1))
    weights = teacher_weights(str(tmp_path), deep)
    assert len(weights["key_centre"]) == DEPTH + 1
    assert weights[f"transformer.blocks.{DEPTH}.self_attn.q.weight"].abs().max() > 0
