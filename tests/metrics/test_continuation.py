from pathlib import Path

import numpy as np
import pytest
import torch

from cfworld.envs.twins import PanoramaTwin
from cfworld.errors import ConfigError
from cfworld.metrics.continuation import STUDENT, ContinuationConfig, judge_continuations, run_continuation, taken_in
from cfworld.metrics.controls import make_control
from cfworld.metrics.images import blurred
from cfworld.metrics.judgement import Judgement
from cfworld.metrics.recordings import FIRST_SEED
from cfworld.metrics.rollouts import WorldLike, endless
from tests.metrics.fakes import LONG
from tests.toy import toy_world

AGES = [0.0, 10.0]


def panned(rows: int = 4) -> np.ndarray:
    """Frames [B, A, F, H, W, 3] of patterns that pan by a pixel a frame, different in every row."""
    patterns = np.random.default_rng(0).integers(0, 256, (rows, 2, 16, 16, 3)).astype(np.uint8)
    patterns[:, :, :8] //= 2  # something for the colours to differ in
    return np.stack([np.roll(patterns, shift, axis=3) for shift in range(4)], axis=2)


@pytest.fixture(scope="module")
def judged() -> Judgement:
    truth = panned()
    frozen = np.repeat(truth[:, :, :1], 4, axis=2)
    made = {"twin's own": truth, "freeze": frozen, "blur": blurred(truth), STUDENT: 255 - truth}
    context = np.array([[60.0, 30.0], [60.0, 30.0], [60.0, 10.0], [60.0, 10.0]])
    return judge_continuations(made, truth, context, AGES, faithful=20.0)


def test_the_twins_own_future_passes_every_bar(judged: Judgement):
    assert set(judged.bars["twin's own"].values()) == {True}
    found = judged.figures["continuations"]["twin's own"]
    assert [interval.mean for interval in found["distance"]] == [0, 0]
    assert [interval.mean for interval in found["psnr"]] == [60, 60]


@pytest.mark.parametrize(("control", "energy"), [("freeze", "motion"), ("blur", "sharpness")])
def test_each_control_fails_the_bar_that_it_targets(judged: Judgement, control: str, energy: str):
    assert judged.bars[control][f"{energy} as the twin's after a context of 10 s"] is False


def test_only_faithful_contexts_are_compared_with_the_twins_future(judged: Judgement):
    assert [interval.count for interval in judged.figures["continuations"]["freeze"]["psnr"]] == [4, 2]
    assert [interval.mean for interval in judged.figures["faithful_share"]] == [1, 0.5]


def test_the_student_stands_beside_and_is_not_judged(judged: Judgement, tmp_path: Path):
    assert STUDENT in judged.figures["continuations"]
    assert STUDENT not in judged.bars
    for picture in judged.pictures:
        picture.write(tmp_path / picture.name)
    assert {path.name for path in tmp_path.iterdir()} == {"continuation.png", "continuation_0.png"}


def test_taking_in_a_chunk_leaves_the_memory_that_generating_it_leaves():
    world = endless(toy_world())
    state, _ = world.initial(seeds=[1, 2])
    for step in range(8):
        actions = np.full((2, 4), step % 3)
        after, output = world.step(state, actions, decode=False)
        state = taken_in(world, state, output.latents, actions)
        for name, value in after.memory.tensors().items():
            assert torch.equal(value, getattr(state.memory, name)), name
    assert state.memory.promotions.min() > 0


def test_a_world_that_continues_itself_makes_what_it_would_have_made():
    world = endless(toy_world())
    worlds: dict[str, WorldLike] = {"world": world, "freeze": make_control("freeze", world)}
    config = ContinuationConfig(ages=[0.0, 1.6], seconds=0.8, starts=2)
    judged = run_continuation(worlds, world, PanoramaTwin(max_ticks=LONG), config, 8, FIRST_SEED)
    found = judged.figures["continuations"]
    assert set(found) == {"world", STUDENT}
    assert found["world"] == found[STUDENT]
    assert judged.figures["ages"] == pytest.approx([0.0, 1.6])


def test_worlds_of_other_tokenizers_cannot_take_anything_in():
    config = ContinuationConfig(ages=[0.0], seconds=0.4, starts=2)
    with pytest.raises(ConfigError, match="different tokenizers"):
        run_continuation({"world": toy_world()}, toy_world(seed=5), PanoramaTwin(max_ticks=LONG), config, 8, FIRST_SEED)


@pytest.mark.parametrize("settings", [{"ages": []}, {"ages": [-1.0]}, {"seconds": 0.0}, {"starts": 1}])
def test_settings_that_measure_nothing_are_refused(settings: dict):
    with pytest.raises(ConfigError, match="continuation has"):
        ContinuationConfig(**settings)
