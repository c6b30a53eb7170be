from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cfworld.data.episode import Episode
from cfworld.errors import ConfigError, DatasetError
from cfworld.tokenizer import BlockVAE, BlockVAEConfig
from cfworld.tokenizer.block_vae_files import read_block_vae, write_block_vae
from cfworld.train.banks.frame_bank import FrameBank
from cfworld.train.loop import run
from cfworld.train.loop_config import LoopConfig
from cfworld.train.tokenizer import TokenizerStage, TokenizerStageConfig
from tests.toy import toy_world
from tests.train.resuming import assert_resumes_equally


class Episodes:
    """Episodes whose frame k of episode e is filled with the value 50 * e + k."""

    def __init__(self, *ticks: int) -> None:
        self.lengths = np.array(ticks, np.int64)

    def episode(self, index: int) -> Episode:
        ticks = int(self.lengths[index])
        values = np.arange(ticks + 1, dtype=np.uint8) + np.uint8(50 * index)
        return Episode(
            frames=np.broadcast_to(values[:, None, None, None], (ticks + 1, 8, 8, 3)).copy(),
            actions=np.zeros(ticks, np.int64),
            rewards=np.zeros(ticks, np.float32),
            terminated=False,
            truncated=True,
            seed=0,
            source="toy",
            policy="none",
        )


def bank(*ticks: int) -> FrameBank:
    return FrameBank.read(Episodes(*ticks), block=4, max_gigabytes=1.0, seed=0)


def stage(changes: dict[str, Any] | None = None, **loop: Any) -> TokenizerStage:
    values: dict[str, Any] = {"steps": 3, "batch_size": 2, "warmup": 0, "save_every": 100}
    settings: dict[str, Any] = {"num_statistics_blocks": 4, "num_eval_blocks": 4}
    config = TokenizerStageConfig(loop=LoopConfig(**values | loop), **settings | (changes or {}))
    sizes = BlockVAEConfig(resolution=[8, 8], latent_channels=2, widths=[16], encoder_depths=[1], decoder_depths=[1])
    return TokenizerStage(config, sizes, bank(10, 6), bank(9))


def test_blocks_start_after_the_reset_frame_and_stay_within_their_episode() -> None:
    blocks = bank(6, 3, 4)
    values = blocks.at(np.arange(len(blocks)))[:, :, 0, 0, 0].tolist()
    first = [[0, 1, 2, 3, 4], [1, 2, 3, 4, 5], [2, 3, 4, 5, 6]]
    assert values == [*first, [100, 101, 102, 103, 104]]


def test_a_dataset_without_a_whole_block_is_refused() -> None:
    with pytest.raises(DatasetError, match="none longer"):
        bank(3, 2)


def test_a_dataset_beyond_the_memory_limit_is_used_in_part() -> None:
    with pytest.warns(UserWarning, match="2 of 4 episodes"):
        blocks = FrameBank.read(Episodes(9, 9, 9, 9), block=4, max_gigabytes=25 * 192 / 1e9, seed=0)
    assert len(blocks) == 2 * 6


def test_a_batch_is_a_pure_function_of_its_step() -> None:
    left, right = stage(), stage()
    left.batch(0)
    assert torch.equal(left.batch(5).pixels, right.batch(5).pixels)
    assert not torch.equal(left.batch(5).pixels, left.batch(6).pixels)


def test_first_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    left = stage().module.state_dict()
    torch.manual_seed(2)
    assert all(torch.equal(value, left[name]) for name, value in stage().module.state_dict().items())


def test_training_writes_a_tokenizer_with_statistics_and_a_sheet(tmp_path: Path) -> None:
    figures = run(stage(), stage().config.loop, tmp_path)
    tokenizer = read_block_vae(tmp_path / "export")
    assert not torch.equal(tokenizer.latent_std, torch.ones(2))
    frames = torch.from_numpy(bank(10, 6).at(np.arange(8))[:, 1:])
    with torch.no_grad():
        latents = tokenizer.encode(frames)
    assert 0.2 < latents.std() < 5.0
    assert {"psnr", "psnr_moving", "sharpness"} <= figures.keys()
    assert (tmp_path / "samples" / "step_00000003.png").exists()
    assert (tmp_path / "export" / "figures.json").exists()


def test_resuming_gives_the_same_tokenizer_bit_for_bit(tmp_path: Path) -> None:
    run(stage(), stage(save_every=2).config.loop, tmp_path / "whole")
    half = stage(save_every=2)
    half.batch = _dies_at(half, 2)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(KeyboardInterrupt):
        run(half, half.config.loop, tmp_path / "parts")
    run(stage(), half.config.loop, tmp_path / "parts")
    files = [tmp_path / name / "export" / "tokenizer.safetensors" for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_resuming_with_a_critic_gives_the_same_tokenizer_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfworld.train.reconstruction.adversary.BALANCE_EVERY", 2)
    adversarial = {"adversarial_weight": 1.0, "feature_weight": 1.0, "detail_share": 0.5}
    run(stage(adversarial), stage(save_every=2).config.loop, tmp_path / "whole")
    half = stage(adversarial, save_every=2)
    half.batch = _dies_at(half, 2)  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(KeyboardInterrupt):
        run(half, half.config.loop, tmp_path / "parts")
    run(stage(adversarial), half.config.loop, tmp_path / "parts")
    files = [tmp_path / name / "export" / "tokenizer.safetensors" for name in ("whole", "parts")]
    assert files[0].read_bytes() == files[1].read_bytes()


def _dies_at(victim: TokenizerStage, at: int):
    plain = victim.batch

    def batch(step: int):
        if step == at:
            raise KeyboardInterrupt
        return plain(step)

    return batch


def test_negative_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match="kl_weight"):
        TokenizerStageConfig(kl_weight=-1.0)


