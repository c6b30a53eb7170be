import pytest
import torch
from torch import nn

from cfworld.errors import ConfigError
from cfworld.train.optim import build_optimizers, clip_gradients, learning_rate, split_parameters


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


@pytest.mark.parametrize("with_gradient", [True, False])
def test_the_norm_lies_where_it_is_wanted_even_without_a_gradient(with_gradient: bool) -> None:
    """The norms of a run's roles are stacked, and only some of them move at a step."""
    parameter = nn.Parameter(torch.zeros(3, device="meta"))
    parameter.grad = torch.zeros(3, device="meta") if with_gradient else None
    norm = clip_gradients([parameter], 1.0, torch.device("meta"))
    assert (norm.device.type, norm.shape) == ("meta", ())


def test_gradients_are_scaled_to_the_limit_or_left_alone() -> None:
    parameters = [nn.Parameter(torch.zeros(1)) for _ in range(3)]
    for limit, expected in ((0.0, 4.0), (1.0, 0.8)):
        parameters[0].grad, parameters[1].grad = torch.tensor([3.0]), torch.tensor([4.0])
        assert clip_gradients(parameters, limit, torch.device("cpu")).item() == pytest.approx(5.0)
        assert parameters[1].grad.item() == pytest.approx(expected)
    assert clip_gradients(parameters[2:], 1.0, torch.device("cpu")).item() == 0
