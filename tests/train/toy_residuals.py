"""What a stage shows its generator, banks as errors and takes for targets, seen from outside."""

from dataclasses import replace
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from cfworld.train.forcing.clip_losses import ClipStep
from cfworld.train.training_run import step_generator


class Pass(NamedTuple):
    """One gathered pass: copies [B, M, T, C, h, w], levels [B, M, T], velocity as the copies, dropped prompts."""

    network: nn.Module
    noisy: Tensor
    sigma: Tensor
    velocity: Tensor
    dropped: Tensor | None


def watched_loss(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, stage: Any
) -> tuple[ClipStep, list[Pass], Tensor]:
    """Compute a stage's loss; return its batch, its passes, and the residuals that it banked."""
    passes: list[Pass] = []
    banked: list[Tensor] = []
    plain = module.gathered_forward

    def forward(
        network: nn.Module,
        schedule: Any,
        context: Tensor,
        noisy: Tensor,
        sigma: Tensor,
        actions: Tensor,
        dropped: Tensor | None = None,
    ) -> Any:
        output = plain(network, schedule, context, noisy, sigma, actions, dropped)
        passes.append(Pass(network, noisy, sigma, output.velocity.detach(), dropped))
        return output

    monkeypatch.setattr(module, "gathered_forward", forward)
    monkeypatch.setattr(stage.errors, "add", lambda residuals, *_: banked.append(residuals))
    batch = stage.batch(0)
    stage.loss(batch, step_generator(0, 0))
    (residuals,) = banked
    return batch, passes, residuals


def one_step_errors(batch: ClipStep, seen: Pass) -> Tensor:
    """-sigma (v_hat - v*) of every latent that is present, by hand: v* = eps - x0, with eps read off the noisy copy."""
    clean, sigma = batch.clips.latents[:, None], seen.sigma[..., None, None, None]
    noise = (seen.noisy - (1 - sigma) * clean) / sigma
    errors = -sigma * (seen.velocity - (noise - clean))
    return errors[batch.clips.present[:, None].expand(seen.sigma.shape)]


def assert_one_step_errors(batch: ClipStep, seen: Pass, residuals: Tensor) -> None:
    """The residuals are one-step errors of a network that predicts something."""
    assert seen.velocity.abs().max() > 0.1
    torch.testing.assert_close(residuals, one_step_errors(batch, seen), atol=1e-4, rtol=1e-4)


def assert_padding_is_no_target(stage: Any) -> None:
    """Whatever stands in the padding of a stage's clips, its loss and its scalars are the same."""
    batch = stage.batch(0)
    assert not batch.clips.present.all()
    padding = ~batch.clips.present[..., None, None, None]
    strange = replace(batch, clips=replace(batch.clips, latents=batch.clips.latents + 1000 * padding))
    (loss, scalars), (other, others) = (stage.loss(one, step_generator(0, 0)) for one in (batch, strange))
    assert loss.item() == other.item()
    assert {name: value.item() for name, value in scalars.items()} == {n: value.item() for n, value in others.items()}
