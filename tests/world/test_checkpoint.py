"""Worlds and states on disk: whole, checked, and clear about what is wrong."""

import json
from pathlib import Path

import pytest
import torch

import cfworld
from cfworld.errors import CheckpointError, ConfigError, UnknownWorldError
from cfworld.world import WorldConfig, config_from_dict, config_to_dict
from tests.toy import toy_config, toy_world


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    toy_world().save_pretrained(tmp_path / "world")
    return tmp_path / "world"


def test_a_configuration_survives_json():
    config = toy_config()
    again = config_from_dict(WorldConfig, json.loads(json.dumps(config_to_dict(config))))
    assert again == config


def test_a_saved_world_steps_like_itself(folder: Path):
    one, two = cfworld.World.from_pretrained(folder), cfworld.World.from_pretrained(folder)
    latents = [world.step(world.initial(seeds=[0])[0], [1])[1].latents for world in (one, two)]
    assert torch.equal(*latents)
    assert one.variant == "teacher"


def test_weights_are_stored_in_bfloat16_within_their_rounding(folder: Path):
    saved = cfworld.World.from_pretrained(folder, precision="fp32").generator.state_dict()
    for name, value in toy_world().generator.state_dict().items():
        torch.testing.assert_close(saved[name], value, rtol=2**-7, atol=1e-6)


def test_in_bfloat16_a_row_is_bit_for_bit_the_same_alone_and_in_any_batch(folder: Path):
    world = cfworld.World.from_pretrained(folder, precision="bf16")
    alone, _ = world.initial(seeds=[1], starts=[0])
    for others in ([0], [0, 2], [5, 6, 7, 8, 9, 10]):
        state, together = alone, world.initial(seeds=[1, *others], starts=[0] * (1 + len(others)))[0]
        for action in (0, 1, 2, 1):
            state, one = world.step(state, [action])
            together, all_rows = world.step(together, [action] * (1 + len(others)))
            assert torch.equal(one.latents[0], all_rows.latents[0])
            assert torch.equal(one.hazard[0], all_rows.hazard[0])
            assert one.frames is not None
            assert all_rows.frames is not None
            assert torch.equal(one.frames[0], all_rows.frames[0])


def test_an_unknown_precision_is_refused(folder: Path):
    with pytest.raises(ConfigError, match="'bf16', 'fp32'"):
        cfworld.World.from_pretrained(folder, precision="fp8")


def test_variants_share_a_folder_and_the_student_is_the_default(folder: Path):
    student = toy_world(seed=5)
    student.variant = "student"
    student.save_pretrained(folder)
    assert cfworld.World.from_pretrained(folder).variant == "student"
    assert cfworld.World.from_pretrained(folder, variant="teacher").variant == "teacher"


def test_the_sampler_and_the_memory_can_be_overridden(folder: Path):
    memory = toy_config().memory
    memory.num_slow = 0
    world = cfworld.World.from_pretrained(folder, num_steps=7, memory=memory)
    assert world.config.sampler.num_steps == 7
    assert world.config.memory.num_slow == 0


def test_no_file_is_larger_than_a_shard_and_all_are_checked(folder: Path):
    manifest = json.loads((folder / "config.json").read_text())
    named = {*manifest["tokenizer"], *manifest["starts"], *manifest["variants"]["teacher"]["files"]}
    assert named == {file.name for file in folder.glob("*.safetensors")}
    assert all(file.stat().st_size <= 16_100_000 for file in folder.iterdir())


def test_large_weights_are_split_into_shards(tmp_path: Path):
    from cfworld.world.checkpoint import read_tensors, write_tensors

    tensors = {str(i): torch.full((3_000_000,), float(i)) for i in range(3)}
    checksums = write_tensors(tmp_path, "weights", tensors)
    assert sorted(checksums) == [f"weights-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    again = read_tensors(tmp_path, checksums)
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_an_unknown_world_names_those_there_are():
    with pytest.raises(UnknownWorldError, match="neither in the zoo"):
        cfworld.World.from_pretrained("no_such_world")


def test_a_missing_variant_names_those_there_are(folder: Path):
    with pytest.raises(CheckpointError, match=r"has no variant 'student'; it has \['teacher'\]"):
        cfworld.World.from_pretrained(folder, variant="student")


def damage_shard(folder: Path) -> None:
    file = next(folder.glob("teacher-*"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def remove_shard(folder: Path) -> None:
    next(folder.glob("tokenizer-*")).unlink()


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def cut_config(folder: Path) -> None:
    (folder / "config.json").write_text((folder / "config.json").read_text()[:100])


def change(folder: Path, edit) -> None:
    manifest = json.loads((folder / "config.json").read_text())
    edit(manifest)
    (folder / "config.json").write_text(json.dumps(manifest))


def newer_schema(folder: Path) -> None:
    change(folder, lambda m: m.update(schema_version=99))


def wider_model(folder: Path) -> None:
    change(folder, lambda m: m["world"]["transformer"].update(ffn_dim=96))


def unknown_setting(folder: Path) -> None:
    change(folder, lambda m: m["world"].update(colour="blue"))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (damage_shard, "SHA-256"),
        (remove_shard, "lacks tokenizer"),
        (remove_config, "holds no config.json"),
        (cut_config, "cannot be read"),
        (newer_schema, "schema version 99"),
        (wider_model, "do not match its config.json"),
        (unknown_setting, "has no setting"),
    ],
)
def test_a_damaged_or_foreign_checkpoint_says_what_is_wrong(folder: Path, harm, message: str):
    harm(folder)
    with pytest.raises(CheckpointError, match=message):
        cfworld.World.from_pretrained(folder)


def test_a_state_survives_the_disk(tmp_path: Path):
    world = toy_world()
    state, _ = world.step(world.initial(seeds=[1, 2])[0], [0, 1])
    state.save(tmp_path / "state.safetensors")
    again = cfworld.WorldState.load(tmp_path / "state.safetensors")
    _, a = world.step(state, [2, 2])
    _, b = world.step(again, [2, 2])
    assert torch.equal(a.latents, b.latents)


def test_a_file_that_is_no_state_is_refused(tmp_path: Path):
    (tmp_path / "state.safetensors").write_bytes(b"not this")
    for path in ("state.safetensors", "missing.safetensors"):
        with pytest.raises(CheckpointError, match=r"WorldState\.save"):
            cfworld.WorldState.load(tmp_path / path)
