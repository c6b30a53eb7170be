"""The transformer's contract: context in, keys and values out, rows independent."""

import pytest
import torch

from cfworld.errors import ConfigError
from cfworld.model import Transformer, TransformerConfig
from cfworld.model.blocks import timestep_embedding
from tests.toy import toy_config, toy_generator


def no_context(_layer, keys, values):
    empty = keys.flatten(1, 2)[:, :0]
    return empty, values.flatten(1, 2)[:, :0]


def inputs(rows: int, latents: int = 1):
    generator = torch.Generator().manual_seed(rows)
    return (
        torch.randn(rows, latents, 4, 8, 8, generator=generator),
        torch.rand(rows, latents, generator=generator),
        torch.randn(rows, latents, 4, 16, generator=generator),
        torch.arange(latents).expand(rows, latents),
    )


def test_shapes_of_what_comes_out():
    transformer = toy_generator(toy_config()).transformer
    out = transformer(*inputs(2, 3), no_context)
    assert out.velocity.shape == (2, 3, 4, 8, 8)
    assert out.features.shape == (2, 3, 4, 24)
    assert [k.shape for k in out.keys] == [(2, 3, 4, 2, 12)] * 2


def test_an_untrained_transformer_predicts_zero_velocity():
    from cfworld.model import Generator

    config = toy_config()
    transformer = Generator(config.actions, config.transformer).transformer
    assert transformer(*inputs(1), no_context).velocity.abs().max() == 0


def test_patches_are_put_back_where_they_came_from():
    """With an identity for embedding and output and blocks that add nothing, the latent passes through."""
    config = TransformerConfig(in_channels=2, latent_size=[4, 6], patch_size=[2, 3], dim=12, num_heads=2, depth=0)
    transformer = Transformer(config)
    with torch.no_grad():
        transformer.patch_embedding.weight.copy_(torch.eye(12))
        transformer.patch_embedding.bias.zero_()
        transformer.head.head.weight.copy_(torch.eye(12))
        transformer.head.modulation.zero_()
        for parameter in transformer.time_embedding.parameters():
            parameter.zero_()
    x = torch.randn(1, 1, 2, 4, 6)
    prompts = torch.zeros(1, 1, 4, 128)
    out = transformer(x, torch.zeros(1, 1), prompts, torch.zeros(1, 1, dtype=torch.long), no_context).velocity
    patches = out.unfold(3, 2, 2).unfold(4, 3, 3), x.unfold(3, 2, 2).unfold(4, 3, 3)
    flat_out, flat_x = (p.permute(0, 1, 3, 4, 2, 5, 6).flatten(4) for p in patches)
    normalised = (flat_x - flat_x.mean(-1, keepdim=True)) / flat_x.std(-1, keepdim=True, unbiased=False)
    torch.testing.assert_close(flat_out, normalised, rtol=1e-4, atol=1e-4)


def test_an_input_skip_scales_the_noisy_latents_channel_by_channel():
    """Blocks that add nothing and a skip that says 2 for the first channel and 0 for the second."""
    config = TransformerConfig(in_channels=2, dim=12, num_heads=2, depth=0, input_skip=True)
    transformer, x = Transformer(config), torch.randn(1, 1, 2, 8, 8)
    given = x, torch.rand(1, 1), torch.zeros(1, 1, 4, 128), torch.zeros(1, 1, dtype=torch.long), no_context
    assert transformer(*given).velocity.abs().max() == 0
    with torch.no_grad():
        transformer.get_parameter("head.skip.bias").copy_(torch.tensor([2.0, 0.0]).repeat(4))
    torch.testing.assert_close(transformer(*given).velocity, x * torch.tensor([2.0, 0.0])[:, None, None])


@torch.no_grad()
def test_the_skips_gain_depends_on_the_noise_level_and_not_on_the_batch():
    torch.manual_seed(0)
    config = TransformerConfig(in_channels=2, dim=12, num_heads=2, depth=0, input_skip=True)
    transformer = Transformer(config)
    torch.nn.init.normal_(transformer.get_parameter("head.skip.weight"))
    x, sigma = torch.randn(14, 1, 2, 8, 8), torch.linspace(0, 1, 14)[:, None]
    prompts, positions = torch.zeros(14, 1, 4, 128), torch.zeros(14, 1, dtype=torch.long)
    together = transformer(x, sigma, prompts, positions, no_context).velocity
    gains = (together / x).flatten(1)
    assert (gains[1:, 0] - gains[:-1, 0]).abs().min() > 0
    alone = [transformer(x[r : r + 1], sigma[:1] + sigma[r], prompts[:1], positions[:1], no_context) for r in range(14)]
    assert torch.equal(torch.cat([out.velocity for out in alone]), together)
    levels = transformer.embed_time(sigma.T).levels(1, 1)
    embedded = [transformer(x[r : r + 1], levels[r], prompts[:1], positions[:1], no_context) for r in range(14)]
    assert torch.equal(torch.cat([out.velocity for out in embedded]), together)


def test_rows_of_a_batch_are_independent():
    transformer = toy_generator(toy_config()).transformer
    x, sigma, prompts, positions = inputs(3)
    together = transformer(x, sigma, prompts, positions, no_context).velocity
    changed = transformer(torch.cat([x[:1], x[1:] + 1]), sigma, prompts, positions, no_context).velocity
    torch.testing.assert_close(together[0], changed[0], rtol=0, atol=0)
    assert (together[1:] - changed[1:]).abs().max() > 0


def test_masked_context_does_not_matter_and_seen_context_does():
    transformer = toy_generator(toy_config()).transformer
    x, sigma, prompts, positions = inputs(1)
    keys, values = torch.randn(2, 2, 1, 4, 2, 12)
    mask = torch.ones(1, 1, 1, 8, dtype=torch.bool)

    def velocity(value_shift: float, seen: bool) -> torch.Tensor:
        mask[..., :4] = seen
        context = lambda layer, _k, _v: (keys[layer], values[layer] + value_shift)  # noqa: E731
        return transformer(x, sigma, prompts, positions, context, mask).velocity

    torch.testing.assert_close(velocity(0.0, seen=False), velocity(5.0, seen=False), rtol=0, atol=0)
    assert (velocity(0.0, seen=True) - velocity(5.0, seen=True)).abs().max() > 1e-4


def test_timestep_embedding_has_cosines_first_and_counts_in_thousandths():
    embedding = timestep_embedding(torch.tensor([[0.002]]), 4)[0, 0]
    angles = torch.tensor([2.0, 0.02])
    torch.testing.assert_close(embedding, torch.cat([angles.cos(), angles.sin()]))


@pytest.mark.parametrize("settings", [{"dim": 10, "num_heads": 4}, {"latent_size": [7, 8]}, {"dim": 8, "num_heads": 4}])
def test_sizes_that_do_not_divide_are_refused(settings: dict):
    with pytest.raises(ConfigError):
        TransformerConfig(**settings)
