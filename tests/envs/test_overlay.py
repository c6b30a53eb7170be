import numpy as np

from cfworld.envs.overlay import Caption, annotate, tile, upscale

FRAME = np.arange(64 * 64 * 3, dtype=np.int64).astype(np.uint8).reshape(64, 64, 3)
AMBER = (230, 160, 40)


def captioned(**changes: object) -> np.ndarray:
    fields = {"action": "1", "reward": 1.0, "hazard": 0.0} | changes
    return annotate(FRAME, Caption(**fields))  # pyright: ignore[reportArgumentType]


def num_amber(picture: np.ndarray) -> int:
    return int((picture == AMBER).all(axis=-1).any(axis=0).sum())


def test_upscaling_repeats_every_pixel() -> None:
    small = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    assert np.array_equal(upscale(small, 2)[:, :, 0], [[1, 1, 4, 4], [1, 1, 4, 4]])


def test_the_panel_leaves_the_picture_itself_alone() -> None:
    assert np.array_equal(captioned(hazard=0.5)[: 64 * 6], upscale(FRAME, 6))


def test_the_length_of_the_bar_is_the_hazard() -> None:
    assert num_amber(captioned(hazard=0.0)) == 0
    full = num_amber(captioned(hazard=1.0))
    assert abs(num_amber(captioned(hazard=0.5)) / full - 0.5) < 0.01


def test_an_end_is_marked_on_the_picture() -> None:
    for mark in ({"banner": "END"}, {"marked": True}):
        assert not np.array_equal(captioned(**mark)[: 64 * 6], upscale(FRAME, 6))


def test_pictures_can_be_encoded_as_video() -> None:
    assert all(size % 2 == 0 for size in captioned().shape[:2])


def test_tiles_go_row_by_row_on_a_grid_that_is_about_square() -> None:
    pictures = [np.full((2, 4, 3), value, np.uint8) for value in (1, 2, 3)]
    sheet = tile(pictures)
    assert sheet.shape == (4, 8, 3)
    assert [sheet[0, 0, 0], sheet[0, 4, 0], sheet[2, 0, 0]] == [1, 2, 3]
    assert np.array_equal(tile(pictures[:1]), pictures[0])
