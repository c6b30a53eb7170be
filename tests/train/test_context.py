"""Stage 2: horizons follow the curriculum, rollouts go on from step to step, and runs resume bit for bit."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cfworld import World
from cfworld.train.context import ContextStageConfig
from cfworld.train.distillation.curriculum import CurriculumConfig
from cfworld.train.distillation.distill import rollout_metrics
from cfworld.train.distillation.rollouts import OngoingRollouts, looped_actions
from cfworld.train.loop import run
from cfworld.train.training_run import step_generator
from tests.train.resuming import assert_resumes_equally
from tests.train.toy_distill import context_stage, toy_loop


def judged(made, step: int):
    return made.source.judged(made.batch(step), 1, step_generator(0, step), grad=False)


def test_fresh_rollouts_are_judged_at_the_end_of_a_horizon_that_grows():
    """The toy curriculum draws 1 to 2 chunks at first, and 1 to 4 from step 4 on; the target follows them."""
    made = context_stage(ongoing=False)
    for step, longest in ((0, 2), (8, 4)):
        horizons = set()
        for seed in range(24):
            batch = made.batch(step)
            found = made.source.judged(batch, 0, step_generator(seed, step), grad=False)
            horizons.add(int(found.rollout.step[0]) - 1)
            if len(horizons) == longest:
                break
        assert horizons == set(range(1, longest + 1))


def test_ongoing_rollouts_go_on_by_a_target_a_step_and_begin_anew_after_their_horizon():
    made = context_stage(loop=toy_loop(batch_size=3))
    assert isinstance(made.source, OngoingRollouts)
    ages, horizons = [], []
    for step in range(14):
        rollout = judged(made, step).rollout
        ages.append(rollout.step.clone())
        horizons.append(made.source.horizon.clone())
    for before, after, horizon in zip(ages, ages[1:], horizons, strict=False):
        went_on, anew = after == before + 1, after == 1
        assert (torch.where(before > horizon, anew, went_on)).all()
    assert max(age.max() for age in ages) == 5, "a horizon of four chunks, and the target after it"
    for before, horizon, later in zip(ages, horizons, horizons[1:], strict=False):
        assert torch.equal(later[before <= horizon], horizon[before <= horizon]), "a row keeps its own"
    for horizon in horizons[8:]:
        assert 1 <= horizon.min() <= horizon.max() <= 4


def test_targets_of_two_chunks_go_on_up_to_the_horizon_too():
    made = context_stage(curriculum=CurriculumConfig(shortest=4, first=4, last=4), score_window=2)
    assert [judged(made, step).rollout.step.tolist() for step in range(4)] == [[2, 2], [4, 4], [6, 6], [2, 2]]


def test_what_ongoing_rollouts_remember_was_denoised_to_the_end():
    """The exit pass changes what is judged, not how the rollout goes on."""
    early, late = context_stage(), context_stage()
    for step in range(3):
        batch, draw = early.batch(step), step_generator(0, step)
        left = early.source.judged(batch, 0, draw, grad=False)
        right = late.source.judged(batch, 1, step_generator(0, step), grad=False)
        assert not torch.allclose(left.target.latents, right.target.latents)
        assert torch.equal(left.rollout.student.keys, right.rollout.student.keys)


def test_what_fresh_rollouts_remember_of_a_target_is_what_left_at_the_exit():
    made = context_stage(ongoing=False)
    for exit_step in (0, 1):
        found = made.source.judged(made.batch(0), exit_step, step_generator(0, 0), grad=False)
        memory = found.rollout.student
        assert torch.equal(memory.latents[torch.arange(2), memory.newest], found.target.latents[:, 0])


def test_a_row_begins_with_its_own_clip_and_its_targets_follow_the_actions_of_that():
    """The other row's beginnings change nothing in it; after the clip's end its actions come again."""
    made, own, begun = context_stage(), {}, ([], [])
    for step in range(9):
        batch = made.batch(step)
        found = made.source.judged(batch, 1, step_generator(0, step), grad=False)
        for row, age in enumerate((found.rollout.step - 1).tolist()):
            if not age:
                own[row] = batch.clips
                begun[row].append(step)
            clips, now = own[row], made.prefix + age
            actions = looped_actions(clips.actions, clips.present, made.prefix, now + 1)
            assert torch.equal(found.target.actions[row, 0], actions[row, now])
            assert torch.equal(found.rollout.student.latents[row, 0], clips.latents[row, 0]), "the sink"
    assert begun[0] != begun[1], "they began anew at steps of their own"


def test_a_resumed_run_has_bit_identical_losses(tmp_path: Path):
    assert_resumes_equally(context_stage, tmp_path, steps=4)


def test_what_is_logged_says_how_the_memory_fares():
    made = context_stage(curriculum=CurriculumConfig(shortest=9, first=9, last=9))
    for step in range(8):
        _, metrics = made.loss(made.batch(step), step_generator(0, step))
    assert {"critic", "direction", "score_gap", "exit_step", "horizon"} <= set(metrics)
    assert isinstance(made.source, OngoingRollouts)
    assert made.source.rollout is not None
    memory = made.source.rollout.student
    assert metrics["promotion_rate"] == 1, "the toy memory promotes at every check"
    ages = (memory.count[:, None] - memory.source)[:, 1:3][memory.valid[:, 1:3]]
    assert metrics["slow_age"] == ages.float().mean()


def test_the_rate_of_promotions_counts_neither_first_checks_nor_rows_without_checks():
    """First checks are forced. Of the others, the second row has 1 of 3 promoted and the third 1 of 1."""
    made = context_stage(loop=toy_loop(batch_size=4))
    rollout = judged(made, 0).rollout
    counts = {"checks": [0, 4, 2, 1], "promotions": [0, 2, 2, 1]}
    memory = replace(
        rollout.student,
        **{name: torch.tensor(values) for name, values in counts.items()},
        similarity=torch.tensor([1.0, 0.75, 0.25, -1.0]),
    )
    horizons = torch.tensor([1, 2, 3, 6])
    metrics = rollout_metrics(replace(rollout, student=memory, step=horizons), made.machine)
    assert metrics["horizon"] == 3
    assert metrics["promotion_rate"] == 0.5
    assert metrics["similarity"] == 0.5
    memory = replace(memory, checks=torch.ones_like(memory.checks), promotions=torch.ones_like(memory.promotions))
    metrics = rollout_metrics(replace(rollout, student=memory), made.machine)
    assert (metrics["promotion_rate"], metrics["similarity"]) == (0, 0), "nothing was compared yet"


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_stage_2_trains_in_bf16_with_windows_guidance_and_checkpointing(tmp_path: Path):
    made = context_stage(
        steps=2, loop=toy_loop(2, precision="bf16"), score_window=2, guidance=2.0, checkpointed=True,
        normalise_chunks=True,
    )  # fmt: skip
    before = made.student.transformer.head.head.weight.clone()
    figures = run(made, made.config.loop, tmp_path)
    assert figures["last"]["direction"] > 0
    after = made.student.transformer.head.head.weight
    assert after.dtype == torch.float32, "master weights stay wide"
    assert not torch.equal(after, before)
    world = World.from_pretrained(tmp_path / "export", variant="student")
    state, _ = world.initial(seeds=[0, 1])
    assert torch.isfinite(world.step(state, [0, 1])[1].latents).all()


def test_the_default_curriculum_spans_what_it_says():
    config = ContextStageConfig()
    assert config.ongoing
    assert (config.curriculum.shortest, config.curriculum.last) == (4, 96)


def test_where_rollouts_begin_does_not_depend_on_how_long_they_become():
    """Episodes of 14, 7 and 12 latents, of which at least `min_latents` follow a start."""
    stages = [
        context_stage(curriculum=CurriculumConfig(shortest=1, first=2, last=last, ramp_steps=4)) for last in (4, 40)
    ]
    drawn = [{(clip.episode, clip.start) for clip in made.sampler.batch(0, len(made.sampler))} for made in stages]
    least = stages[0].config.min_latents
    starts = {(episode, start) for episode, length in enumerate((14, 7, 12)) for start in range(length - least + 1)}
    assert drawn == [starts, starts]
