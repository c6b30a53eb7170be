from collections import Counter

import pytest

from cfworld.data import ClipSampler
from cfworld.errors import DatasetError

LENGTHS = [10, 3, 1, 7]
"""With clips of 4 latents: 7 starts, 1 short clip, left out at min_latents 2, 4 starts."""


def sampler(seed: int = 0) -> ClipSampler:
    return ClipSampler(LENGTHS, 4, seed, min_latents=2)


def test_a_step_has_the_same_clips_whatever_came_before():
    one = sampler()
    in_order = [one.batch(step, 5) for step in range(20)]

    assert [sampler().batch(step, 5) for step in reversed(range(20))] == in_order[::-1]


def test_an_epoch_holds_every_clip_once():
    clips = [clip for step in range(12) for clip in sampler().batch(step, 1)]

    assert Counter((clip.episode, clip.start) for clip in clips) == Counter(
        [(0, start) for start in range(7)] + [(1, 0)] + [(3, start) for start in range(4)]
    )


def test_batches_run_on_through_epochs_without_a_seam():
    one = sampler()

    assert len(one) == 12
    assert [one.batch(step, 12) for step in range(3)] == [
        [clip for part in range(4) for clip in one.batch(4 * step + part, 3)] for step in range(3)
    ]


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [sampler(0).batch(0, 12), sampler(0).batch(1, 12), sampler(1).batch(0, 12)]

    assert orders[0] != orders[1]
    assert orders[0] != orders[2]


def test_clips_lie_inside_their_episodes_and_short_episodes_are_whole():
    for clip in sampler().batch(0, 60):
        assert clip.start + clip.length <= LENGTHS[clip.episode]
        assert clip.length == min(4, LENGTHS[clip.episode])


def test_a_large_epoch_is_a_permutation_too():
    lengths = [1000, 1, 517]
    one = ClipSampler(lengths, 16, seed=3)

    assert len({(clip.episode, clip.start) for clip in one.batch(0, len(one))}) == len(one)


def test_episodes_that_are_all_too_short_are_refused():
    with pytest.raises(DatasetError, match="no episode holds 5 latents; the longest holds 3"):
        ClipSampler([3, 2], 8, 0, min_latents=5)


def test_even_clips_hold_every_latent_equally_often_and_ends_too():
    one = ClipSampler(LENGTHS, 4, 0, min_latents=2, even=True)
    clips = [clip for step in range(len(one)) for clip in one.batch(step, 1)]
    drawn = Counter((clip.episode, clip.start + offset) for clip in clips for offset in range(clip.length))

    assert drawn == Counter(
        {(e, latent): 4 for e, length in enumerate(LENGTHS) if length >= 2 for latent in range(length)}
    )


def test_starts_do_not_depend_on_how_long_clips_are_if_they_may_be_cut():
    """Episodes of 10 and 4 latents; a start is followed by 3 at least."""
    starts = {length: ClipSampler([10, 4, 2], length, seed=0, min_latents=3, shortest=3) for length in (5, 20)}
    assert [len(sampler) for sampler in starts.values()] == [10, 10]
    clips = {length: sampler.batch(0, 10) for length, sampler in starts.items()}
    assert [(c.episode, c.start) for c in clips[5]] == [(c.episode, c.start) for c in clips[20]]
    assert sorted((c.episode, c.start, c.length) for c in clips[5]) == [
        *((0, start, min(5, 10 - start)) for start in range(8)),
        (1, 0, 4),
        (1, 1, 3),
    ]
