import numpy as np

from cfworld.data.panorama import Panorama
from cfworld.metrics.heading import COMPASSES, add_headings
from cfworld.metrics.judgement import Judgement
from tests.metrics.fakes import PANORAMA

COMPASS = COMPASSES[PANORAMA]
RIGHT = 2


def pan(episode: Panorama, ticks: int) -> np.ndarray:
    """The view after each tick of panning to the right by two pixels."""
    frames = []
    for _ in range(ticks):
        episode.tick(RIGHT)
        frames.append(episode.frame())
    return np.stack(frames)


def test_the_error_is_signed_and_takes_the_shorter_way_around():
    headings = COMPASS.read(pan(Panorama(0), 128))
    errors = COMPASS.beside(headings[[3, 0, 127]], headings[[0, 3, 0]])
    assert errors.tolist() == [6, -6, -2]


def test_a_world_that_turns_too_fast_is_told_by_its_heading_alone():
    truth = pan(Panorama(0), 16)[None]
    fast = truth.copy()
    fast[0, :, :8] = pan(Panorama(0), 32)[1::2, :8]  # the compass turns at double speed, the wall as it should
    shown = {"twin": truth, "exact": truth, "fast": fast}
    nothing = Judgement(metric="recall", figures={"routes": {}}, bars={}, tables=[])

    judged = add_headings(nothing, COMPASS, {"away": shown}, step_seconds=0.4)

    found = judged.figures["headings"]["away"]
    assert (found["exact"]["error"].mean, found["exact"]["within"].mean) == (0, 1)
    assert (found["fast"]["error"].mean, found["fast"]["within"].mean) == (32, 0)
    assert judged.figures["routes"] == {}


def test_the_picture_is_written(tmp_path):
    truth = pan(Panorama(0), 4)[None]
    judged = add_headings(
        Judgement(metric="recall", figures={}, bars={}, tables=[]),
        COMPASS,
        {"short": {"twin": truth[:, :2], "world": truth[:, :2]}, "long": {"twin": truth, "world": truth}},
        step_seconds=0.4,
    )
    (picture,) = judged.pictures
    picture.write(tmp_path / picture.name)
    assert (tmp_path / "heading.png").stat().st_size > 0
    assert "long" in picture.caption
