"""Which episode a reset begins."""

import numpy as np
import pytest

from cfworld.envs.seeding import next_episode


def refused() -> np.random.Generator:
    raise AssertionError("nobody has to draw")


@pytest.mark.parametrize("last", [None, (7, 4)])
def test_a_new_seed_names_its_first_episode(last: tuple[int, int] | None) -> None:
    assert next_episode(3, last, refused) == (3, 0)


def test_without_a_seed_the_rows_own_next_episode_follows() -> None:
    assert next_episode(None, (7, 4), refused) == (7, 5)


def test_a_row_that_never_had_a_seed_draws_one() -> None:
    seed, episode = next_episode(None, None, lambda: np.random.default_rng(5))
    assert (seed, episode) == (int(np.random.default_rng(5).integers(2**63)), 0)
