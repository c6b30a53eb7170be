"""The novelty score: what it compares, on which scale, and how it lies on disk."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cfworld import World
from cfworld.errors import CheckpointError
from cfworld.memory import MemoryState
from cfworld.rollout import clean_pass, context_from_memory
from cfworld.world import Novelty
from cfworld.world.novelty import compared_layers, mean_keys_of_chunk, mean_keys_of_newest
from cfworld.world.novelty_file import add_novelty
from tests.toy import toy_world


def plain(width: int, **changes) -> Novelty:
    """The root mean square change of the keys, as it is."""
    parts = {"layers": (0, 1), "offset": torch.zeros(width), "before": torch.eye(width), "after": torch.eye(width)}
    return Novelty(**(parts | changes))


@pytest.fixture(scope="module")
def world() -> World:
    world = toy_world()
    world.novelty = plain(48, typical=0.25, limit=0.5)
    return world


def test_the_distance_is_that_of_the_keys_from_what_those_before_predict():
    novelty = plain(2, before=2 * torch.eye(2), offset=torch.tensor([1.0, 0.0]))
    means = torch.tensor([[[1.0, 1.0], [3.0, 2.0], [10.0, 8.0]]])
    # predicted (2, 2) + (1, 0) = (3, 2): exact; then (6, 4) + (1, 0) = (7, 4), which (10, 8) misses by (3, 4)
    assert novelty.distance(means).tolist() == pytest.approx([(0 + (25 / 2) ** 0.5) / 2])


def test_the_layers_are_at_a_third_and_two_thirds_of_the_depth():
    assert [compared_layers(depth) for depth in (1, 2, 6, 30)] == [(0,), (0, 1), (2, 4), (10, 20)]


def test_a_step_is_scored_by_its_clean_pass_on_the_worlds_scale(world: World):
    state, _ = world.initial(seeds=[0, 1])
    for action in (0, 2, 1):
        before, (state, out) = state, world.step(state, [action, action])
    actions = torch.ones(2, 1, 4, dtype=torch.int64)
    context = context_from_memory(world.generator, world.config.memory, before.memory)
    keys = clean_pass(world.generator, world.config.memory, before.memory, context, out.latents, actions).keys
    change = mean_keys_of_chunk(keys, (0, 1))[:, 0] - mean_keys_of_newest(before.memory, (0, 1))
    expected = (change.square().mean(dim=1).sqrt() - 0.25) / (0.5 - 0.25)
    assert out.novelty.dtype == torch.float32
    torch.testing.assert_close(out.novelty, expected, rtol=1e-4, atol=1e-4)


def test_the_newest_latent_is_found_in_every_part_of_the_memory(world: World):
    state, _ = world.initial(seeds=[3])
    for _ in range(12):
        before, (state, out) = state, world.step(state, [1])
        context = context_from_memory(world.generator, world.config.memory, before.memory)
        actions = torch.ones(1, 1, 4, dtype=torch.int64)
        keys = clean_pass(world.generator, world.config.memory, before.memory, context, out.latents, actions).keys
        torch.testing.assert_close(
            mean_keys_of_newest(state.memory, (0, 1)), mean_keys_of_chunk(keys, (0, 1))[:, -1], rtol=1e-4, atol=1e-5
        )


def test_a_rows_novelty_does_not_depend_on_its_neighbours(world: World):
    state, _ = world.initial(seeds=[4, 5, 6])
    _, together = world.step(state, [0, 1, 2])
    alone = [world.step(state.select([row]), [row])[1].novelty for row in range(3)]
    assert torch.equal(together.novelty, torch.cat(alone))


def test_without_a_memory_there_is_no_novelty(world: World):
    state, _ = world.initial(seeds=[0, 1])
    memory = MemoryState(**{**state.memory.tensors(), "valid": state.memory.valid & torch.tensor([[True], [False]])})
    _, out = world.step(replace(state, memory=memory), [0, 0])
    assert out.novelty.isnan().tolist() == [False, True]


def test_a_world_that_was_never_calibrated_does_not_know():
    world = toy_world()
    _, out = world.step(world.initial(seeds=[0, 1])[0], [0, 1])
    assert out.novelty.shape == (2,)
    assert out.novelty.isnan().all()


def test_the_score_is_saved_with_the_world(world: World, tmp_path: Path):
    world.save_pretrained(tmp_path)
    again = World.from_pretrained(tmp_path, precision="fp32")
    assert again.novelty is not None
    assert (again.novelty.layers, again.novelty.typical, again.novelty.limit) == ((0, 1), 0.25, 0.5)
    assert torch.equal(again.novelty.after, torch.eye(48))
    again.save_pretrained(tmp_path / "copy")
    assert World.from_pretrained(tmp_path / "copy").novelty is not None


def test_a_score_is_added_to_one_variant_on_disk_and_replaced(tmp_path: Path):
    toy_world().save_pretrained(tmp_path)
    student = toy_world()
    student.variant = "student"
    student.save_pretrained(tmp_path)
    before = set(tmp_path.iterdir())
    add_novelty(tmp_path, "teacher", plain(48))
    assert World.from_pretrained(tmp_path, variant="student").novelty is None
    add_novelty(tmp_path, "teacher", plain(48, before=2 * torch.eye(48), limit=3.0))
    found = World.from_pretrained(tmp_path, variant="teacher").novelty
    assert found is not None
    assert (found.before[0, 0], found.limit) == (2, 3)
    assert len(set(tmp_path.iterdir()) - before) == 1, "the first score's file is gone"


def test_other_weights_do_not_inherit_a_score(world: World, tmp_path: Path):
    world.save_pretrained(tmp_path)
    toy_world(seed=1, num_starts=5).save_pretrained(tmp_path)
    assert World.from_pretrained(tmp_path).novelty is None
    assert not list(tmp_path.glob("*novelty*"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": [0]}, "expected .* for layers of a network 2 deep and 24 wide"),
        ({"layers": [0, 7]}, "layers \\[0, 7\\]"),
        ({"layers": 3}, "got {'layers': 3, .* expected a list of layers, and two numbers"),
        ({"typical": "low"}, "'typical': 'low', .* expected a list of layers, and two numbers"),
        ({"limit": 0.25}, "a limit above what is typical"),
        ({"files": {"../elsewhere.safetensors": "0"}}, "names of files in this folder"),
        ({"files": None}, "files of the novelty of variant 'teacher'"),
    ],
)
def test_a_score_that_does_not_fit_is_refused(world: World, tmp_path: Path, changes: dict, message: str):
    world.save_pretrained(tmp_path)
    manifest = json.loads((tmp_path / "config.json").read_text())
    manifest["variants"]["teacher"]["novelty"] |= changes
    (tmp_path / "config.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match=message):
        World.from_pretrained(tmp_path)


def test_an_entry_without_its_scale_is_refused(world: World, tmp_path: Path):
    world.save_pretrained(tmp_path)
    manifest = json.loads((tmp_path / "config.json").read_text())
    del manifest["variants"]["teacher"]["novelty"]["limit"]
    (tmp_path / "config.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="expected layers, typical, limit and files"):
        World.from_pretrained(tmp_path)
