"""Texts whose tokens the transformer takes as they are: one for each latent, and the empty one for none."""

import pytest
import torch
from torch import Tensor

from cfworld.errors import ActionError, ConfigError
from cfworld.prompts import ActionConfig, TextConfig
from cfworld.prompts.encoded_text import EncodedTextPrompts, TextTablePrompts

TEXT = TextConfig(max_length=8, tokens=3, width=4, encoder="lengths", learned=False)


class Lengths:
    """Every component of a text's first two tokens is its length; it counts how many texts it was asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, texts: list[str]) -> Tensor:
        self.asked += len(texts)
        return torch.tensor([len(text) for text in texts]).float()[:, None, None].expand(-1, 2, 4)


def text_prompts(encoder: Lengths | None = None) -> EncodedTextPrompts:
    prompts = ActionConfig(text=TEXT).prompts(4, 4)
    assert isinstance(prompts, EncodedTextPrompts)
    prompts.use_encoder(encoder or Lengths())
    return prompts


def table_prompts() -> TextTablePrompts:
    text = TextConfig(tokens=3, width=4, learned=False)
    prompts = ActionConfig(num_actions=2, names=["go", "wait"], texts=["run", "stand"], text=text).prompts(4, 4)
    assert isinstance(prompts, TextTablePrompts)
    prompts.encode_texts(Lengths())
    return prompts


def expected(*lengths: int) -> Tensor:
    """Tokens [n, 3, 4]: two that say the length, and a zero beyond the text's end."""
    return torch.tensor(lengths).float()[:, None, None] * torch.tensor([1.0, 1.0, 0.0])[None, :, None].expand(-1, -1, 4)


def test_each_latent_has_the_tokens_of_its_text():
    prompts = text_prompts()
    actions = prompts.check(["abc", "a"], 2, 8).unflatten(1, (2, 4))
    assert torch.equal(prompts(actions), expected(3, 1)[:, None].expand(-1, 2, -1, -1))
    assert prompts.takes_text


def test_a_text_is_encoded_once():
    encoder = Lengths()
    prompts = text_prompts(encoder)
    actions = prompts.check(["abc", "abc"], 2, 4)[:, None]
    prompts(actions)
    prompts(actions)
    assert encoder.asked == 1


def test_a_latent_has_one_text_that_of_its_first_frame():
    prompts = text_prompts()
    checked = prompts.check([["abc"] * 2 + ["a"] * 6], 1, 8).unflatten(1, (2, 4))
    assert torch.equal(prompts(checked), expected(3, 1)[None])
    table = table_prompts()
    assert table.check([["go"] * 2 + ["wait"] * 6], 1, 8).tolist() == [[0] * 4 + [1] * 4]


def test_the_null_prompt_is_the_empty_text():
    dropped = torch.tensor([[True], [False]])
    prompts = text_prompts()
    tokens = prompts(prompts.check(["abc", "abc"], 2, 4)[:, None], dropped)
    assert torch.equal(tokens[:, 0], expected(0, 3))
    table = table_prompts()
    assert torch.equal(table(table.check([1, 1], 2, 4)[:, None], dropped)[:, 0], expected(0, 5))


def test_a_table_says_what_its_texts_say():
    table = table_prompts()
    assert torch.equal(table(table.check(["go", "wait"], 2, 4)[:, None])[:, 0], expected(3, 5))
    assert not table.takes_text
    with pytest.raises(ActionError, match="go"):
        table.check(["jump"], 1, 4)


def test_what_check_gives_it_takes_again():
    prompts = text_prompts()
    checked = prompts.check(["abc"], 1, 4)
    assert checked.shape == (1, 4, 8)
    assert torch.equal(prompts.check(checked, 1, 4), checked)
    assert torch.equal(prompts.check("abc", None, 4), checked)


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (["x" * 9], "a text of 9 characters"),
        ([1], r"got actions \[1\] of torch.int64; expected texts of at most 8 characters"),
        ([0.5] * 8, "of torch.float64; expected texts"),
        (["a", "b"], r"expected \(1, 8\)"),
        (["a", 1], "expected texts alone"),
        ([[-1] * 8], "stand for no characters"),
        ([[0x110000] * 8], "stand for no characters"),
    ],
)
def test_what_is_no_text_is_refused(actions: object, message: str):
    with pytest.raises(ActionError, match=message):
        text_prompts().check(actions, 1, 4)


def test_tokens_of_another_width_than_the_transformers_are_refused():
    with pytest.raises(ConfigError, match="width 4 for a transformer that takes 6"):
        ActionConfig(text=TEXT).prompts(6, 4)
    with pytest.raises(ConfigError, match="expected them to be all of the actions"):
        ActionConfig(parts={"say": ActionConfig(text=TEXT)})
    with pytest.raises(ConfigError, match="got 1 texts for num_actions=2"):
        ActionConfig(num_actions=2, texts=["run"])
