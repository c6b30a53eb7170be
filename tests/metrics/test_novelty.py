"""The metric of novelty: what passes, what fails, and what is done to real frames."""

from pathlib import Path

import numpy as np
import pytest

from cfworld import World
from cfworld.envs.twins import PanoramaTwin
from cfworld.errors import ConfigError
from cfworld.metrics.bootstrap import resampled_pairs
from cfworld.metrics.controls import make_control
from cfworld.metrics.corruptions import CORRUPTIONS, FIRST_STEP_ONLY
from cfworld.metrics.novelty import NoveltyConfig, Scores, judge_novelty, run_novelty, switching_actions
from cfworld.metrics.recordings import held_out
from cfworld.train.banks.latent_bank import encode_store
from cfworld.train.novelty import NoveltyFitConfig, measure_novelty
from tests.metrics.fakes import LONG
from tests.toy import toy_world


def scores(odd: float = 3.0, high: float = 0.0, rows: int = 12) -> Scores:
    """Real steps around 0, spoilt ones higher by `odd`; a share `high` of the real ones is odd too."""
    rng = np.random.default_rng(0)

    def draw(steps: int, shift: float = 0.0) -> np.ndarray:
        return rng.uniform(-0.5, 0.5, (rows, steps)) + shift

    real = draw(20)
    real[:, : round(20 * high)] += 3
    spoilt = {name: draw(1 if name in FIRST_STEP_ONLY else 20, odd) for name in CORRUPTIONS}
    return Scores(real=real, corrupted=spoilt, generated=draw(20), switching=draw(20, odd), aged={4.0: draw(20)})


def test_a_score_that_separates_passes_and_one_that_does_not_fails():
    judged = judge_novelty({"good": scores(), "blind": scores(odd=0.0), "alarmed": scores(high=0.5), "none": None})
    assert list(judged.bars["good"].values()) == [True, True]
    assert list(judged.bars["blind"].values()) == [True, False]
    assert list(judged.bars["alarmed"].values()) == [False, True]
    assert list(judged.bars["none"].values()) == [None, None]
    assert judged.figures["good"]["auroc"]["black"].mean == 1
    assert judged.figures["blind"]["auroc_mean"].mean == pytest.approx(0.5, abs=0.06)
    assert judged.figures["alarmed"]["steps"]["real"]["above_1"].mean == 0.5
    assert judged.figures["none"] is None


def test_ties_count_half():
    flat = np.zeros((3, 4))
    still = Scores(real=flat, corrupted={"grey": flat}, generated=flat, switching=flat, aged={4.0: flat})
    found = judge_novelty({"still": still}).figures["still"]["auroc"]["grey"]
    assert (found.mean, found.low, found.high) == (0.5, 0.5, 0.5)


def test_pairs_are_resampled_by_starts():
    values = np.add.outer(np.zeros(4), np.array([0.0, 0.0, 1.0, 1.0]))
    found = resampled_pairs(values)
    assert (found.mean, found.count) == (0.5, 4)
    assert found.low == 0.0
    assert found.high == 1.0


def test_frames_are_spoilt_as_they_are_called():
    frames = np.random.default_rng(0).integers(0, 255, (2, 3, 4, 16, 16, 3), np.uint8)
    made = {name: corruption(frames.copy()) for name, corruption in CORRUPTIONS.items()}
    assert all(found.shape == frames.shape and found.dtype == np.uint8 for found in made.values())
    assert all(not np.array_equal(found, frames) for found in made.values())
    inside, outside = (slice(4, 12), slice(4, 12)), (slice(0, 4), slice(None))
    assert np.array_equal(made["pasted"][0][..., *inside, :], frames[1][..., *inside, :])
    assert np.array_equal(made["pasted"][..., *outside, :], frames[..., *outside, :])
    assert np.array_equal(made["frozen"][:, 1], np.repeat(frames[:, 0, -1:], 4, axis=1))
    assert np.array_equal(made["shuffled"], frames[:, :, [2, 0, 3, 1]])
    assert np.array_equal(made["cut"][0], frames[1])
    assert np.array_equal(made["grey"][..., 0], made["grey"][..., 2])
    assert not made["black"].any()


def test_switching_actions_differ_at_every_tick():
    world = toy_world()
    actions = switching_actions(world, 2, 7)
    assert actions.tolist() == [[0, 1, 2, 0, 1, 2, 0]] * 2


class Sticky:
    """Episodes of the twin, as a dataset."""

    def __init__(self, first_seed: int) -> None:
        episodes = held_out(PanoramaTwin(max_ticks=LONG), 8, 64, 8, first_seed=first_seed, god=True)
        self.recordings = list(episodes)
        self.lengths = np.full(8, 64)

    def episode(self, index: int):
        from cfworld.data import Episode

        found = self.recordings[index]
        return Episode(
            frames=np.concatenate([found.prefix[-1:], found.frames]),
            actions=found.actions,
            rewards=found.rewards,
            terminated=False,
            truncated=True,
            seed=found.seed,
            source="panorama",
            policy="sticky",
        )


@pytest.fixture(scope="module")
def calibrated() -> World:
    world = toy_world()
    fitted, held_back = (
        encode_store(Sticky(seed), world.tokenizer, None, world.device) for seed in (2_000_000, 3_000_000)
    )
    world.novelty, _ = measure_novelty(world, fitted, held_back, NoveltyFitConfig(clips=8, clip_latents=12))
    return world


def test_a_world_that_was_calibrated_knows_what_is_real_and_an_indifferent_one_does_not(calibrated: World):
    worlds = {
        "world": calibrated,
        "control": make_control("indifferent", calibrated),
        "freeze": make_control("freeze", calibrated),
    }
    config = NoveltyConfig(seconds=2.4, starts=6, ages=[2.4, 4.8])
    judged = run_novelty(worlds, PanoramaTwin(max_ticks=LONG), config, 8, 1_000_000)
    assert set(judged.bars) == {"world", "control"}
    world, control = judged.figures["world"], judged.figures["control"]
    assert world["auroc"]["black"].low > 0.6
    assert {control["auroc"][kind].mean for kind in CORRUPTIONS} == {0.5}
    assert judged.bars["control"]["told from corrupted ones"] is False
    assert list(world["steps"])[-3:] == ["generated, 2.4 s", "generated, 4.8 s", "switching"]


def test_the_plot_is_drawn(tmp_path: Path):
    (picture,) = judge_novelty({"world": scores()}).pictures
    picture.write(tmp_path / picture.name)
    assert (tmp_path / "novelty.png").stat().st_size > 5000


@pytest.mark.parametrize("wrong", [{"seconds": 0.0}, {"starts": 1}, {"ages": []}, {"ages": [1.0]}])
def test_wrong_settings_are_refused(wrong: dict):
    with pytest.raises(ConfigError, match="at least 2 starts"):
        NoveltyConfig(**wrong)
