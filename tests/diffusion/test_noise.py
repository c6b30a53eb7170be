import math

import pytest
import torch

from cfworld.diffusion import counter_noise, counter_uniform

MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int64)


def mix(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def word(seed: int, step: int, pass_index: int, stream: int, element: int) -> int:
    """The hash in Python's own integers."""
    key = mix((seed + 1) * GOLDEN & MASK)
    key = mix(key + (step + 1) * GOLDEN & MASK)
    key = mix(key + (2 * pass_index + stream + 1) * GOLDEN & MASK)
    return mix(key + (element + 1) * GOLDEN & MASK)


COUNTERS = [(0, 0, 0), (-7, 123_456_789, 3), (2**62, 2**40, 1), (-(2**63), 0, 15)]


@pytest.mark.parametrize(("seed", "step", "pass_index"), COUNTERS)
def test_noise_is_box_muller_of_the_hash(seed: int, step: int, pass_index: int):
    drawn = counter_noise(ints(seed), ints(step), pass_index, (6,))[0].tolist()
    for pair in range(3):
        bits = word(seed, step, pass_index, 0, pair)
        radius = math.sqrt(-2 * math.log(((bits >> 32) + 0.5) / 2**32))
        angle = 2 * math.pi * ((bits & 0xFFFFFFFF) + 0.5) / 2**32
        expected = [radius * math.cos(angle), radius * math.sin(angle)]
        assert drawn[2 * pair : 2 * pair + 2] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("seed", "step", "pass_index"), COUNTERS)
def test_uniforms_are_the_top_bits_of_the_hash(seed: int, step: int, pass_index: int):
    drawn = counter_uniform(ints(seed), ints(step), pass_index, (3,))[0].tolist()
    expected = [((word(seed, step, pass_index, 1, i) >> 41) + 0.5) / 2**23 for i in range(3)]
    assert drawn == expected


def test_noise_has_its_golden_values():
    drawn = counter_noise(ints(0, -7), ints(0, 123_456_789), 2, (3,))
    torch.testing.assert_close(
        drawn,
        torch.tensor([[-0.544586778, 0.013431333, 0.785209537], [-0.0717045218, 0.979981899, -0.610995591]]),
        atol=1e-7,
        rtol=0,
    )


def test_noise_is_standard_normal():
    x = counter_noise(torch.arange(64), torch.zeros(64).long(), 0, (1, 16, 8, 8)).double().flatten()
    n = len(x)
    assert abs(x.mean()) < 4 / math.sqrt(n)
    assert abs(x.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((x**3).mean()) < 4 * math.sqrt(15 / n)
    assert abs((x**4).mean() - 3) < 4 * math.sqrt(96 / n)
    inside = torch.distributions.Normal(0.0, 1.0).cdf(x).sort().values
    assert (inside - (torch.arange(n) + 0.5) / n).abs().max() < 1.63 / math.sqrt(n)  # 1 % Kolmogorov-Smirnov


def test_neighbours_are_uncorrelated_along_every_counter():
    bound = 4.5 / math.sqrt(64 * 1024)
    seeds, zero = torch.arange(65), torch.zeros(65).long()
    by_seed = counter_noise(seeds, zero, 0, (1024,))
    by_step = counter_noise(zero, seeds, 0, (1024,))
    by_pass = torch.cat([counter_noise(ints(0), ints(0), i, (1024,)) for i in range(65)])
    for x in (by_seed, by_step, by_pass):
        assert abs((x[1:] * x[:-1]).mean()) < bound
        assert abs((x[:, 1:] * x[:, :-1]).mean()) < bound
        assert abs((x[:, 2:] * x[:, :-2]).mean()) < bound


def test_every_counter_changes_the_noise():
    base = counter_noise(ints(1), ints(2), 3, (64,))
    for other in (
        counter_noise(ints(2), ints(2), 3, (64,)),
        counter_noise(ints(1), ints(1), 3, (64,)),
        counter_noise(ints(1), ints(2), 0, (64,)),
        counter_noise(ints(2), ints(1), 3, (64,)),
    ):
        assert not torch.isclose(base, other).any()
    assert len(base.unique()) == 64


def test_noise_does_not_depend_on_the_place_in_the_batch_or_on_its_size():
    seeds, step = torch.arange(10, 17), torch.arange(7) ** 2
    together = counter_noise(seeds, step, 1, (2, 3, 5))
    backwards = counter_noise(seeds.flip(0), step.flip(0), 1, (2, 3, 5)).flip(0)
    alone = torch.cat([counter_noise(seeds[i : i + 1], step[i : i + 1], 1, (2, 3, 5)) for i in range(7)])
    assert torch.equal(together, backwards)
    assert torch.equal(together, alone)


def test_a_longer_shape_extends_a_shorter_one():
    long, short = (counter_noise(ints(3), ints(4), 0, (n,)) for n in (9, 5))
    assert torch.equal(long[:, :5], short)


def test_uniforms_are_flat_and_open():
    u = counter_uniform(torch.arange(1000), torch.zeros(1000).long(), 0, (10,)).double().flatten().sort().values
    assert ((u > 0) & (u < 1)).all()
    assert (u - (torch.arange(10_000) + 0.5) / 10_000).abs().max() < 1.63 / 100


def test_noise_is_float32_of_the_asked_shape():
    drawn = counter_noise(ints(0, 1), ints(0, 0), 0, (1, 16, 8, 8))
    assert drawn.dtype == torch.float32
    assert drawn.shape == (2, 1, 16, 8, 8)
    assert counter_uniform(ints(0), ints(0), 0, ()).shape == (1,)
