import pytest
import torch

from cfworld.diffusion import sample_sigma, shift, sigmas, stratified_sigma


def test_four_steps_with_shift_five_are_those_of_the_paper():
    warped = shift(torch.tensor([1000.0, 750.0, 500.0, 250.0]) / 1000, 5.0)
    torch.testing.assert_close(warped, torch.tensor([1000, 937.5, 2500 / 3, 625]) / 1000)
    torch.testing.assert_close(sigmas(4, 5.0), torch.cat([warped, torch.zeros(1)]))


def test_shift_one_is_the_identity_and_one_over_s_undoes_s():
    grid = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.equal(shift(grid, 1.0), grid)
    torch.testing.assert_close(shift(shift(grid, 5.0), 0.2), grid)


@pytest.mark.parametrize("num_steps", [1, 3, 50])
def test_the_grid_falls_strictly_from_one_to_zero(num_steps: int):
    grid = sigmas(num_steps, shift=3.0)
    assert grid.dtype == torch.float32
    assert grid.shape == (num_steps + 1,)
    assert (grid[0], grid[-1]) == (1, 0)
    assert (grid.diff() < 0).all()


@pytest.mark.parametrize(("num_steps", "s"), [(0, 5.0), (4, 0.0), (4, float("nan"))])
def test_a_grid_without_steps_or_with_a_shift_that_is_not_positive_is_refused(num_steps: int, s: float):
    with pytest.raises(ValueError, match="expected"):
        sigmas(num_steps, s)


def test_training_sigmas_are_uniform_then_shifted():
    drawn = sample_sigma((100, 200), 5.0, torch.Generator().manual_seed(0))
    assert drawn.shape == (100, 200)
    uniform = shift(drawn.double(), 1 / 5.0).flatten().sort().values
    expected = (torch.arange(20_000) + 0.5).double() / 20_000
    assert (uniform - expected).abs().max() < 0.015  # Kolmogorov-Smirnov


def test_training_sigmas_stay_inside_the_open_interval(monkeypatch: pytest.MonkeyPatch):
    """At a shift of 8 the largest draw is rounded to 1, and so it is in the last of two copies."""
    for extreme in (0.0, 1 - 2.0**-24):
        monkeypatch.setattr(torch, "rand", lambda *_, value=extreme, **__: torch.full((2, 2, 3), value))
        for drawn in (sample_sigma((2, 2, 3), 8.0), stratified_sigma((2, 2, 3), 1.0, torch.Generator())):
            assert ((drawn > 0) & (drawn < 1)).all()


def test_training_sigmas_depend_on_the_generator_alone():
    first, second = (sample_sigma((4,), 5.0, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)


def test_copies_share_the_training_sigmas_out_between_them():
    drawn = stratified_sigma((50, 4, 100), 5.0, torch.Generator().manual_seed(0))
    uniform = shift(drawn.double(), 1 / 5.0)
    for copy in range(4):
        assert uniform[:, copy].min() >= copy / 4 - 1e-6
        assert uniform[:, copy].max() <= (copy + 1) / 4 + 1e-6
    expected = (torch.arange(20_000) + 0.5).double() / 20_000
    assert (uniform.flatten().sort().values - expected).abs().max() < 0.015  # Kolmogorov-Smirnov
