"""What is embedded once for a whole chunk is what every pass would embed for itself."""

import pytest
import torch

from cfworld.model import AttentionBackend
from cfworld.prefix import prime
from cfworld.rollout import Solver, clean_pass, conditions, context_from_memory, denoise, read
from cfworld.world import WorldConfig
from tests.toy import toy_config, toy_generator, toy_world


def moment(config: WorldConfig, rows: int = 3):
    generator = toy_generator(config).eval()
    actions = torch.arange(rows * 8).reshape(rows, 2, 4) % 3
    latents = torch.randn(rows, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    memory = prime(generator, config.memory, latents, actions)
    return generator, memory, context_from_memory(generator, config.memory, memory), latents[:, :1], actions[:, :1]


@torch.no_grad()
def test_a_pass_over_embedded_conditions_is_bit_for_bit_a_pass_over_raw_ones():
    config = toy_config()
    generator, _, context, x, actions = moment(config)
    given = conditions(generator, config.sampler, context, actions)
    for level, sigma in zip(given.levels, (1.0, 0.75, 0.0), strict=True):
        raw = read(generator, x, torch.full((3, 1), sigma), generator.prompts(actions), context)
        embedded = read(generator, x, level, given.prompts, context, given.rope)
        assert torch.equal(raw.velocity, embedded.velocity)
        assert torch.equal(torch.stack(raw.keys), torch.stack(embedded.keys))


@torch.no_grad()
@pytest.mark.parametrize("solver", list(Solver))
def test_a_chunk_and_its_clean_pass_are_the_same_from_conditions_at_hand(solver: Solver):
    config = toy_config()
    generator, memory, context, x, actions = moment(config)
    config.sampler.solver, config.sampler.guidance = solver, 2.0
    given = conditions(generator, config.sampler, context, actions)
    plain, fast = (denoise(generator, config.sampler, context, actions, lambda _: x, g) for g in (None, given))
    assert torch.equal(plain, fast)
    slow_pass, fast_pass = (
        clean_pass(generator, config.memory, memory, context, plain, actions, given=g) for g in (None, given)
    )
    assert torch.equal(slow_pass.memory.keys, fast_pass.memory.keys)
    assert torch.equal(slow_pass.hazard_logit, fast_pass.hazard_logit)


def test_a_step_embeds_its_prompts_and_its_noise_levels_once():
    world = toy_world()
    calls: list[str] = []
    transformer = world.generator.transformer
    for name in ("prompt_embedding", "time_embedding"):
        getattr(transformer, name).register_forward_hook(lambda *_, name=name: calls.append(name))
    transformer.get_submodule("blocks.1.cross_attn.k").register_forward_hook(lambda *_: calls.append("prompt keys"))
    state, _ = world.initial([0])
    calls.clear()
    world.step(state, [1])
    assert sorted(calls) == ["prompt keys", "prompt_embedding", "time_embedding"]


def test_a_filling_memory_reads_the_same_by_lengths_as_by_a_mask():
    """Kernels that take lengths get the valid slots first; here PyTorch's reference takes their place."""
    world = toy_world()
    by_mask, _ = world.initial([0, 1])
    by_lengths = by_mask.select([0, 1])
    for step in range(10):
        world.generator.transformer.use_attention("math")
        by_mask, expected = world.step(by_mask, [step % 3, 1])
        world.generator.transformer._attention = AttentionBackend.FLASH
        by_lengths, got = world.step(by_lengths, [step % 3, 1])
        torch.testing.assert_close(got.latents, expected.latents, rtol=1e-4, atol=1e-5)
    assert by_mask.memory.valid.all(), "the memory must have filled up"
