"""Rows: what becomes of one does not depend on how many there are."""

import pytest
import torch
from torch import nn

from cfworld.rows import Linear, by_full_rows, sigmoid_of_rows
from tests.toy import BOX, DICT, DISCRETE, MULTI, TEXT, toy_config, toy_generator

NUMBERS = (1, 2, 3, 4, 5, 7, 8, 12, 15, 16, 17, 24, 40)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("sizes", [(128, 192), (192, 768), (5, 3)], ids=str)
@torch.no_grad()
def test_a_token_comes_out_the_same_among_any_number(dtype: torch.dtype, sizes: tuple[int, int]):
    layer = Linear(*sizes).to(dtype)
    tokens = torch.randn(max(NUMBERS), sizes[0], dtype=dtype)
    whole = layer(tokens)
    for number in NUMBERS:
        assert torch.equal(layer(tokens[:number]), whole[:number]), f"{number} tokens"


@pytest.mark.parametrize("shape", [(2, 3, 5), (3,), (), (0,), (2, 0)], ids=str)
@torch.no_grad()
def test_leading_axes_stay(shape: tuple[int, ...]):
    layer = Linear(4, 6)
    x = torch.randn(*shape, 4)
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("recorded", [False, True])
def test_few_tokens_are_filled_up_to_sixteen_unless_gradients_are_recorded(
    recorded: bool, monkeypatch: pytest.MonkeyPatch
):
    multiplied: list[int] = []
    plain = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: multiplied.append(x[..., 0].numel()) or plain(self, x))
    layer = Linear(4, 6)
    with torch.set_grad_enabled(recorded):
        for number in (3, 16, 17):
            layer(torch.randn(1, number, 4))
    assert multiplied == ([3, 16, 17] if recorded else [16, 16, 17])


@pytest.mark.parametrize("actions", [DISCRETE, MULTI, BOX, TEXT, DICT], ids=lambda actions: actions.kind)
def test_every_linear_layer_of_a_generator_is_one(actions):
    generator = toy_generator(toy_config(actions=actions))
    found = {type(module) for module in generator.modules() if isinstance(module, nn.Linear)}
    assert found == {Linear}


def test_gradients_are_those_of_a_plain_layer():
    layer, plain = Linear(4, 6), nn.Linear(4, 6)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(3, 4)
    found, expected = (torch.autograd.grad(module(x).square().sum(), module.weight) for module in (layer, plain))
    assert torch.equal(*found, *expected)


@pytest.mark.parametrize("number", NUMBERS)
def test_rows_that_are_added_are_taken_away_again(number: int):
    asked = []
    rows = torch.randn(number, 3)
    assert torch.equal(by_full_rows(lambda x: asked.append(len(x)) or 2 * x, rows), 2 * rows)
    assert asked[0] % 16 == 0


@pytest.mark.parametrize("width", [1, 4, 33])
def test_a_sigmoid_is_the_same_among_any_number_of_rows(width: int):
    logits = torch.randn(9, width)
    whole = sigmoid_of_rows(logits)
    assert all(torch.equal(sigmoid_of_rows(logits[i : i + 1]), whole[i : i + 1]) for i in range(9))
