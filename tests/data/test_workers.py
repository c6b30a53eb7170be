"""Jobs on several processes: what is said when one of them dies."""

import pytest

from cfworld.agents.twin_job import TwinJob
from cfworld.data.workers import run_jobs
from cfworld.errors import CollectionError
from tests.data import fakes


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (
            0,
            r"a baking worker died with exit code -9 .*; the loaves are kept: light the oven again, with",
        ),
        (1, "a baking worker failed:.*\nValueError: no flour"),
    ],
)
def test_a_worker_that_dies_or_fails_is_called_what_its_job_calls_it(number, said):
    with pytest.raises(CollectionError, match=f"(?s){said}"):
        list(run_jobs(fakes.BakingJob(), iter([number]), 2, lambda _: None))


def test_a_game_that_dies_does_not_speak_of_shards():
    assert "shards" not in TwinJob.advice
    assert "out=" in TwinJob.advice
    assert TwinJob.worker == "simulating worker"
