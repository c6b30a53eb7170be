import numpy as np
import pytest

from cfworld.metrics import images


def flat(value: int, *batch: int) -> np.ndarray:
    return np.full((*batch, 16, 16, 3), value, np.uint8)


def noise(*batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*batch, 16, 16, 3)).astype(np.uint8)


def test_psnr_of_a_constant_error_is_its_level():
    assert images.psnr(flat(51), flat(0)) == pytest.approx(-20 * np.log10(0.2))
    assert images.psnr(flat(51, 2, 3), flat(0, 2, 3)).shape == (2, 3)


def test_psnr_of_equal_images_is_capped():
    assert images.psnr(flat(7), flat(7)) == images.MAX_PSNR


def test_psnr_over_a_mask_looks_at_nothing_else():
    truth, frames, mask = flat(0), flat(0), np.zeros((16, 16), bool)
    frames[:2] = 51
    mask[:2] = True
    assert images.psnr(frames, truth, mask) == pytest.approx(-20 * np.log10(0.2))
    assert images.psnr(frames, truth, ~mask) == images.MAX_PSNR


def test_too_few_moving_pixels_do_not_count():
    mask = np.zeros((16, 16), bool)
    mask[0, : images.MIN_MOVING_PIXELS - 1] = True
    assert np.isnan(images.psnr(flat(0), flat(0), mask))


def test_a_pixel_moves_beyond_the_threshold_and_in_any_channel():
    truth = flat(100)
    truth[0, 0, 2] += images.MOVING_THRESHOLD
    truth[0, 1, 2] += images.MOVING_THRESHOLD + 1
    truth[0, 2, 0] -= images.MOVING_THRESHOLD + 1
    assert np.argwhere(images.moving_pixels(truth, flat(100))).tolist() == [[0, 1], [0, 2]]


def test_ssim_is_one_for_equal_images_and_near_zero_for_unrelated_ones():
    assert images.ssim(noise(3), noise(3)) == pytest.approx(np.ones(3), abs=1e-5)
    assert abs(images.ssim(noise(), noise(seed=1))) < 0.2


def test_ssim_of_flat_images_compares_their_brightness():
    expected = (2 * 0.2 * 0.4 + 1e-4) / (0.2**2 + 0.4**2 + 1e-4)
    assert images.ssim(flat(51), flat(102)) == pytest.approx(expected, abs=1e-4)


def test_sharpness_is_zero_on_a_ramp_and_one_on_a_checkerboard():
    ramp = np.repeat(np.arange(16, dtype=np.uint8)[None, :, None] * 10, 16, axis=0).repeat(3, axis=2)
    assert images.sharpness(ramp) == pytest.approx(0, abs=1e-9)
    board = 255 * (np.indices((16, 16)).sum(axis=0) % 2).astype(np.uint8)
    assert images.sharpness(board[..., None].repeat(3, axis=2)) == pytest.approx(1, abs=1e-5)


def test_motion_is_the_mean_square_of_the_change():
    frames = np.stack([flat(0), flat(51), flat(51)])
    assert images.motion(frames) == pytest.approx(0.2**2 / 2)


def test_colour_and_saturation_are_those_of_the_pixels():
    red = flat(0)
    red[..., 0] = 255
    assert images.colour(red).tolist() == [1, 0, 0]
    assert images.saturation(red) == 1
    assert images.saturation(flat(80)) == 0


def test_blur_keeps_flat_images_and_takes_sharpness_away():
    assert np.array_equal(images.blurred(flat(80, 2)), flat(80, 2))
    assert images.sharpness(images.blurred(noise())) < 0.02 * images.sharpness(noise())
    assert images.colour(images.blurred(noise())) == pytest.approx(images.colour(noise()), abs=0.03)
