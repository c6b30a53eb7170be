import numpy as np
import pytest

from cfworld.cli.scale import check_scale
from cfworld.envs.overlay import MIN_WIDTH, Caption, annotate, annotated_size, tile, tiled_size
from cfworld.errors import ConfigError

HAZARDOUS = Caption(action="1", reward=1.0, hazard=1.0, banner="END")


def test_the_least_scale_is_the_first_at_which_the_panel_has_room() -> None:
    with pytest.raises(ConfigError, match=r"got scale=1 .* 64 x 64 .* expected a scale from 2 to 253$"):
        check_scale(1, (64, 64))
    check_scale(2, (64, 64))
    annotate(np.zeros((64, 64, 3), np.uint8), HAZARDOUS, 2)
    annotate(np.zeros((2, MIN_WIDTH, 3), np.uint8), HAZARDOUS, 4)


def test_a_video_that_no_encoder_takes_is_refused() -> None:
    check_scale(6, (64, 64), 1024)
    with pytest.raises(
        ConfigError, match=r"got scale=256 .* a video of 16428 x 16384; expected a scale from 2 to 253$"
    ):
        check_scale(256, (64, 64))
    with pytest.raises(ConfigError, match=r"got scale=6 for 4096 frame\(s\) .* expected a scale from 2 to 3$"):
        check_scale(6, (64, 64), 4096)
    with pytest.raises(ConfigError, match="expected fewer frames side by side: no scale fits so many"):
        check_scale(6, (64, 64), 10**6)


def test_all_scales_are_offered_for_small_frames_too() -> None:
    check_scale(2029, (8, 8))
    with pytest.raises(ConfigError, match=r"got scale=2048 .* expected a scale from 15 to 2029$"):
        check_scale(2048, (8, 8))


def test_frames_of_odd_sizes_need_an_even_scale() -> None:
    check_scale(4, (63, 65))
    with pytest.raises(ConfigError, match=r"got scale=5 .* expected an even scale from 2 to"):
        check_scale(5, (63, 65))


def test_the_sizes_are_those_of_the_pictures() -> None:
    picture = annotate(np.zeros((32, 40, 3), np.uint8), HAZARDOUS, 3)
    assert picture.shape[:2] == annotated_size((32, 40), 3)
    for number in (1, 2, 3, 5):
        assert tile([picture] * number).shape[:2] == tiled_size(annotated_size((32, 40), 3), number)
