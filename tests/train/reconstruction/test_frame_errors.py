import pytest
import torch

from cfworld.train.reconstruction.frame_errors import (
    contact_sheet,
    detail,
    mean_error,
    pixel_weights,
    reconstruction_figures,
    weighted_error,
)


def blocks(*values: int) -> torch.Tensor:
    """One block of 2x2 frames, each of one grey."""
    return torch.tensor(values, dtype=torch.uint8).reshape(1, -1, 1, 1, 1).expand(1, -1, 2, 2, 3).contiguous()


def test_weights_count_what_is_rare_and_what_moves() -> None:
    median = torch.zeros(2, 2, 3, dtype=torch.uint8)
    weights = pixel_weights(blocks(0, 51, 51, 255), median, rare=8.0, motion=4.0, clip=0.5)
    assert weights.shape == (1, 9, 2, 2)
    expected = [1 + 8 * 0.2 + 4 * 0.2, 1 + 8 * 0.2, 1 + 8 * 0.5 + 4 * 0.5]
    torch.testing.assert_close(weights[0, ::3, 0, 0], torch.tensor(expected))


def test_errors_are_weighted_means() -> None:
    target = torch.zeros(1, 3, 2, 2)
    pixels = target.clone()
    pixels[..., 1] = 0.5
    weights = torch.ones(1, 3, 2, 2)
    weights[..., 1] = 3.0
    absolute, squared, edges = weighted_error(pixels, target, weights)
    assert absolute == pytest.approx(0.75)
    assert squared == pytest.approx(0.375)
    assert edges == pytest.approx(0.5 * 1.5)


def test_the_error_of_means_overlooks_grain_and_sees_brightness() -> None:
    checkers = (torch.arange(20)[:, None] + torch.arange(20)) % 2 * 2.0 - 1.0
    target, weights = torch.zeros(1, 3, 20, 20), torch.full((1, 3, 20, 20), 2.0)
    assert mean_error(checkers.expand(1, 3, 20, 20), target, weights) < 0.25
    assert mean_error(target + 0.5, target, weights) == pytest.approx(2 * (0.5 + 0.25))


def test_detail_is_what_differs_from_the_surroundings() -> None:
    ramp = torch.arange(6.0).expand(1, 1, 6, 6)
    torch.testing.assert_close(detail(ramp)[..., 1:-1], torch.zeros(1, 1, 6, 4))
    point = torch.zeros(1, 1, 5, 5)
    point[..., 2, 2] = 9.0
    assert detail(point)[0, 0, 2, 2] == 8.0


def test_figures_tell_moving_pixels_from_all() -> None:
    frames = torch.randint(100, 150, (1, 1, 8, 8, 3), dtype=torch.uint8).expand(1, 3, 8, 8, 3).contiguous()
    frames[:, 1:, :4] += 50  # the upper half moves once
    decoded = frames[:, 1:].clone()
    decoded[:, 0, :4] += 51
    figures = reconstruction_figures(frames, decoded)
    assert figures["psnr_moving"] == pytest.approx(-20 * torch.log10(torch.tensor(0.2)).item(), abs=1e-3)
    assert figures["psnr"] == pytest.approx(figures["psnr_moving"] + 10 * torch.log10(torch.tensor(4.0)).item())


def test_blur_is_seen_as_lost_sharpness() -> None:
    frames = torch.randint(0, 256, (1, 3, 8, 8, 3), dtype=torch.uint8)
    assert reconstruction_figures(frames, frames[:, 1:])["sharpness"] == pytest.approx(1.0)
    flat = torch.full((1, 2, 8, 8, 3), 128, dtype=torch.uint8)
    assert reconstruction_figures(frames, flat)["sharpness"] == pytest.approx(0.0, abs=1e-6)


def test_the_sheet_shows_real_blocks_above_their_reconstructions() -> None:
    frames = torch.stack([torch.full((2, 4, 4, 3), value, dtype=torch.uint8) for value in range(8)])
    sheet = contact_sheet(frames, frames + 100, torch.arange(8).float(), blocks_per_row=2, num_rows=1, zoom=1)
    assert sheet.shape == (8, 16, 3)
    assert sheet[0, 0, 0] == 7
    assert sheet[4, 0, 0] == 107
    assert sheet[0, 8, 0] == 6
