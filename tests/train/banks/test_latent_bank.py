"""Latents of a dataset: encoded once, cut into clips, honest about padding and god mode."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cfworld.data import Clip, Episode
from cfworld.errors import DatasetError
from cfworld.tokenizer import BlockVAE
from cfworld.train.banks.latent_bank import encode_store
from tests.toy import toy_config
from tests.train.toy_bank import toy_bank


class Episodes:
    """Two short random episodes: one that ended, one in god mode that was cut off."""

    lengths = np.array([10, 9])

    def episode(self, index: int) -> Episode:
        rng, ticks = np.random.default_rng(index), int(self.lengths[index])
        return Episode(
            frames=rng.integers(0, 256, (ticks + 1, 64, 64, 3), dtype=np.uint8),
            actions=rng.integers(0, 3, ticks),
            rewards=np.ones(ticks, np.float32),
            terminated=index == 0,
            truncated=index == 1,
            seed=index,
            source="toy",
            policy="none",
            options={"god": index == 1},
        )


def test_an_episode_that_ended_keeps_its_broken_last_latent_and_one_cut_off_does_not(tmp_path: Path):
    tokenizer = BlockVAE(toy_config().tokenizer)
    bank = encode_store(Episodes(), tokenizer, tmp_path / "cache.safetensors", torch.device("cpu"))
    assert bank.num_latents == [3, 2]
    assert bank.ends.sum(dim=1).tolist() == [0, 0, 1, 0, 0]
    assert bank.ends[2].tolist() == [0, 1, 0, 0]
    assert bank.valid[2].tolist() == [True, True, False, False]
    assert bank.mortal.any(dim=1).tolist() == [True, True, True, False, False]
    assert bank.mortal_episodes(1) == [0]
    again = encode_store(Episodes(), tokenizer, tmp_path / "cache.safetensors", torch.device("cpu"))
    assert torch.equal(again.latents, bank.latents)


def test_short_clips_are_padded_and_their_padding_counts_for_nothing():
    bank = toy_bank(3, 8)
    clips = bank.clips([Clip(episode=0, start=0, length=3), Clip(episode=1, start=2, length=5)], 5, torch.device("cpu"))
    assert clips.latents.shape == (2, 5, 4, 8, 8)
    assert clips.present.tolist() == [[True] * 3 + [False] * 2, [True] * 5]
    assert not clips.valid[0, 3:].any()
    assert not clips.mortal[0, 3:].any()
    assert torch.equal(clips.latents[1], bank.latents[5:10].float())
    assert torch.equal(clips.actions[0, 4], bank.actions[2])


def test_a_dataset_too_short_for_a_latent_is_refused():
    class Short(Episodes):
        lengths = np.array([2, 3])

        def episode(self, index: int) -> Episode:
            return super().episode(1)

    short = Short()
    with pytest.raises(DatasetError, match="as long as one latent"):
        encode_store(short, BlockVAE(toy_config().tokenizer), None, torch.device("cpu"))
