"""Worlds and states on disk: whole, checked, and clear about what is wrong."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import cfworld
from cfworld.errors import CheckpointError, ConfigError, UnknownWorldError
from cfworld.rollout import SamplerConfig, Solver
from cfworld.world import WorldConfig, checkpoint, config_from_dict, config_to_dict, pretrained
from tests.toy import toy_config, toy_world


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    toy_world().save_pretrained(tmp_path / "world")
    return tmp_path / "world"


def named_files(folder: Path) -> set[str]:
    """The shards that the manifest of a lone teacher names."""
    manifest = json.loads((folder / "config.json").read_text())
    return {*manifest["tokenizer"], *manifest["starts"], *manifest["variants"]["teacher"]["files"]}


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
            difference = (one.frames[0].int() - all_rows.frames[0].int()).abs().max()
            assert difference <= 2, "the decoder's convolutions may round differently, but nothing goes on from frames"


def test_an_unknown_precision_is_refused(folder: Path):
    with pytest.raises(ConfigError, match="'bf16', 'fp32'"):
        cfworld.World.from_pretrained(folder, precision="fp8")


def test_variants_share_a_folder_and_the_student_is_the_default(folder: Path):
    student_of(toy_world()).save_pretrained(folder)
    assert cfworld.World.from_pretrained(folder).variant == "student"
    assert cfworld.World.from_pretrained(folder, variant="teacher").variant == "teacher"


def student_of(teacher: cfworld.World) -> cfworld.World:
    """A student of other weights and another sampler, but the same world."""
    teacher.variant = "student"
    teacher.config = replace(teacher.config, sampler=SamplerConfig(solver=Solver.FEW_STEP, num_steps=3))
    for parameter in teacher.generator.parameters():
        parameter.data.add_(0.5)
    return teacher


def other_starts(world: cfworld.World) -> None:
    world.starts.latents.add_(1.0)


def other_tokenizer(world: cfworld.World) -> None:
    next(world.tokenizer.parameters()).data.add_(1.0)


def other_memory(world: cfworld.World) -> None:
    world.config.memory.num_slow = 0


@pytest.mark.parametrize(
    ("change", "named"), [(other_starts, "starts"), (other_tokenizer, "tokenizer"), (other_memory, "world.memory")]
)
def test_a_variant_of_another_world_is_refused_and_harms_nothing(folder: Path, change, named: str):
    student = student_of(toy_world())
    change(student)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(CheckpointError, match=rf"\['teacher'\] of a world that differs in {re.escape(named)};"):
        student.save_pretrained(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_the_only_variant_may_be_replaced_by_another_world(folder: Path):
    other = toy_world(seed=5)
    other_memory(other)
    other.save_pretrained(folder)
    assert cfworld.World.from_pretrained(folder).config == other.config
    assert named_files(folder) == {file.name for file in folder.glob("*.safetensors")}


def test_a_save_that_is_cut_off_before_the_manifest_leaves_the_world_that_was_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def cut_off(*_):
        raise KeyboardInterrupt

    before = cfworld.World.from_pretrained(folder, precision="fp32").generator.state_dict()
    with monkeypatch.context() as patch:
        patch.setattr(pretrained, "write_manifest", cut_off)
        with pytest.raises(KeyboardInterrupt):
            toy_world(seed=5).save_pretrained(folder)
    after = cfworld.World.from_pretrained(folder, precision="fp32").generator.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_save_removes_the_shards_that_nothing_names_any_more_and_no_other_file(folder: Path):
    (folder / "teacher-00001-of-00002.safetensors").write_bytes(b"of an earlier save")
    (folder / "state.safetensors").write_bytes(b"the user's own")
    toy_world(seed=5).save_pretrained(folder)
    assert {file.name for file in folder.glob("*.safetensors")} - named_files(folder) == {"state.safetensors"}


def test_a_world_is_not_saved_into_a_file(tmp_path: Path):
    (tmp_path / "world").write_text("a file")
    for path in (tmp_path / "world", tmp_path / "world" / "below"):
        with pytest.raises(CheckpointError, match="a world needs a folder"):
            toy_world().save_pretrained(path)


def test_the_sampler_and_the_memory_can_be_overridden(folder: Path):
    memory = toy_config().memory
    memory.num_slow = 0
    world = cfworld.World.from_pretrained(folder, num_steps=7, memory=memory)
    assert world.config.sampler.num_steps == 7
    assert world.config.memory.num_slow == 0


def test_a_preset_is_laid_over_the_memory_that_the_world_has(folder: Path):
    world = cfworld.World.from_pretrained(folder, memory="self_forcing")
    assert world.config.memory == replace(toy_config().memory, num_sink=0, num_slow=0, num_fast=17)
    state, _ = world.initial(seeds=[0])
    assert state.memory.valid.shape == (1, 16)
    assert world.step(state, [1])[1].frames is not None
    with pytest.warns(UserWarning, match="absolute positions for a world that was trained with bounded ones"):
        cfworld.World.from_pretrained(folder, memory="longlive")
    with pytest.raises(ConfigError, match=r"memory='slow_only'; expected a MemoryConfig or one of .*fast_only"):
        cfworld.World.from_pretrained(folder, memory="slow_only")


def test_no_file_is_larger_than_a_shard_and_all_are_checked(folder: Path):
    assert named_files(folder) == {file.name for file in folder.glob("*.safetensors")}
    assert all(file.stat().st_size <= 16_100_000 for file in folder.iterdir())


def test_large_weights_are_split_into_shards(tmp_path: Path):
    tensors = {str(i): torch.full((3_000_000,), float(i)) for i in range(3)}
    checksums = checkpoint.write_tensors(tmp_path, "weights", tensors)
    pattern = [rf"weights-0000{i}-of-00003-[0-9a-f]{{12}}\.safetensors" for i in (1, 2, 3)]
    assert all(re.fullmatch(want, name) for want, name in zip(pattern, sorted(checksums), strict=True))
    again = checkpoint.read_tensors(tmp_path, checksums)
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


def test_a_tensor_that_is_larger_than_a_shard_is_cut_and_comes_back_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(checkpoint, "MAX_SHARD_BYTES", 1000)
    tensors = {"large": torch.randn(11, 100), "small": torch.arange(5), "wide": torch.randn(1, 40)}
    checksums = checkpoint.write_tensors(tmp_path, "weights", tensors)
    assert max((tmp_path / name).stat().st_size for name in checksums) < 1200
    found = checkpoint.read_tensors(tmp_path, checksums)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_an_unknown_world_names_those_there_are():
    with pytest.raises(UnknownWorldError, match="neither in the zoo"):
        cfworld.World.from_pretrained("no_such_world")
    with pytest.raises(UnknownWorldError, match=r"cannot look for a world at 'xxx.*File name too long"):
        cfworld.World.from_pretrained("x" * 5000)
    assert not pretrained.is_world("x" * 5000)


@pytest.mark.parametrize("variant", ["student", ""])
def test_a_missing_variant_names_those_there_are(folder: Path, variant: str):
    with pytest.raises(CheckpointError, match=rf"has no variant '{variant}'; it has \['teacher'\]"):
        cfworld.World.from_pretrained(folder, variant=variant)


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


def config_of_a_tokenizer(folder: Path) -> None:
    (folder / "config.json").write_text('{"type": "block_vae", "latent_channels": 16}')


def newer_schema(folder: Path) -> None:
    change(folder, lambda m: m.update(schema_version=99))


def wider_model(folder: Path) -> None:
    change(folder, lambda m: m["world"]["transformer"].update(ffn_dim=96))


def set_dim(folder: Path, dim) -> None:
    change(folder, lambda m: m["world"]["transformer"].update(dim=dim))


def word_for_number(folder: Path) -> None:
    set_dim(folder, "abc")


def list_for_number(folder: Path) -> None:
    set_dim(folder, [24])


def words_in_list(folder: Path) -> None:
    change(folder, lambda m: m["world"]["tokenizer"].update(widths=[16, "x", 16]))


def unknown_choice(folder: Path) -> None:
    change(folder, lambda m: m["world"].update(ends="maybe"))


def no_sampler(folder: Path) -> None:
    change(folder, lambda m: m["variants"]["teacher"].pop("sampler"))


def no_files(folder: Path) -> None:
    change(folder, lambda m: m["variants"]["teacher"].pop("files"))


def list_of_variants(folder: Path) -> None:
    change(folder, lambda m: m.update(variants=["teacher"]))


def list_of_tokenizer_files(folder: Path) -> None:
    change(folder, lambda m: m.update(tokenizer=list(m["tokenizer"])))


def word_for_world(folder: Path) -> None:
    change(folder, lambda m: m.update(world="toy"))


def file_outside(folder: Path) -> None:
    change(folder, lambda m: m.update(starts={"../starts.safetensors": "0"}))


def unknown_setting(folder: Path) -> None:
    change(folder, lambda m: m["world"].update(colour="blue"))


def no_heads_of_attention(folder: Path) -> None:
    change(folder, lambda m: m["world"]["transformer"].update(num_heads=0))


def empty_patches(folder: Path) -> None:
    change(folder, lambda m: m["world"]["transformer"].update(patch_size=[0, 2]))


def no_starts(folder: Path) -> None:
    change(folder, lambda m: m.update(starts={}))


def longer_prefixes(folder: Path) -> None:
    change(folder, lambda m: m["world"].update(prefix_latents=m["world"]["prefix_latents"] + 1))


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (no_heads_of_attention, "num_heads=0"),
        (empty_patches, r"patch_size \[0, 2\]"),
        (no_starts, "starts"),
        (longer_prefixes, "starts"),
        (damage_shard, "SHA-256"),
        (remove_shard, "lacks tokenizer"),
        (remove_config, "holds no config.json"),
        (cut_config, "cannot be read"),
        (config_of_a_tokenizer, "is not a world's: it names no schema_version, but has type 'block_vae'"),
        (newer_schema, "schema version 99"),
        (wider_model, "do not make a Generator of its config.json: .* The folder mixes two checkpoints"),
        (unknown_setting, "has no setting"),
        (word_for_number, "got TransformerConfig.dim='abc'; expected int"),
        (list_for_number, r"got TransformerConfig.dim=\[24\]; expected int"),
        (words_in_list, r"got BlockVAEConfig.widths=\[16, 'x', 16\]; expected list"),
        (unknown_choice, r"got WorldConfig.ends='maybe'; expected one of \['sampled', "),
        (no_sampler, "as variant 'teacher'; expected a mapping of sampler and files"),
        (no_files, "as variant 'teacher'; expected a mapping of sampler and files"),
        (list_of_variants, r"got \['teacher'\] as variants; expected a mapping"),
        (list_of_tokenizer_files, "as tokenizer; expected a mapping of files to SHA-256"),
        (word_for_world, "got 'toy' as world; expected a mapping"),
        (file_outside, "among starts; expected names of files in this folder"),
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


@pytest.mark.parametrize("missing", ["memory.keys", "seeds", "world"])
def test_a_state_of_which_something_is_missing_is_refused(tmp_path: Path, missing: str):
    state, _ = toy_world().initial(seeds=[1])
    tensors = {name: value.contiguous() for name, value in state.tensors().items() if name != missing}
    words = None if missing == "world" else {"world": state.world}
    save_file(tensors, tmp_path / "state.safetensors", metadata=words)
    with pytest.raises(CheckpointError, match=r"WorldState\.save"):
        cfworld.WorldState.load(tmp_path / "state.safetensors")


def test_a_state_is_saved_whatever_its_tensors_are_views_of(tmp_path: Path):
    begun, _ = toy_world().initial(seeds=[1, 2])
    state = replace(begun, latents=begun.latents.transpose(-1, -2), step=begun.seeds)
    state.save(tmp_path / "state.safetensors")
    again = cfworld.WorldState.load(tmp_path / "state.safetensors")
    assert torch.equal(again.latents, state.latents)
    assert again.step.tolist() == again.seeds.tolist() == [1, 2]


def test_a_world_of_another_name_is_not_replaced(folder: Path):
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(CheckpointError, match="holds the world 'toy'; got 'another' to save there"):
        toy_world(name="another").save_pretrained(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
