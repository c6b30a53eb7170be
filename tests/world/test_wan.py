"""Worlds out of Wan, with the real modules of diffusers and transformers at toy size: episodes of texts."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cfworld import Start, World, WorldState
from cfworld.diffusion import sigmas
from cfworld.errors import ActionError, CheckpointError, ConfigError, StartError
from cfworld.metrics.speed.world_speed import random_actions
from cfworld.rollout import Solver
from cfworld.world import Opening, StepOutput
from cfworld.world.wan import WanSettings
from tests.wan_toy import TABLE, pipeline_folder, text_encoder_folder, wan_world

DOOR, SKY = "a red door opens", "the sky darkens"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline_folder(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def world(folder: Path) -> World:
    return wan_world(folder)


@pytest.fixture(scope="module")
def moment(world: World) -> WorldState:
    """Two rows whose memory is full."""
    return after(world, [[DOOR, SKY]] * 8)


def after(world: World, actions: list[list[str]], seeds: tuple[int, ...] = (0, 1)) -> WorldState:
    state, _ = world.initial(seeds, [Opening(action=DOOR)] * len(seeds))
    for action in actions:
        state, _ = world.step(state, action)
    return state


def same_frames(one: StepOutput, two: StepOutput) -> bool:
    return one.frames is not None and two.frames is not None and torch.equal(one.frames, two.frames)


def same(one: WorldState, two: WorldState) -> bool:
    first, second = one.tensors(), two.tensors()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_the_defaults_are_the_papers():
    settings = WanSettings()
    memory, sampler = settings.memory, settings.sampler
    assert settings.resolution == [480, 832]
    assert (memory.num_sink, memory.num_slow, memory.num_fast) == (3, 12, 6)
    assert (memory.latents_per_chunk, memory.consolidate_every, memory.threshold) == (3, 2, 0.95)
    assert memory.recache
    assert (sampler.solver, sampler.num_steps) == (Solver.FEW_STEP, 4)
    levels = sigmas(sampler.num_steps, sampler.shift, torch.device("cpu"))
    torch.testing.assert_close(levels, torch.tensor([1.0, 0.9375, 5 / 6, 0.625, 0.0]))


def test_an_episode_begins_from_nothing_and_goes_on_chunk_by_chunk(world: World):
    config = world.config
    assert (config.frames_per_step, config.resolution, config.fps) == (12, (16, 16), 16)
    state, frames = world.initial([0, 1])
    assert frames.shape == (2, 12, 16, 16, 3)
    assert not torch.equal(frames[0], frames[1]), "each row by its own noise"
    shown, latents = [frames], [state.latents]
    for text in (DOOR, DOOR, SKY):
        state, out = world.step(state, [text, DOOR])
        assert out.frames is not None
        shown.append(out.frames)
        latents.append(out.latents)
    assert torch.equal(torch.cat(shown, dim=1), world.decode(torch.cat(latents, dim=1))), "one video, decoded as one"
    assert torch.equal(world.frames(state), shown[-1])
    assert out.reward.tolist() == [0, 0]
    assert not out.terminated.any()


def test_the_opening_is_the_prompt_of_the_first_chunk(world: World):
    told, _ = world.initial([0, 0, 0], [Opening(action=DOOR), Opening(action=SKY), Opening(action="")])
    assert not torch.equal(told.latents[0], told.latents[1])
    usual, _ = world.initial([0])
    assert torch.equal(usual.latents[0], told.latents[2])


def test_an_episode_may_begin_with_frames_of_ones_own(world: World):
    frames = torch.randint(0, 256, (24, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with pytest.warns(UserWarning, match="comes back from the tokenizer"):
        state, shown = world.initial([3], [Start(frames=frames.numpy(), actions=[DOOR] * 24)])
    latents = world.tokenizer.encode(frames[None])
    torch.testing.assert_close(state.latents, latents[:, 3:])
    assert torch.equal(shown, world.decode(latents)[:, 12:])
    assert int(state.memory.count) == 6


def test_what_a_state_holds_of_a_prompt_is_the_text(moment: WorldState):
    newest = moment.memory.actions[0, -1, 0]
    assert "".join(map(chr, newest[newest > 0].tolist())) == DOOR


def test_forks_are_exact_with_the_state_of_the_decoder_in_them(world: World, moment: WorldState, tmp_path: Path):
    before = moment.clone()
    expected, out = world.step(moment, [SKY, SKY])
    assert same(moment, before), "step leaves its argument as it is"
    moment.save(tmp_path / "moment.safetensors")
    copies = [before, WorldState.load(tmp_path / "moment.safetensors"), moment.select([0, 1])]
    copies.append(WorldState.cat([moment.select([0]), moment.select([1])]))
    copies.append(moment.select([1, 0]).replace([0, 1], moment))
    for fork in copies:
        again, seen = world.step(fork, [SKY, SKY])
        assert same(again, expected)
        assert same_frames(seen, out)


def test_a_row_is_the_same_alone_and_beside_others(world: World, moment: WorldState):
    expected, _ = world.step(moment, [DOOR, DOOR])
    alone, _ = world.step(moment.select([1]), [DOOR])
    assert same(alone, expected.select([1]))


def test_after_a_prompt_switch_the_memory_speaks_of_the_new_prompt(world: World, moment: WorldState):
    plain = copy.copy(world)
    plain.config = replace(world.config, memory=replace(world.config.memory, recache=False))
    kept, _ = plain.step(replace(moment, world=plain.fingerprint), [DOOR, DOOR])
    read_anew, _ = world.step(moment, [DOOR, DOOR])
    assert torch.equal(kept.latents[0], read_anew.latents[0]), "row 0 goes on under its prompt"
    assert not torch.equal(kept.latents[1], read_anew.latents[1]), "row 1 had another"
    assert torch.equal(kept.memory.source, read_anew.memory.source), "the same moments are remembered"
    slow = world.config.memory.num_sink
    assert (read_anew.memory.actions[1, slow] == read_anew.memory.actions[0, 0]).all()


def test_a_state_is_as_large_after_twenty_steps_as_after_eight(world: World, moment: WorldState):
    state = moment
    for step in range(12):
        state, _ = world.step(state, [SKY if step % 4 else DOOR] * 2)
    assert state.memory.valid.all()
    sizes = [{name: (value.shape, value.dtype) for name, value in one.tensors().items()} for one in (moment, state)]
    assert sizes[0] == sizes[1]


def test_guidance_takes_the_empty_text_for_the_null_prompt(world: World, moment: WorldState):
    guided = copy.copy(world)
    guided.config = replace(world.config, sampler=replace(world.config.sampler, guidance=5.0))
    _, told = guided.step(moment, [DOOR, ""])
    _, plain = world.step(moment, [DOOR, ""])
    assert not torch.equal(told.latents[0], plain.latents[0])
    torch.testing.assert_close(told.latents[1], plain.latents[1], atol=1e-3, rtol=1e-3)


def test_a_table_of_named_actions_says_what_its_texts_say(folder: Path, world: World):
    table = wan_world(folder, actions=TABLE)
    assert table.config.actions.num_actions == 2
    assert table.config.opening == "open"
    state, _ = world.initial([4], [Opening(action=TABLE["open"])])
    named, _ = table.initial([4])
    assert torch.equal(named.latents, state.latents)
    for name in ("open", "darken"):
        state, expected = world.step(state, [TABLE[name]])
        named, out = table.step(named, [name])
        assert same_frames(out, expected)
    _, by_number = table.step(named, [0])
    _, by_name = table.step(named, ["open"])
    assert torch.equal(by_number.latents, by_name.latents)


def test_a_change_within_a_latent_takes_effect_with_the_next(folder: Path):
    table = wan_world(folder, actions=TABLE)
    state, _ = table.initial([4])
    _, expected = table.step(state, [[0] * 8 + [1] * 4])
    _, early = table.step(state, [[0] * 5 + [1] * 7])
    _, late = table.step(state, [[0] * 4 + [1] * 8])
    assert torch.equal(early.latents, expected.latents)
    assert not torch.equal(late.latents, expected.latents)


@pytest.mark.parametrize("actions", [{}, TABLE], ids=["texts", "table"])
def test_a_saved_world_goes_on_with_the_states_of_the_one_before(folder: Path, tmp_path: Path, actions: dict[str, str]):
    world = wan_world(folder, actions=actions, name="mine")
    world.save_pretrained(tmp_path)
    again = World.from_pretrained(tmp_path, precision="fp32")
    assert again.fingerprint == world.fingerprint
    assert again.config == world.config
    assert again.variant == "student"
    action = "open" if actions else DOOR
    state, _ = world.initial([0])
    expected, out = world.step(state, [action])
    found, seen = again.step(state, [action])
    assert same(found, expected)
    assert same_frames(seen, out)
    assert all(file.stat().st_size <= 17e6 for file in tmp_path.rglob("*"))


def test_the_encoder_of_texts_is_kept_checked_and_replaced_with_the_world(folder: Path, world: World, tmp_path: Path):
    world.save_pretrained(tmp_path)
    (kept,) = (tmp_path / "text_encoder").glob("*.safetensors")
    other = wan_world(folder, text_encoder=text_encoder_folder(tmp_path / "other", seed=1))
    other.save_pretrained(tmp_path)
    assert not kept.exists()
    again = World.from_pretrained(tmp_path, precision="fp32")
    expected, _ = other.initial([0], [Opening(action=DOOR)])
    assert torch.equal(again.initial([0], [Opening(action=DOOR)])[0].latents, expected.latents)
    (shard,) = (tmp_path / "text_encoder").glob("*.safetensors")
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="text_encoder-00001"):
        World.from_pretrained(tmp_path).initial([0])
    (tmp_path / "text_encoder" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match="lacks a part of its encoder of texts"):
        World.from_pretrained(tmp_path).initial([0])
    (tmp_path / "text_encoder" / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"holds a damaged one .*mapping, not list"):
        World.from_pretrained(tmp_path).initial([0])


def test_a_text_that_is_none_is_refused(world: World, moment: WorldState):
    with pytest.raises(ActionError, match=r"a text of 61 characters, .*; expected at most 60"):
        world.step(moment, ["x" * 61, DOOR])
    with pytest.raises(ActionError, match=r"got actions \[2\] of torch.int64; expected texts of at most 60 characters"):
        world.step(moment, [1, 2])
    for nothing in (None, b"door", [None, None]):
        with pytest.raises(ActionError, match=r"^got .*; expected texts of at most 60 characters"):
            world.step(moment, nothing)
    with pytest.raises(ActionError, match="character 1 is half of a pair; expected whole characters"):
        world.step(moment, ["a\ud800b", DOOR])
    with pytest.raises(ActionError, match="numbers that stand for no characters"):
        world.step(moment, torch.full((2, 60), 0xD800))
    with pytest.raises(ActionError, match="expected texts alone"):
        world.step(moment, [DOOR, 2])
    with pytest.raises(StartError, match="the action of an opening does not fit this world"):
        world.initial([0], [Opening(action=3)])
    with pytest.raises(StartError, match=r"there is no start 0: this world ships none\. Leave the start out"):
        world.initial([0], [0])


def test_a_world_without_an_encoder_says_how_it_gets_one(folder: Path):
    world = wan_world(folder, text_encoder=None)
    with pytest.raises(ConfigError, match=r"got a text for a world whose encoder 'umt5'.*use_encoder"):
        world.initial([0])
    world.generator.prompts.use_encoder(lambda texts: torch.ones(len(texts), 6, 16))
    assert world.initial([0])[1].shape == (1, 12, 16, 16, 3)


def test_its_speed_is_measured_under_empty_texts(world: World, moment: WorldState):
    actions = random_actions(world, moment.seeds, moment.step)
    check = world.generator.prompts.check
    assert torch.equal(check(actions, 2, 12), check(["", ""], 2, 12))
