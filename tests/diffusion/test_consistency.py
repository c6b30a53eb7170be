"""Consistency distillation against flow maps that are known in closed form."""

import pytest
import torch
from torch import Tensor

from cfworld.diffusion import denoised, euler, expand_sigma, heun, interpolate, sigmas
from cfworld.diffusion.consistency import consistency_target, draw_levels, level_path, pseudo_huber

MEAN, SPREAD = 0.7, 0.4
SHAPE = (64, 2, 1, 1, 1)


def noise(seed: int = 0) -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def deviation(sigma: Tensor) -> Tensor:
    """Standard deviation of x_sigma when the data are N(MEAN, SPREAD^2)."""
    return torch.sqrt(((1 - sigma) * SPREAD) ** 2 + sigma**2)


def gaussian(x: Tensor, sigma: Tensor) -> Tensor:
    """Velocity E[eps - x0 | x_sigma = x] for data N(MEAN, SPREAD^2)."""
    s = expand_sigma(sigma, x).double()
    residual = (x - (1 - s) * MEAN) / deviation(s) ** 2
    return s * residual - (MEAN + (1 - s) * SPREAD**2 * residual)


def flow_map(x: Tensor, sigma: Tensor) -> Tensor:
    """Where the probability flow of that Gaussian ends: it keeps the number of standard deviations."""
    s = expand_sigma(sigma, x).double()
    return MEAN + SPREAD * (x - (1 - s) * MEAN) / deviation(s)


def flow_velocity(x: Tensor, sigma: Tensor) -> Tensor:
    """The velocity whose consistency function is `flow_map`."""
    return (x - flow_map(x, sigma)) / expand_sigma(sigma, x)


def point(x: Tensor, sigma: Tensor) -> Tensor:
    """Velocity for data that are MEAN always."""
    return (x - MEAN) / expand_sigma(sigma, x)


def at(level: int, num_levels: int, num_substeps: int = 1, *, to_data: bool = False) -> Tensor:
    return level_path(torch.full(SHAPE[:2], level), num_levels, num_substeps, 3.0, to_data=to_data)


def never(x: Tensor, sigma: Tensor) -> Tensor:
    raise AssertionError("the student must not be asked")


def test_levels_are_those_of_the_solvers_grid():
    grid = sigmas(48, 3.0)
    for level in (0, 20, 47):
        path = at(level, 48)
        assert torch.equal(path[0], grid[level].expand(SHAPE[:2]))
        assert torch.equal(path[1], grid[level + 1].expand(SHAPE[:2]))


def test_substeps_pass_the_levels_of_a_finer_grid_and_can_go_on_to_the_data():
    torch.testing.assert_close(at(1, 4, 2)[:, 0, 0], sigmas(8, 3.0)[2:5])
    torch.testing.assert_close(at(1, 4, 6, to_data=True)[:, 0, 0], sigmas(8, 3.0)[2:])


@pytest.mark.parametrize("solver", [euler, heun])
def test_one_step_of_a_point_mass_leads_to_the_point_from_everywhere(solver):
    for level in (0, 3, 6):
        target = consistency_target(point, point, noise(), at(level, 8), solver)
        torch.testing.assert_close(target, torch.full_like(target, MEAN))


def test_the_target_of_the_lowest_level_is_where_the_teacher_leads_whatever_the_student_says():
    path = at(7, 8)
    data = torch.full(SHAPE, MEAN, dtype=torch.float64)
    x = interpolate(data, noise(), path[0])
    asked = []

    def student(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append(sigma)
        return torch.full_like(x, 7.0)

    torch.testing.assert_close(consistency_target(point, student, x, path), data)
    x = noise()
    target = consistency_target(gaussian, student, x, path)
    torch.testing.assert_close(target, denoised(x, gaussian(x, path[0]), path[0]))
    assert len(asked) == 2, "processes that share the student out ask it whatever they drew"


def test_the_flow_map_is_the_fixed_point():
    for level in (0, 50, 198):
        path = at(level, 200)
        x = interpolate(MEAN + SPREAD * noise(1), noise(2), path[0])
        target = consistency_target(gaussian, flow_velocity, x, path, heun)
        torch.testing.assert_close(target, flow_map(x, path[0]), atol=2e-5, rtol=0)


def test_the_teachers_whole_trajectory_ends_at_the_flow_map():
    path = at(0, 4, 64, to_data=True)
    target = consistency_target(gaussian, never, noise(), path, heun, to_data=True)
    torch.testing.assert_close(target, flow_map(noise(), path[0]), atol=2e-3, rtol=0)


def test_a_student_learnt_from_the_targets_is_the_flow_map():
    """One slope and one offset a level, learnt from below upwards, each from the averaged student of the one below."""
    num_levels = 64
    grid = sigmas(num_levels, 3.0).double()
    slope, offset = torch.zeros(2, num_levels + 1, dtype=torch.float64)  # the last at the data, where nobody minds

    def student(x: Tensor, sigma: Tensor) -> Tensor:
        level = (grid - sigma.flatten()[0]).abs().argmin()
        return (x - (slope[level] * x + offset[level])) / expand_sigma(sigma, x)

    for level in reversed(range(num_levels)):
        x = interpolate(MEAN + SPREAD * noise(level), noise(1000 + level), at(level, num_levels)[0])
        target = consistency_target(gaussian, student, x, at(level, num_levels), heun).flatten()
        fit = torch.linalg.lstsq(torch.stack([x.flatten(), torch.ones_like(x.flatten())], dim=1), target).solution
        slope[level], offset[level] = fit
    torch.testing.assert_close(slope[0] * noise() + offset[0], MEAN + SPREAD * noise(), atol=5e-3, rtol=0)


def test_no_gradient_passes_through_a_target():
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)

    def network(x: Tensor, sigma: Tensor) -> Tensor:
        return weight * gaussian(x, sigma)

    assert not consistency_target(network, network, noise().requires_grad_(), at(3, 8)).requires_grad


def test_levels_favour_those_of_the_sampler():
    drawn = draw_levels((40_000,), 8, 4, 0.5, torch.Generator().manual_seed(0))
    share = drawn.bincount(minlength=8) / len(drawn)
    expected = torch.tensor([0.1875, 0.0625] * 4)  # 0.5 / 4 + 0.5 / 8 and 0.5 / 8
    torch.testing.assert_close(share, expected, atol=0.01, rtol=0)
    assert set(draw_levels((1000,), 8, 4, 1.0, torch.Generator().manual_seed(0)).tolist()) == {0, 2, 4, 6}


def test_pseudo_huber_is_square_for_small_and_linear_for_large_differences():
    size = torch.tensor([1e-4, 10.0])[:, None, None, None].expand(2, 3, 2, 2)
    small, large = pseudo_huber(size.double(), 0.1).tolist()
    assert small == pytest.approx(1e-8 / 0.2, rel=1e-4)
    assert large == pytest.approx(9.9, rel=1e-3)
    assert pseudo_huber(size, 0.0).tolist() == pytest.approx([1e-8, 100.0])
