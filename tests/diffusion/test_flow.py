import pytest
import torch

from cfworld.diffusion import denoised, expand_sigma, interpolate, noise_from, renoise, velocity


def sample(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_sigma_zero_is_data_and_sigma_one_is_noise():
    x0, eps = sample(2, 3, 4), sample(2, 3, 4, seed=1)
    assert torch.equal(interpolate(x0, eps, torch.zeros(2, 3)), x0)
    assert torch.equal(interpolate(x0, eps, torch.ones(2, 3)), eps)


def test_a_quarter_of_the_way_is_a_quarter_of_the_noise():
    x = interpolate(torch.full((1, 1, 2), 4.0), torch.full((1, 1, 2), 8.0), torch.tensor([[0.25]]))
    assert x.tolist() == [[[5.0, 5.0]]]


def test_the_velocity_is_the_slope_of_the_path():
    x0, eps = sample(2, 3, 4), sample(2, 3, 4, seed=1)
    low, high = torch.full((2, 3), 0.25).double(), torch.full((2, 3), 0.75).double()
    slope = (interpolate(x0, eps, high) - interpolate(x0, eps, low)) / 0.5
    torch.testing.assert_close(velocity(x0, eps), slope)


def test_the_conversions_invert():
    x0, eps, sigma = sample(2, 3, 4, 5, 5), sample(2, 3, 4, 5, 5, seed=1), torch.rand(2, 3).double()
    x, v = interpolate(x0, eps, sigma), velocity(x0, eps)
    torch.testing.assert_close(denoised(x, v, sigma), x0)
    torch.testing.assert_close(noise_from(x, v, sigma), eps)
    torch.testing.assert_close(renoise(denoised(x, v, sigma), noise_from(x, v, sigma), sigma), x)


def test_each_latent_gets_its_own_sigma_even_when_axes_have_equal_sizes():
    x0, eps = torch.zeros(2, 2, 2, 2), torch.ones(2, 2, 2, 2)
    sigma = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    x = interpolate(x0, eps, sigma)
    assert torch.equal(x, sigma[:, :, None, None].expand_as(x))


@pytest.mark.parametrize("shape", [(), (2,), (1,), (2, 3), (2, 1), (2, 3, 4)])
def test_sigma_expands_along_leading_axes(shape: tuple[int, ...]):
    assert expand_sigma(torch.zeros(shape), torch.zeros(2, 3, 4)).ndim == 3


@pytest.mark.parametrize("shape", [(3,), (4,), (3, 2), (2, 4), (2, 3, 4, 1)])
def test_a_sigma_of_another_shape_is_refused(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match="sigma has shape"):
        expand_sigma(torch.zeros(shape), torch.zeros(2, 3, 4))
