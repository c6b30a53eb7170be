import pytest
import torch
from torch import nn

from cfworld.errors import ConfigError
from cfworld.train.optim import build_optimizers, learning_rate, split_parameters


def network() -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "embed": nn.Linear(3, 4),
            "hidden": nn.Linear(4, 4),
            "conv": nn.Conv2d(4, 4, 3),
            "norm": nn.LayerNorm(4),
            "head": nn.Linear(4, 2),
        }
    )


def rate(step: int, schedule: str = "cosine") -> float:
    return learning_rate(step, steps=11, peak=1.0, warmup=2, schedule=schedule, final_ratio=0.2)


def test_the_rate_grows_linearly_and_falls_as_a_cosine() -> None:
    assert [rate(0), rate(1), rate(2)] == [0.5, 1.0, 1.0]
    assert rate(6) == pytest.approx(0.6)
    assert rate(10) == pytest.approx(0.2)
    assert rate(50) == pytest.approx(0.2)
    assert rate(9, "constant") == 1.0


def test_only_hidden_matrices_go_to_muon() -> None:
    module = network()
    matrices, decayed, plain = split_parameters(module)
    assert [id(p) for p in matrices] == [id(module.get_parameter("hidden.weight"))]
    kernels = {id(module.get_parameter(f"{name}.weight")) for name in ("embed", "conv", "head")}
    assert {id(p) for p in decayed} == kernels
    assert len(plain) == 6


def test_frozen_parameters_are_left_out() -> None:
    module = network().requires_grad_(False)
    module.get_parameter("norm.bias").requires_grad_()
    (optimizer,) = build_optimizers(module, name="adamw", lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1]
    with pytest.raises(ConfigError, match="requires_grad"):
        build_optimizers(module.requires_grad_(False), name="adamw", lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)


def test_muon_on_an_older_pytorch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon", raising=False)
    with pytest.raises(ConfigError, match=r"2\.9"):
        build_optimizers(network(), name="muon", lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
