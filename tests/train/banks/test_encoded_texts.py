"""Texts are encoded once: a later run reads what the first one encoded, and needs no encoder."""

from pathlib import Path

import pytest
import torch

from cfworld.errors import ConfigError
from cfworld.prompts import ActionConfig, TextConfig
from cfworld.train.banks.encoded_texts import read_texts
from tests.toy import TEXT

ACTIONS = ActionConfig(text=TextConfig(max_length=40, tokens=1, width=2, encoder="lengths"))


def lengths(texts: list[str]) -> list[list[int]]:
    return [[len(text), 1] for text in texts]


def test_a_later_run_reads_what_the_first_one_encoded(tmp_path: Path) -> None:
    first = read_texts(ACTIONS, ["a", "bcd"], lengths, tmp_path)
    again = read_texts(ACTIONS, ["a", "bcd"], None, tmp_path)
    assert first is not None
    assert again is not None
    assert torch.equal(first.tables[-1], torch.tensor([[1.0, 1.0], [3.0, 1.0]]))
    assert torch.equal(again.tables[-1], first.tables[-1])


def test_other_texts_have_to_be_encoded(tmp_path: Path) -> None:
    read_texts(ACTIONS, ["a", "bcd"], lengths, tmp_path)
    with pytest.raises(ConfigError, match="'lengths' does not ship with cfworld"):
        read_texts(ACTIONS, ["a", "bc"], None, tmp_path)


def test_what_ships_with_cfworld_leaves_no_file(tmp_path: Path) -> None:
    assert read_texts(TEXT, ["left"], None, tmp_path) is not None
    assert not list(tmp_path.iterdir())
