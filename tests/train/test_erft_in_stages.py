"""Error recycling in every stage that has it: the context that is read carries the errors, and nothing else does."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfworld.train.erft import ErftConfig
from cfworld.train.forcing.gathered import gathered_forward, gathered_keys, gathered_velocity
from cfworld.train.training_run import step_generator
from tests.train.test_consistency import stage as init_stage
from tests.train.test_heads import stage as heads_stage
from tests.train.test_teacher import stage as teacher_stage

SIZE = 100.0
"""Of the errors in the bank: whatever they reach is far off."""
ALWAYS = ErftConfig(start_step=3, per_step=16, max_sigma=1.0, probability=1.0, clean_share=0.0, noise=0.0)

STAGES = pytest.mark.parametrize("make", [teacher_stage, init_stage, heads_stage], ids=["teacher", "init", "heads"])


class Watched:
    """A step's clips, the contexts that its loss reads, by network, and the noisy copies that it shows."""

    def __init__(self, stage: Any, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
        residuals = torch.full((16, *stage.errors.latent_shape), SIZE)
        stage.errors.add(residuals, torch.full((16,), 0.5), torch.Generator().manual_seed(0))
        self.contexts: dict[nn.Module, Tensor] = {}
        self.noisy: list[Tensor] = []

        def whole(network: nn.Module, schedule: Any, clean: Tensor, noisy: Tensor, *rest: Any) -> Any:
            self.contexts[network] = clean
            self.noisy.append(noisy)
            return gathered_forward(network, schedule, clean, noisy, *rest)  # pyright: ignore[reportArgumentType]

        def context(network: nn.Module, schedule: Any, clean: Tensor, *rest: Any) -> Any:
            self.contexts[network] = clean
            return gathered_keys(network, schedule, clean, *rest)  # pyright: ignore[reportArgumentType]

        def targets(network: Any, schedule: Any, known: Any, noisy: Tensor, *rest: Any) -> Any:
            self.noisy.append(noisy)
            return gathered_velocity(network, schedule, known, noisy, *rest)

        module = sys.modules[type(stage).__module__]
        for name, watcher in (("gathered_forward", whole), ("gathered_keys", context), ("gathered_velocity", targets)):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, watcher)
        batch = stage.batch(step)
        stage.loss(batch, step_generator(0, step))
        self.clean: Tensor = batch.clips.latents


@STAGES
def test_every_pass_reads_a_context_with_errors_and_no_target_has_any(
    make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    stage = make(erft=ALWAYS)
    seen = Watched(stage, ALWAYS.start_step, monkeypatch)
    for context in seen.contexts.values():
        torch.testing.assert_close(context, seen.clean + SIZE)
    assert max(noisy.abs().max() for noisy in seen.noisy) < SIZE / 2
    others = {stage.teacher.generator, stage.average} if make is init_stage else set()
    assert seen.contexts.keys() == {stage.module, *others}


@STAGES
def test_no_pass_reads_errors_before_their_first_step(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    seen = Watched(make(erft=ALWAYS), ALWAYS.start_step - 1, monkeypatch)
    for context in seen.contexts.values():
        assert torch.equal(context, seen.clean)


@STAGES
def test_residuals_are_those_of_the_clean_truth(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    """What is banked is the distance of a prediction from the recording, without what was put into its context."""
    stage, banked = make(erft=ALWAYS), []
    plain = stage.errors.add
    monkeypatch.setattr(
        stage.errors, "add", lambda residuals, *rest: banked.append(residuals) or plain(residuals, *rest)
    )
    Watched(stage, ALWAYS.start_step, monkeypatch)
    assert banked[0].mean() == SIZE
    assert banked[-1].abs().max() < SIZE / 2
