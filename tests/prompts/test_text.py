"""Texts as prompts: encoded once, by any encoder."""

import copy
from typing import Any

import numpy as np
import pytest
import torch

from cfworld.errors import ActionError, ConfigError
from cfworld.prompts import ActionConfig, ActionPart, HashedWords, TextConfig, TextPromptConfig, TextPrompts

FRAMES = 4


class Lengths:
    """Encodes a text as the lengths of its words; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, texts: list[str]) -> Any:
        self.asked += texts
        tokens = torch.zeros(len(texts), 2, 3)
        for row, text in enumerate(texts):
            for place, word in enumerate(text.split()):
                tokens[row, place] = len(word)
        return tokens


def prompts(encoder: Any = None, tokens: int = 4, width: int = 3, name: str = "hashed_words") -> TextPrompts:
    torch.manual_seed(0)
    config = TextPromptConfig(max_length=20, tokens=tokens, width=width, dim=8, frames=FRAMES, encoder=name)
    return TextPrompts(config, encoder)


def similarity(one: str, two: str) -> float:
    a, b = HashedWords(tokens=1, width=512)([one, two])[:, 0]
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_hashed_words_are_the_same_everywhere():
    word = HashedWords(tokens=2, width=8)(["left"])
    assert word.dtype == np.float32
    assert (word[0, 0] * 8**0.5).round(4).tolist() == [0, 0, -2, 0, -6, -2, 2, -2], "the sum of eight n-grams' signs"
    assert not word[0, 1].any()


def test_words_of_one_stem_are_alike_and_others_are_not():
    assert similarity("turn", "turn") == pytest.approx(1)
    assert similarity("turn", "turning") > 0.3
    assert abs(similarity("turn", "stay")) < 0.2


def test_case_and_punctuation_do_not_matter_and_the_order_of_words_does():
    encoder = HashedWords()
    one, two, three = encoder(["Open the door!", "open the door", "door the open"])
    assert np.array_equal(one, two)
    assert not np.array_equal(one, three)
    assert np.array_equal(one[0], three[2])


def test_words_beyond_the_last_token_share_it():
    full, short = HashedWords(tokens=2)(["go up and up", "go up"])
    assert np.array_equal(full[0], short[0])
    assert full[1].any()
    assert not np.array_equal(full[1], short[1])


def test_an_empty_text_is_no_word_at_all():
    assert not HashedWords()([""]).any()


def test_a_text_is_its_encodings_padded_and_repeated_over_the_frames():
    checked = prompts(Lengths()).check("to be", None, FRAMES)
    assert checked.tolist() == [[[2.0] * 3 + [2.0] * 3 + [0.0] * 6] * FRAMES]


def test_every_frame_and_row_may_have_a_text_of_its_own():
    encoder = prompts(Lengths())
    checked = encoder.check([["a", "a", "bcd", "a"], ["ef"] * 4], 2, FRAMES)
    assert checked[..., 0].tolist() == [[1, 1, 3, 1], [2, 2, 2, 2]]
    boxed = np.array([["a", "a", "bcd", "a"], ["ef"] * 4], object)
    assert torch.equal(encoder.check(boxed, 2, FRAMES), checked)
    assert torch.equal(encoder.check(checked, 2, FRAMES), checked), "what was checked can be checked again"


def test_a_text_is_encoded_once():
    encoder = Lengths()
    text = prompts(encoder)
    copied = copy.deepcopy(text)
    for one in (text, copied):
        one.check(["a", "b", "a"], 3, FRAMES)
    text.check(["b", "c", "c"], 3, FRAMES)
    assert sorted(encoder.asked) == ["a", "b", "c"]


def test_tokens_are_projected_and_told_apart_by_their_places():
    encoder = prompts(Lengths())
    checked = encoder.check(["to be"], 1, FRAMES)
    tokens = encoder(checked)
    assert tokens.shape == (1, FRAMES * 4, 8)
    second_of_third_frame = encoder.project(torch.full((3,), 2.0)) + encoder.words[1] + encoder.positions[2]
    torch.testing.assert_close(tokens[0, 2 * 4 + 1], second_of_third_frame)


def test_one_vector_per_text_will_do():
    encoder = prompts(lambda texts: np.full((len(texts), 3), 7.0))
    assert encoder.check(["a"], 1, FRAMES)[0, 0].tolist() == [7.0] * 3 + [0.0] * 9


def test_what_was_encoded_under_inference_mode_can_be_learnt_from():
    encoder = prompts()
    with torch.inference_mode():
        encoder.check(["a word"], 1, FRAMES)
    encoder(encoder.check(["a word"], 1, FRAMES)).sum().backward()
    assert encoder.project.weight.grad is not None


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0], "got actions of shape .1,.*texts of at most 20 characters"),
        ("left", "expected \\(1,\\)"),
        (["a" * 21], "got a text of 21 characters.*at most 20"),
        ([["a", "b"]], "expected \\(1,\\)"),
        ([["a"], ["b", "c"]], "equal lengths"),
        (["a", 3], "texts alone"),
        (np.array(["a", 3], object), "texts alone"),
        (torch.full((1, 12), torch.nan), "NaN or infinite"),
    ],
)
def test_what_is_no_text_is_refused(actions: Any, message: str):
    with pytest.raises(ActionError, match=message):
        prompts().check(actions, 1, FRAMES)


@pytest.mark.parametrize("shape", [(1, 5, 3), (1, 4, 2), (2, 4, 3), (1,)])
def test_an_encoder_that_gives_something_else_is_refused(shape: tuple[int, ...]):
    with pytest.raises(ConfigError, match=r"expected finite numbers \[1, P, 3\] with P up to 4, or \[1, 3\]"):
        prompts(lambda texts: torch.zeros(shape)).check(["a"], 1, FRAMES)


@pytest.mark.parametrize("given", [None, [[1.0, 2.0, 3.0], [4.0]], "tokens"])
def test_an_encoder_that_gives_no_numbers_is_refused(given: Any):
    with pytest.raises(ConfigError, match=rf"got a {type(given).__name__} from the encoder .* numbers \[1, P, 3\]"):
        prompts(lambda texts: given).check(["a"], 1, FRAMES)


def test_a_world_of_another_encoder_asks_for_it():
    encoder = prompts(name="umt5")
    with pytest.raises(ConfigError, match="'umt5' does not ship with cfworld; give it the one"):
        encoder.check(["a"], 1, FRAMES)
    encoder.use_encoder(Lengths())
    assert encoder.check(["abc"], 1, FRAMES)[0, 0, 0] == 3


def test_an_encoder_reaches_the_texts_among_other_parts():
    text = ActionPart(text=TextConfig(max_length=9, tokens=2, width=3))
    encoder = ActionConfig(parts={"move": ActionPart(num_actions=2), "say": text}).prompts(8, FRAMES)
    encoder.use_encoder(Lengths())
    assert encoder.check({"move": 1, "say": "abcd"}, None, FRAMES)[0, 0].tolist() == [1, 4, 4, 4, 0, 0, 0]


@pytest.mark.parametrize("actions", [ActionConfig(num_actions=2), ActionConfig(parts={"a": ActionPart(multi=[2])})])
def test_an_encoder_for_a_world_without_texts_is_refused(actions: ActionConfig):
    with pytest.raises(ConfigError, match="hold none"):
        actions.prompts(8, FRAMES).use_encoder(Lengths())
