"""The teacher's stage: learns, resumes to the same losses, ships a world that runs."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from cfworld import World
from cfworld.diffusion import expand_sigma
from cfworld.errors import ConfigError, DatasetError
from cfworld.model import ActionConfig, Transformer
from cfworld.tokenizer import BlockVAE
from cfworld.train import teacher
from cfworld.train.banks.latent_bank import LatentBank
from cfworld.train.erft import ErftConfig
from cfworld.train.loop import run
from cfworld.train.loop_config import LoopConfig
from cfworld.train.teacher import TeacherStage, TeacherStageConfig, teacher_weights
from cfworld.train.training_run import step_generator
from tests.toy import toy_config, toy_world
from tests.train.resuming import assert_resumes_equally, trained
from tests.train.toy_bank import toy_bank
from tests.train.toy_residuals import assert_one_step_errors, assert_padding_is_no_target, watched_loss


def stage(steps: int = 6, god: tuple[int, ...] = (1,), train: LatentBank | None = None, **changes) -> TeacherStage:
    config = toy_config()
    settings = {
        "loop": LoopConfig(steps=steps, batch_size=2, warmup=0, save_every=3, sample_every=0, lr=3e-3, log_every=1),
        "clip_latents": 10,
        "min_latents": 4,
        "erft": ErftConfig(start_step=2, per_step=4),
        "sheet_rows": 2,
        "sheet_latents": 8,
    }
    bank = toy_bank(14, 7, 12, god=god) if train is None else train
    return TeacherStage(
        TeacherStageConfig(**(settings | changes)), config, BlockVAE(config.tokenizer), bank, toy_bank(20, 16, seed=1)
    )


def losses(made: TeacherStage, steps: int) -> list[dict[str, float]]:
    out = []
    for step in range(steps):
        loss, metrics = made.loss(made.batch(step), step_generator(0, step))
        out.append({"loss": loss.item(), **{name: value.item() for name, value in metrics.items()}})
    return out


def test_an_untrained_teacher_has_the_loss_of_predicting_nothing():
    """Its velocity is zero, so flow matching costs E |eps - x0|^2 = 2, and an end costs softplus(5)."""
    first = losses(stage(), 1)[0]
    assert first["flow"] == pytest.approx(2.0, abs=0.1)
    assert first["hazard"] < 0.5


def test_a_teacher_that_predicts_noise_less_data_has_no_loss(monkeypatch: pytest.MonkeyPatch):
    """v = eps - x0 = (x_sigma - x0) / sigma."""
    plain = teacher.gathered_forward

    def knowing(network, schedule, context, noisy, sigma, *rest):
        made = plain(network, schedule, context, noisy, sigma, *rest)
        clean = batch.clips.latents[:, None]
        return replace(made, velocity=(noisy - clean) / expand_sigma(sigma, noisy))

    made = stage()
    batch = made.batch(0)
    monkeypatch.setattr(teacher, "gathered_forward", knowing)
    assert made.loss(batch, step_generator(0, 0))[1]["flow"] < 1e-8


def test_god_episodes_say_nothing_about_ends():
    made = {god: stage(clip_latents=14) for god in ((0, 1, 2), ())}
    for god, one in made.items():
        one.train = toy_bank(14, 7, 12, god=god)
    everyone, nobody = (losses(one, 1)[0]["hazard"] for one in made.values())
    assert everyone == 0
    assert nobody > 0


def test_the_bank_gets_the_teachers_one_step_errors(monkeypatch: pytest.MonkeyPatch):
    made = stage(num_copies=2)
    torch.nn.init.normal_(made.module.get_parameter("transformer.head.head.weight"), std=0.2)
    batch, passes, residuals = watched_loss(monkeypatch, teacher, made)
    assert_one_step_errors(batch, passes[0], residuals)


def test_prompts_are_dropped_by_whole_chunks(monkeypatch: pytest.MonkeyPatch):
    made = stage(prompt_dropout=0.5)
    made.world = replace(made.world, memory=replace(made.world.memory, latents_per_chunk=2))
    _, ((*_, dropped),), _ = watched_loss(monkeypatch, teacher, made)
    assert dropped is not None
    assert 0 < dropped.float().mean() < 1
    assert torch.equal(dropped[..., ::2], dropped[..., 1::2])


def test_training_lowers_the_loss_on_one_clip_with_one_noise():
    made = stage()
    batch = made.batch(0)
    optimizer = torch.optim.Adam(made.module.parameters(), lr=1e-2)
    flow = []
    for _ in range(40):
        loss, metrics = made.loss(batch, step_generator(5, 0))
        flow.append(metrics["flow"].item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert flow[-1] < 0.85 * flow[0]


def test_a_resumed_run_has_bit_identical_losses(tmp_path: Path):
    assert_resumes_equally(stage, tmp_path, steps=4)


def test_gradient_checkpointing_changes_no_loss(tmp_path: Path):
    found = []
    for checkpointed in (False, True):
        made = stage(steps=2)
        made.config.loop.gradient_checkpointing = checkpointed
        found.append(trained(made, tmp_path / str(checkpointed), steps=2))
    assert found[0] == found[1]


def test_gradient_checkpointing_keeps_less_for_the_backward_pass():
    """Of each block only what goes in: the tensors that autograd keeps are far fewer."""
    kept = []
    for checkpointed in (False, True):
        made, sizes = stage(), []
        transformer = made.module.transformer
        assert isinstance(transformer, Transformer)
        transformer.checkpointed = checkpointed
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x):
            made.loss(made.batch(0), step_generator(0, 0))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


def test_the_exported_world_runs_from_its_starts(tmp_path: Path):
    made = stage(steps=3)
    run(made, made.config.loop, tmp_path)
    world = World.from_pretrained(tmp_path / "export")
    assert world.num_starts == 2, "the episode in god mode is no start"
    assert world.starts.seeds.tolist() == [100, 102]
    state, _ = world.initial(seeds=[0, 1])
    _, out = world.step(state, [0, 1])
    assert torch.isfinite(out.latents).all()
    assert list((tmp_path / "samples").glob("*.png"))


def test_an_episode_that_ends_within_the_prefix_is_no_start(tmp_path: Path):
    prefix = toy_config().prefix_latents
    made = stage(train=toy_bank(prefix, prefix + 1, 14), min_latents=1)
    made.export(made.module, tmp_path)
    assert World.from_pretrained(tmp_path).starts.seeds.tolist() == [101, 102]
    with pytest.raises(DatasetError, match="more than prefix_latents=2"):
        stage(train=toy_bank(prefix), min_latents=1)


def test_clips_longer_than_every_episode_still_train_and_too_long_minima_are_refused():
    losses(stage(clip_latents=30), 1)
    with pytest.raises(DatasetError):
        stage(clip_latents=30, min_latents=20)
    with pytest.raises(ConfigError):
        TeacherStageConfig(clip_latents=4, min_latents=8)


def test_a_teacher_begins_where_another_ended_if_it_fits(tmp_path: Path):
    first = stage(steps=2)
    run(first, first.config.loop, tmp_path)
    export = str(tmp_path / "export")
    second = stage(init_from=export)
    saved = World.from_pretrained(export, precision="fp32").generator.state_dict()
    for name, value in second.module.state_dict().items():
        assert torch.equal(value, saved[name]), name
    assert all(parameter.requires_grad for parameter in second.module.parameters())
    with pytest.raises(ConfigError, match="the world asks for"):
        teacher_weights(export, toy_config(actions=ActionConfig(num_actions=5)))


def test_a_teacher_begins_with_the_weights_of_one_of_fewer_channels(tmp_path: Path):
    toy_world().save_pretrained(tmp_path)
    config = toy_config()
    wide = replace(config.transformer, in_channels=6, input_skip=True)
    sizes = replace(config.tokenizer, latent_channels=6)
    weights = teacher_weights(str(tmp_path), toy_config(transformer=wide, tokenizer=sizes))
    assert weights["transformer.head.skip.weight"].abs().max() == 0
    assert weights["transformer.patch_embedding.weight"].shape == (24, 4 * 4 * 6)


def test_a_run_of_a_teacher_that_has_grown_goes_on_where_it_was(tmp_path: Path):
    """It grows again whenever it is resumed, and that is forgotten."""
    small, narrow = toy_config().transformer, toy_config().tokenizer
    changes = {"transformer": replace(small, in_channels=3, depth=1), "tokenizer": replace(narrow, latent_channels=3)}
    toy_world(**changes).save_pretrained(tmp_path / "small")
    assert_resumes_equally(partial(stage, init_from=str(tmp_path / "small")), tmp_path, steps=3)


@pytest.mark.parametrize(
    "change", [{"sigma_shift": 0.0}, {"prompt_dropout": 7.0}, {"num_copies": 0}, {"num_starts": 0}, {"sheet_rows": 0}]
)
def test_settings_out_of_range_are_refused(change: dict):
    (name,) = change
    with pytest.raises(ConfigError, match=name):
        TeacherStageConfig(**change)


def test_what_stands_in_the_padding_of_clips_is_no_target():
    assert_padding_is_no_target(stage(clip_latents=14))
