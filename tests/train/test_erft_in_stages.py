"""Error recycling in every stage that has it: the context that is read carries the errors, and nothing else does."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfworld.train.erft import ErftConfig
from cfworld.train.gathered import gathered_forward
from cfworld.train.loop import step_generator
from tests.train.test_consistency import stage as init_stage
from tests.train.test_heads import stage as heads_stage
from tests.train.test_teacher import stage as teacher_stage

SIZE = 100.0
"""Of the errors in the bank: whatever they reach is far off."""
ALWAYS = ErftConfig(start_step=3, per_step=16, max_sigma=1.0, probability=1.0, clean_share=0.0, noise=0.0)

STAGES = pytest.mark.parametrize("make", [teacher_stage, init_stage, heads_stage], ids=["teacher", "init", "heads"])


def watched(
    stage: Any, step: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[Tensor, list[tuple[nn.Module, Tensor, Tensor]]]:
    """A step's clips, and of every pass of its loss the network, the context and the noisy copies."""
    residuals = torch.full((16, *stage.errors.latent_shape), SIZE)
    stage.errors.add(residuals, torch.full((16,), 0.5), torch.Generator().manual_seed(0))
    passes: list[Any] = []

    def watched_pass(network: nn.Module, schedule: Any, clean: Tensor, noisy: Tensor, *rest: Any) -> Any:
        passes.append((network, clean, noisy))
        return gathered_forward(network, schedule, clean, noisy, *rest)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(sys.modules[type(stage).__module__], "gathered_forward", watched_pass)
    batch = stage.batch(step)
    stage.loss(batch, step_generator(0, step))
    return batch.clips.latents, passes


@STAGES
def test_every_pass_reads_a_context_with_errors_and_no_target_has_any(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    stage = make(erft=ALWAYS)
    clean, passes = watched(stage, ALWAYS.start_step, monkeypatch)
    for _, context, noisy in passes:
        torch.testing.assert_close(context, clean + SIZE)
        assert noisy.abs().max() < SIZE / 2
    readers = {id(network) for network, *_ in passes}
    if make is init_stage:
        assert readers == {id(stage.teacher.generator), id(stage.target.module), id(stage.module)}
    else:
        assert readers == {id(stage.module)}


@STAGES
def test_no_pass_reads_errors_before_their_first_step(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    clean, passes = watched(make(erft=ALWAYS), ALWAYS.start_step - 1, monkeypatch)
    for _, context, _ in passes:
        assert torch.equal(context, clean)


@STAGES
def test_residuals_are_those_of_the_clean_truth(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    """What is banked is the distance of a prediction from the recording, without what was put into its context."""
    stage, banked = make(erft=ALWAYS), []
    plain = stage.errors.add
    monkeypatch.setattr(
        stage.errors, "add", lambda residuals, *rest: banked.append(residuals) or plain(residuals, *rest)
    )
    watched(stage, ALWAYS.start_step, monkeypatch)
    assert banked[0].mean() == SIZE
    assert banked[-1].abs().max() < SIZE / 2
