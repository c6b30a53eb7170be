import torch
from torch import nn

from cfworld.train.ema import EMA


def scalar(value: float) -> nn.Linear:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


def test_the_decay_warms_up_to_its_final_value() -> None:
    ema = EMA(scalar(0.0), 0.9)
    assert ema.decay_at(0) == 0.1
    assert ema.decay_at(8) == 0.5
    assert ema.decay_at(1000) == 0.9


def test_the_average_follows_by_hand() -> None:
    module = scalar(0.0)
    ema = EMA(module, 0.9)
    nn.init.constant_(module.weight, 1.0)
    ema.update(module, 0)  # 0.1 * 0 + 0.9 * 1
    torch.testing.assert_close(ema.module.get_parameter("weight"), torch.tensor([[0.9]]))
    ema.update(module, 8)  # 0.5 * 0.9 + 0.5 * 1
    torch.testing.assert_close(ema.module.get_parameter("weight"), torch.tensor([[0.95]]))


def test_buffers_are_copied() -> None:
    module = nn.BatchNorm1d(2)
    ema = EMA(module, 0.9)
    module(torch.randn(4, 2))
    ema.update(module, 0)
    assert torch.equal(ema.module.get_buffer("running_mean"), module.get_buffer("running_mean"))
    assert ema.module.get_buffer("num_batches_tracked") == 1


def test_the_average_is_float32_and_not_trained() -> None:
    ema = EMA(scalar(1.0).to(torch.bfloat16), 0.5)
    weight = ema.module.get_parameter("weight")
    assert weight.dtype == torch.float32
    assert not weight.requires_grad
    assert not ema.module.training