def test_the_adversarial_term_waits_for_its_step_and_is_not_exported(tmp_path: Path) -> None:
    adversarial = stage({"adversarial_weight": 0.5, "adversarial_start": 2})
    found = [adversarial.loss(adversarial.batch(step), torch.Generator().manual_seed(0))[1] for step in (1, 2)]
    assert ["adversarial" in metrics for metrics in found] == [False, True]
    assert not any("features" in metrics for metrics in found), "they are not asked for"
    assert all(metrics["critic"] > 0 for metrics in found)
    run(adversarial, adversarial.config.loop, tmp_path)
    assert read_block_vae(tmp_path / "export").config == adversarial.vae.config


def test_features_are_matched_only_where_they_weigh() -> None:
    plain, matched = (stage({"adversarial_weight": 0.5, "feature_weight": weight}) for weight in (0.0, 0.5))
    (loss, metrics), (more, found) = (
        made.loss(made.batch(0), torch.Generator().manual_seed(0)) for made in (plain, matched)
    )
    assert found.keys() - metrics.keys() == {"features"}
    assert found["features"] > 0
    assert more > loss
    assert plain.module.get_buffer("balances")[1] == 0, "nothing was measured for it"


def test_a_decoder_can_be_trained_on_beside_a_frozen_encoder(tmp_path: Path) -> None:
    run(stage(), stage().config.loop, tmp_path / "first")
    tuned = stage({"init_from": str(tmp_path / "first" / "export"), "freeze_encoder": True})
    run(tuned, tuned.config.loop, tmp_path / "second")
    first, second = (read_block_vae(tmp_path / name / "export") for name in ("first", "second"))
    frames = torch.from_numpy(bank(10, 6).at(np.arange(4))[:, 1:])
    with torch.no_grad():
        assert torch.equal(first.encode(frames), second.encode(frames))
        assert not torch.equal(first.last_weight, second.last_weight)


def test_a_frozen_encoders_shortcut_is_frozen_too(tmp_path: Path) -> None:
    sizes = BlockVAEConfig(
        resolution=[8, 8], latent_channels=2, widths=[16], encoder_depths=[1], decoder_depths=[1], shortcuts=True
    )
    write_block_vae(BlockVAE(sizes), tmp_path)
    config = TokenizerStageConfig(init_from=str(tmp_path), freeze_encoder=True)
    vae = TokenizerStage(config, sizes, bank(10, 6), bank(9)).vae
    learning = {name for name, parameter in vae.named_parameters() if parameter.requires_grad}
    assert learning == {name for name, _ in vae.named_parameters() if "decoder." in name}
    assert vae.training


def test_a_critics_features_need_a_critic() -> None:
    with pytest.raises(ConfigError, match="adversarial_weight"):
        stage({"feature_weight": 1.0})


def test_a_share_is_at_most_one() -> None:
    with pytest.raises(ConfigError, match="detail_share"):
        stage({"detail_share": 1.5})


def test_an_encoder_cannot_be_frozen_before_it_is_trained() -> None:
    with pytest.raises(ConfigError, match="init_from"):
        stage({"freeze_encoder": True})


def test_a_tokenizer_of_fewer_channels_is_a_beginning_that_reconstructs_as_before(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"resolution": [8, 8], "widths": [16], "encoder_depths": [1], "decoder_depths": [1]}
    old = BlockVAE(BlockVAEConfig(latent_channels=2, **settings)).eval()
    write_block_vae(old, tmp_path)
    wide = BlockVAEConfig(latent_channels=3, shortcuts=True, **settings)
    new = TokenizerStage(TokenizerStageConfig(init_from=str(tmp_path)), wide, bank(10, 6), bank(9)).vae
    frames = torch.from_numpy(bank(10, 6).at(np.arange(4))[:, 1:])
    with torch.no_grad():
        again, before = (vae.decode(vae.encode(frames)).int() for vae in (new, old))
    assert (again - before).abs().max() <= 1
    assert_resumes_equally(
        lambda: TokenizerStage(replace(stage().config, init_from=str(tmp_path)), wide, bank(10, 6), bank(9)),
        tmp_path / "runs",
        steps=3,
    )


def test_a_worlds_tokenizer_is_a_beginning_too(tmp_path: Path) -> None:
    world = toy_world()
    world.save_pretrained(tmp_path)
    sizes = world.config.tokenizer
    begun = TokenizerStage(TokenizerStageConfig(init_from=str(tmp_path)), sizes, bank(10, 6), bank(9)).vae
    expected = world.tokenizer.state_dict()
    assert all(torch.equal(value, expected[name].bfloat16().float()) for name, value in begun.state_dict().items())


def test_a_tokenizer_of_other_sizes_is_no_beginning(tmp_path: Path) -> None:
    sizes = BlockVAEConfig(resolution=[8, 8], latent_channels=3, widths=[16], encoder_depths=[1], decoder_depths=[1])
    write_block_vae(BlockVAE(sizes), tmp_path)
    with pytest.raises(ConfigError, match="Cannot widen"):
        stage({"init_from": str(tmp_path)})
