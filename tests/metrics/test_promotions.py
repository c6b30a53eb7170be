from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cfworld.envs.twins import PanoramaTwin
from cfworld.errors import ConfigError
from cfworld.memory import MemoryConfig, PromotionRule
from cfworld.metrics.controls import make_control
from cfworld.metrics.judgement import Judgement
from cfworld.metrics.promotions import Kept, PromotionsConfig, judge_kept, run_promotions
from cfworld.metrics.recordings import FIRST_SEED
from tests.metrics.fakes import LONG
from tests.toy import toy_world

SMALL: dict[str, Any] = {"num_sink": 1, "num_slow": 2, "num_fast": 4, "consolidate_every": 2}
SECONDS_PER_LATENT = 0.4


def watched(seconds: float = 8.0, **memory: Any) -> Judgement:
    world = toy_world(memory=MemoryConfig(**(SMALL | memory)))
    worlds = {"world": world, "freeze": make_control("freeze", world)}
    config = PromotionsConfig(seconds=seconds, starts=2)
    return run_promotions(worlds, PanoramaTwin(max_ticks=LONG), config, 8, FIRST_SEED)


def test_a_memory_that_always_promotes_spans_its_slots_times_the_interval():
    judged = watched(rule=PromotionRule.UNIFORM)
    figures = judged.figures["world"]
    assert figures["promotion_rate"].mean == 1
    assert figures["nominal_span_latents"] == 1 + 4 + 2 * 2
    assert figures["nominal_span_seconds"] == pytest.approx(9 * SECONDS_PER_LATENT)
    assert judged.bars["world"] == {"promotes": True, "nominal span of more than 20 s": False}


def test_ages_are_those_of_the_latents_in_slow_memory():
    judged = watched(rule=PromotionRule.UNIFORM)
    # Every second latent is promoted three steps after it was made, so that before the next one arrives slow memory
    # holds latents that were made 4 or 5, and 6 or 7 steps ago.
    ages = judged.figures["world"]["slow_ages_seconds"]
    oldest = judged.figures["world"]["oldest_at_the_end_seconds"]
    assert 4 * SECONDS_PER_LATENT <= ages["5%"] <= ages["95%"] <= 7 * SECONDS_PER_LATENT + 1e-9
    assert oldest["count"] == 2
    assert oldest["mean"] in (pytest.approx(6 * SECONDS_PER_LATENT), pytest.approx(7 * SECONDS_PER_LATENT))


def test_a_memory_that_never_promotes_has_no_span_and_fails():
    judged = watched(threshold=-1.1)
    figures = judged.figures["world"]
    assert figures["promotion_rate"].mean == 0  # the very first check, which always promotes, is not counted
    assert figures["nominal_span_seconds"] is None
    assert judged.bars["world"] == {"promotes": False, "nominal span of more than 20 s": False}


def test_similarities_are_cosines_of_every_layer():
    figures = watched(threshold=2.0).figures["world"]
    assert len(figures["similarity_plain"]) == len(figures["similarity_centred"]) == 2
    for layer in figures["similarity_plain"]:
        assert layer["count"] == 2 * 10  # two rows, a check every second step, the prefix made the first one
        assert -1 <= layer["5%"] <= layer["95%"] <= 1


def test_a_memory_without_slow_slots_has_no_bars_and_spans_what_it_holds():
    judged = watched(num_slow=0)
    assert judged.bars["world"] == {}
    assert judged.figures["world"]["nominal_span_latents"] == 5


def test_controls_have_no_memory_to_watch():
    assert list(watched(seconds=0.8).bars) == ["world"]


def test_equal_chunks_are_fully_similar_and_the_plot_is_drawn(tmp_path: Path):
    ones = np.ones((2, 6))
    kept = Kept(
        checks=np.full(2, 3.0),
        promotions=np.array([1.0, 2.0]),
        ages=np.array([1.0, 30.0]),
        oldest=np.array([30.0, np.nan]),
        plain=ones,
        centred=ones,
    )
    judged = judge_kept({"world": kept}, {"world": toy_world()})
    assert judged.figures["world"]["promotion_rate"].mean == 0.5
    assert judged.figures["world"]["similarity_plain"][1]["5%"] == 1
    judged.pictures[0].write(tmp_path / "promotions.png")
    assert (tmp_path / "promotions.png").stat().st_size > 1000


@pytest.mark.parametrize("settings", [{"seconds": 0.0}, {"starts": 0}])
def test_settings_that_measure_nothing_are_refused(settings: dict):
    with pytest.raises(ConfigError, match="promotions has"):
        PromotionsConfig(**settings)
