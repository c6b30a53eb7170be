import pytest
import torch
from torch import Tensor

from cfworld.diffusion import (
    Solver,
    euler,
    expand_sigma,
    few_step,
    guided,
    heun,
    integrate,
    levels_of_passes,
    sigmas,
)


def noise(seed: int = 0) -> Tensor:
    return torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(seed))


def test_euler_is_exact_on_a_constant_velocity():
    eps, x0 = noise(), noise(1)
    for num_steps in (1, 3, 8):
        x = euler(lambda x, sigma: eps - x0, eps, sigmas(num_steps, 5.0))
        torch.testing.assert_close(x, x0, atol=1e-5, rtol=0)


def test_heun_is_exact_on_a_velocity_linear_in_sigma():
    eps, slope = noise(), noise(1)
    for num_steps in (1, 3, 8):
        x = heun(lambda x, sigma: 2 * expand_sigma(sigma, x) * slope, eps, sigmas(num_steps, 5.0))
        torch.testing.assert_close(x, eps - slope, atol=1e-5, rtol=0)  # x(0) = eps - slope * (1^2 - 0^2)


def test_heun_converges_one_order_faster_than_euler():
    eps = noise().double()  # dx / dsigma = x, hence x(0) = eps / e
    errors = {
        solver: [(solver(lambda x, sigma: x, eps, sigmas(n, 1.0)) - eps / torch.e).abs().max() for n in (16, 32)]
        for solver in (euler, heun)
    }
    assert 1.8 < errors[euler][0] / errors[euler][1] < 2.2
    assert 3.6 < errors[heun][0] / errors[heun][1] < 4.4


def test_few_steps_with_a_perfect_denoiser_return_the_data():
    x0 = noise(1)

    def perfect(x: Tensor, sigma: Tensor) -> Tensor:
        return (x - x0) / expand_sigma(sigma, x)

    for num_steps in (1, 4):
        x = few_step(perfect, noise(), sigmas(num_steps, 5.0), lambda i: noise(10 + i))
        torch.testing.assert_close(x, x0, atol=1e-6, rtol=0)


def test_few_steps_see_fresh_noise_at_the_level_of_each_pass():
    grid, seen = sigmas(3, 5.0), []

    def predicts_zero(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append((x, sigma))
        return x / expand_sigma(sigma, x)

    few_step(predicts_zero, noise(0), grid, noise)
    for i, (x, sigma) in enumerate(seen):
        assert torch.equal(sigma, grid[i].expand(2, 3))
        torch.testing.assert_close(x, grid[i] * noise(i), atol=1e-6, rtol=0)


def test_solvers_give_the_network_one_sigma_per_row_and_latent():
    shapes = []

    def record(x: Tensor, sigma: Tensor) -> Tensor:
        shapes.append((sigma.shape, sigma.dtype))
        return x

    euler(record, noise(), sigmas(1, 1.0))
    heun(record, noise(), sigmas(1, 1.0))
    assert set(shapes) == {(torch.Size([2, 3]), torch.float32)}


@pytest.mark.parametrize("solver", list(Solver))
def test_the_levels_of_a_solvers_passes_are_those_at_which_it_asks_for_the_velocity(solver: Solver):
    grid, asked = sigmas(3, 5.0), []

    def record(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append(sigma[0, 0])
        return x

    integrate(solver, record, noise(), grid, noise)
    assert torch.equal(torch.stack(asked), grid[levels_of_passes(solver, 3)])


def test_guidance_of_one_is_the_prompted_velocity_and_zero_the_null_one():
    cond, uncond = noise(), noise(1)
    torch.testing.assert_close(guided(cond, uncond, 1.0), cond)
    assert torch.equal(guided(cond, uncond, 0.0), uncond)


def test_guidance_of_four_is_the_offset_form_with_three():
    cond, uncond = noise(), noise(1)
    torch.testing.assert_close(guided(cond, uncond, 4.0), cond + 3.0 * (cond - uncond))
