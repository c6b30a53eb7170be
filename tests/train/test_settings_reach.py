"""Every setting of a stage reaches what it is about: with another value another thing is done."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from cfworld.diffusion import euler, heun
from cfworld.train import consistency, heads, teacher
from cfworld.train.consistency import TeacherSolver
from cfworld.train.distillation import distill
from cfworld.train.training_run import TrainingRun, step_generator
from tests.train.test_consistency import stage as init_stage
from tests.train.test_heads import stage as heads_stage
from tests.train.test_teacher import stage as teacher_stage
from tests.train.test_tokenizer_stage import stage as tokenizer_stage
from tests.train.toy_distill import local_stage
from tests.train.toy_residuals import watched_loss
from tests.train.toy_stage import ToyStage, toy_config


def calls(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str
) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """What a function of a module is called with from now on."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    plain = getattr(module, name)

    def watched(*args: Any, **options: Any) -> Any:
        seen.append((args, options))
        return plain(*args, **options)

    monkeypatch.setattr(module, name, watched)
    return seen


def loss(made: Any, step: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
    return made.loss(made.batch(step), step_generator(0, step))


@pytest.mark.parametrize(
    ("module", "make"), [(teacher, teacher_stage), (consistency, init_stage), (heads, heads_stage)]
)
def test_promotions_are_drawn_at_their_cadence_and_interval(
    module: ModuleType, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = calls(monkeypatch, module, "random_promotions")
    loss(make(promotion_cadence=3, promotion_interval=5))
    assert drawn[0][0][2:4] == (3, 5)


@pytest.mark.parametrize(("kind", "solver"), [(TeacherSolver.EULER, euler), (TeacherSolver.HEUN, heun)])
def test_the_teacher_moves_by_its_solver(kind: TeacherSolver, solver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = calls(monkeypatch, consistency, "consistency_target")
    loss(init_stage(solver=kind))
    assert asked[0][0][4] is solver


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, {"guidance": 1.0, "num_chunks": 1, "shift": 3.0}),
        ({"guidance": 4.0}, {"guidance": 4.0}),
        ({"score_shift": 5.0}, {"shift": 5.0}),
        ({"score_window": 2}, {"num_chunks": 1}),
        ({"score_window": 2, "normalise_chunks": True}, {"num_chunks": 2}),
    ],
)
def test_the_direction_is_guided_and_normalised_as_asked(
    changes: dict[str, Any], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = calls(monkeypatch, distill, "student_loss")
    loss(local_stage(min_latents=6, **changes), step=1)
    assert asked[0][1] | options == asked[0][1]


def test_heads_read_copies_at_the_samplers_own_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    made = heads_stage()
    _, (seen,), _ = watched_loss(monkeypatch, heads, made)
    levels = set(seen.sigma.unique().tolist())
    assert levels <= set(made.grid.tolist())
    assert len(levels) > 1


def test_weights_decay_at_their_rate(tmp_path: Path) -> None:
    """Of two equal steps, the one with decay leaves matrices smaller by lr x decay."""
    matrices = []
    for decay in (0.0, 0.5):
        made = ToyStage()
        before = made.module.get_parameter("0.weight").detach().clone()
        run = TrainingRun(
            made, toy_config(weight_decay=decay, warmup=0), tmp_path / str(decay), torch.device("cpu"), {}
        )
        run.resume()
        run.take_step()
        run.log.close()
        matrices.append(made.module.get_parameter("0.weight").detach())
    torch.testing.assert_close(matrices[0] - matrices[1], 0.05 * 0.5 * before)


def test_the_kl_term_has_its_weight() -> None:
    plain, heavy = (loss(tokenizer_stage({"kl_weight": weight})) for weight in (0.0, 2.0))
    assert plain[1]["kl"] == heavy[1]["kl"] > 0
    assert (heavy[0] - plain[0]).item() == pytest.approx(2 * plain[1]["kl"].item(), rel=1e-4)


def test_latents_are_decoded_under_noise_of_its_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    jitter = []
    for strength in (0.0, 0.1, 0.2):
        made = tokenizer_stage({"latent_noise": strength})
        seen = calls(monkeypatch, made.vae, "forward")  # pyright: ignore[reportArgumentType]
        loss(made)
        jitter.append(seen[0][0][2])
    assert jitter[0].abs().max() == 0
    torch.testing.assert_close(jitter[2], 2 * jitter[1])
    assert jitter[1].abs().max() > 0
