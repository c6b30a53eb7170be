"""Wan's weights: our transformer computes what diffusers' does, and both layouts go both ways."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cfworld.errors import CheckpointError, ConfigError
from cfworld.memory import MemoryConfig
from cfworld.model import ActionConfig, Generator, Transformer, TransformerConfig, apply_rope, rope_table
from cfworld.model.wan_layouts import WanLayout, from_layout, to_layout
from cfworld.model.wan_weights import load_wan_transformer, save_wan_transformer, wan_sizes
from cfworld.prompts import TextConfig
from cfworld.rollout import blank_memory, clean_pass, context_from_memory, read
from tests.wan_toy import diffusers_transformer, inputs, transformer_folder

LATENT = (4, 4)
TOKENS = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return transformer_folder(tmp_path_factory.mktemp("wan") / "transformer")


@pytest.fixture
def ours(folder: Path) -> Transformer:
    return load_wan_transformer(folder, LATENT)


def no_context(model: Transformer, rows: int):
    """What a memory without anything in it shows."""
    empty = torch.zeros(rows, 0, model.config.num_heads, model.config.head_dim)
    return lambda *_: (empty, empty)


def per_latent(texts: Tensor, num_latents: int) -> Tensor:
    return texts[:, None].expand(-1, num_latents, -1, -1)


def whole(model: Transformer, latents: Tensor, sigma: Tensor, texts: Tensor, mask: Tensor | None = None) -> Tensor:
    rows, num_latents = latents.shape[:2]
    positions = torch.arange(num_latents).expand(rows, -1)
    prompts = per_latent(texts, num_latents)
    return model(latents, sigma, prompts, positions, no_context(model, rows), mask).velocity


@torch.no_grad()
def test_all_latents_in_one_pass_give_what_diffusers_gives(ours: Transformer):
    latents, texts = inputs()
    theirs = diffusers_transformer()
    for t in (1000, 625, 0):
        expected = theirs(latents.transpose(1, 2), torch.tensor([t, t]), texts).sample.transpose(1, 2)
        found = whole(ours, latents, torch.full((2, 3), t / 1000), texts)
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_noise_level_for_each_latent_gives_what_diffusers_gives_for_each_token(ours: Transformer):
    latents, texts = inputs()
    levels = torch.tensor([[0.0, 0.625, 1.0], [0.25, 0.25, 0.5]])
    per_token = (1000 * levels).repeat_interleave(TOKENS, dim=1)
    expected = diffusers_transformer()(latents.transpose(1, 2), per_token, texts).sample.transpose(1, 2)
    torch.testing.assert_close(whole(ours, latents, levels, texts), expected, atol=1e-4, rtol=0)


@torch.no_grad()
def test_chunk_by_chunk_over_a_cache_equals_a_block_causal_mask_without_one(ours: Transformer):
    latents, texts = inputs(num_latents=6)
    sigma = torch.tensor([[0.0, 0.0, 0.5, 0.5, 0.9, 0.9]]).expand(2, -1)
    chunk = torch.arange(6).repeat_interleave(TOKENS) // 2
    mask = (chunk[None, :] <= chunk[:, None])[None, None].expand(2, -1, -1, -1)
    expected = whole(ours, latents, sigma, texts, mask)
    keys: list[list[Tensor]] = [[], []]
    values: list[list[Tensor]] = [[], []]

    def context(layer: int, *_: Tensor) -> tuple[Tensor, Tensor]:
        if not keys[layer]:
            return no_context(ours, 2)()
        return torch.cat(keys[layer], dim=1), torch.cat(values[layer], dim=1)

    found = []
    for first in (0, 2, 4):
        piece = slice(first, first + 2)
        positions = torch.arange(first, first + 2).expand(2, -1)
        output = ours(latents[:, piece], sigma[:, piece], per_latent(texts, 2), positions, context)
        found.append(output.velocity)
        rope = rope_table(positions, ours.config.grid, ours.config.head_dim, ours.config.rope_theta)
        for layer in range(2):
            keys[layer].append(apply_rope(output.keys[layer], *rope).flatten(1, 2))
            values[layer].append(output.values[layer].flatten(1, 2))
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_chunk_by_chunk_over_the_worlds_memory_equals_it_too(ours: Transformer):
    latents, texts = inputs(num_latents=6)
    sigma = torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.9, 0.9]]).expand(2, -1)
    chunk = torch.arange(6).repeat_interleave(TOKENS) // 2
    mask = (chunk[None, :] <= chunk[:, None])[None, None].expand(2, -1, -1, -1)
    expected = whole(ours, latents, sigma, texts, mask)

    text = TextConfig(max_length=3, tokens=6, width=16, encoder="toy", learned=False)
    generator = Generator(ActionConfig(text=text), ours.config)
    generator.transformer = ours
    generator.prompts.use_encoder(lambda asked: torch.stack([texts[("one", "two").index(one)] for one in asked]))
    actions = generator.prompts.check(["one", "two"], 2, 8).unflatten(1, (2, 4))
    config = MemoryConfig(num_sink=2, num_slow=0, num_fast=6, latents_per_chunk=2)
    memory = blank_memory(generator, config, latents[:, :2], actions)
    found = []
    for first in (0, 2, 4):
        piece = slice(first, first + 2)
        context = context_from_memory(generator, config, memory)
        found.append(read(generator, latents[:, piece], sigma[:, piece], generator.prompts(actions), context).velocity)
        memory = clean_pass(generator, config, memory, context, latents[:, piece], actions).memory
    torch.testing.assert_close(torch.cat(found, dim=1), expected, atol=1e-5, rtol=0)


def test_sizes_are_read_off_the_tensors(ours: Transformer):
    config = ours.config
    assert (config.dim, config.depth, config.num_heads, config.ffn_dim) == (64, 2, 2, 48)
    assert (config.in_channels, config.freq_dim, config.prompt_dim, config.prompt_layers) == (4, 16, 16, 2)
    assert config.tokens_per_latent == TOKENS
    assert not config.heads


def test_a_transformer_of_the_real_size_has_the_shapes_that_diffusers_gives_it():
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    with torch.device("meta"):
        theirs = WanTransformer3DModel(num_attention_heads=12, ffn_dim=8960, num_layers=30).state_dict()
        config = wan_sizes(from_layout(theirs, WanLayout.DIFFUSERS), (60, 104), None, "diffusers")
        ours = to_layout(Transformer(config).state_dict(), WanLayout.DIFFUSERS, 16, (2, 2))
    assert (config.dim, config.depth, config.num_heads, config.prompt_dim) == (1536, 30, 12, 4096)
    assert config.tokens_per_latent == 1560
    assert {name: value.shape for name, value in ours.items()} == {name: value.shape for name, value in theirs.items()}


@pytest.mark.parametrize("layout", list(WanLayout))
def test_a_layout_goes_both_ways_without_loss(layout: WanLayout, ours: Transformer):
    before = ours.state_dict()
    there = to_layout(before, layout, 4, (2, 2))
    again = from_layout(there, layout)
    assert again.keys() == before.keys()
    assert all(torch.equal(again[name], before[name]) for name in before)


def test_the_diffusers_layout_is_the_one_that_diffusers_writes(folder: Path, ours: Transformer, tmp_path: Path):
    from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

    save_wan_transformer(ours, tmp_path, "diffusers")
    written, theirs = (load_file(place / "diffusion_pytorch_model.safetensors") for place in (tmp_path, folder))
    assert written.keys() == theirs.keys()
    assert all(torch.equal(written[name], theirs[name]) for name in theirs)
    latents, texts = inputs()
    settings = [json.loads((place / "config.json").read_text()) for place in (tmp_path, folder)]
    models = [WanTransformer3DModel(**{k: v for k, v in given.items() if k[0] != "_"}) for given in settings]
    for model, tensors in zip(models, (written, theirs), strict=True):
        model.load_state_dict(tensors)
    with torch.no_grad():
        one, two = (model(latents.transpose(1, 2), torch.tensor([500, 500]), texts).sample for model in models)
    assert torch.equal(one, two)


def test_what_wan_has_not_is_not_written_as_wan(tmp_path: Path):
    narrow = TransformerConfig(in_channels=2, dim=12, num_heads=2, depth=0)
    for config in (narrow, replace(narrow, prompt_layers=2, input_skip=True)):
        with pytest.raises(ConfigError, match=r"one layer|input_skip"):
            save_wan_transformer(Transformer(config), tmp_path, "original")
    assert not list(tmp_path.iterdir())


def test_the_original_layout_is_the_one_that_wan_ships(ours: Transformer, tmp_path: Path):
    save_wan_transformer(ours, tmp_path, "original")
    shapes = {
        name: list(value.shape) for name, value in load_file(tmp_path / "diffusion_pytorch_model.safetensors").items()
    }
    assert shapes["patch_embedding.weight"] == [64, 4, 1, 2, 2]
    assert shapes["text_embedding.2.weight"] == [64, 64]
    assert shapes["time_projection.1.weight"] == [384, 64]
    assert shapes["blocks.1.self_attn.norm_k.weight"] == [64]
    assert shapes["blocks.0.cross_attn.o.bias"] == [64]
    assert shapes["blocks.0.norm3.bias"] == [64]
    assert shapes["blocks.0.ffn.2.weight"] == [64, 48]
    assert shapes["blocks.0.modulation"] == [1, 6, 64]
    assert shapes["head.modulation"] == [1, 2, 64]
    assert shapes["head.head.weight"] == [16, 64]
    assert json.loads((tmp_path / "config.json").read_text())["num_heads"] == 2
    assert same(load_wan_transformer(tmp_path, LATENT), ours)


def same(one: Transformer, two: Transformer) -> bool:
    first, second = one.state_dict(), two.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    "prefix",
    ["", "model.", "model._fsdp_wrapped_module.", "_orig_mod.model.", "model.diffusion_model."],
)
def test_prefixes_of_wrappers_are_taken_off(prefix: str, ours: Transformer, tmp_path: Path):
    tensors = to_layout(ours.state_dict(), WanLayout.ORIGINAL, 4, (2, 2))
    wrapped = {
        prefix + re.sub(r"^(blocks\.\d+\.)", r"\1_checkpoint_wrapped_module.", name): value
        for name, value in tensors.items()
    }
    torch.save({"generator": wrapped}, tmp_path / "model.pt")
    assert same(load_wan_transformer(tmp_path / "model.pt", LATENT, num_heads=2), ours)


def test_a_training_checkpoint_gives_its_average_unless_another_network_is_named(ours: Transformer, tmp_path: Path):
    tensors = to_layout(ours.state_dict(), WanLayout.ORIGINAL, 4, (2, 2))
    file = tmp_path / "model.pt"
    parts = {"critic": -1.0, "generator": 2.0, "generator_ema": 1.0}
    torch.save(
        {name: {key: scale * value for key, value in tensors.items()} for name, scale in parts.items()} | {"step": 600},
        file,
    )
    for part, scale in {None: 1.0, **parts}.items():
        bias = load_wan_transformer(file, LATENT, part=part, num_heads=2).head.head.bias
        assert torch.equal(bias, scale * ours.head.head.bias)
    with pytest.raises(CheckpointError, match=r"got part='model'; .* holds generator_ema, generator, critic"):
        load_wan_transformer(file, LATENT, part="model", num_heads=2)


def test_missing_extra_and_misshapen_tensors_are_named(folder: Path, tmp_path: Path):
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    del tensors["blocks.1.attn2.norm_q.weight"]
    tensors["blocks.0.attn2.add_k_proj.weight"] = torch.zeros(2)
    tensors["proj_out.bias"] = torch.zeros(5)
    save_file(tensors, tmp_path / "wrong.safetensors")
    with pytest.raises(CheckpointError) as caught:
        load_wan_transformer(tmp_path / "wrong.safetensors", LATENT, num_heads=2)
    message = str(caught.value)
    assert "1 missing: blocks.1.attn2.norm_q.weight" in message
    assert "1 extra: blocks.0.attn2.add_k_proj.weight" in message
    assert "1 of another shape: proj_out.bias [5] instead of [16]" in message


def test_what_is_no_wan_is_refused_by_what_it_holds(tmp_path: Path):
    save_file({"conv.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"no transformer of Wan: got conv\.weight; expected"):
        load_wan_transformer(tmp_path / "other.safetensors", LATENT)
    with pytest.raises(CheckpointError, match="there are no weights at"):
        load_wan_transformer(tmp_path / "nothing", LATENT)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="holds no weights"):
        load_wan_transformer(tmp_path / "empty", LATENT)


def test_a_file_that_would_run_code_is_refused(tmp_path: Path):
    torch.save({"generator": print}, tmp_path / "code.pt")
    with pytest.raises(CheckpointError, match="tensors alone"):
        load_wan_transformer(tmp_path / "code.pt", LATENT)


def test_heads_that_tensors_do_not_tell_are_asked_for(ours: Transformer, tmp_path: Path):
    torch.save(to_layout(ours.state_dict(), WanLayout.ORIGINAL, 4, (2, 2)), tmp_path / "bare.pth")
    with pytest.raises(CheckpointError, match=r"64 wide, .* give num_heads"):
        load_wan_transformer(tmp_path / "bare.pth", LATENT)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"hello world", "damaged, of another kind, or would have to run code"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "a page of HTML"),
    ],
)
@pytest.mark.parametrize("name", ["model.pt", "model.safetensors"])
def test_what_is_no_checkpoint_at_all_is_named_for_what_it_is(content: bytes, said: str, name: str, tmp_path: Path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_wan_transformer(tmp_path / name, LATENT)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize(("content", "said"), [("{broken", "cannot be read as JSON"), ("[]", "holds a list")])
def test_a_broken_config_is_named(content: str, said: str, folder: Path, tmp_path: Path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=rf"config\.json {said}"):
        load_wan_transformer(tmp_path / "copy", LATENT)


def test_shards_are_put_together_and_several_checkpoints_are_refused(ours: Transformer, tmp_path: Path):
    tensors = to_layout(ours.state_dict(), WanLayout.ORIGINAL, 4, (2, 2))
    names = sorted(tensors)
    for number, part in enumerate((names[:20], names[20:])):
        save_file({name: tensors[name].contiguous() for name in part}, tmp_path / f"part-{number}.safetensors")
    assert same(load_wan_transformer(tmp_path, LATENT, num_heads=2), ours)
    for name, held in (("bare", [tensors, tensors]), ("parts", [{"generator": tensors}, {"generator_ema": tensors}])):
        (tmp_path / name).mkdir()
        torch.save(held[0], tmp_path / name / "a_dmd.pt")
        torch.save(held[1], tmp_path / name / "b_other.pt")
        with pytest.raises(
            CheckpointError, match=r"holds several checkpoints: a_dmd\.pt, b_other\.pt; .* Name the file"
        ):
            load_wan_transformer(tmp_path / name, LATENT, num_heads=2)


def changed(folder: Path, to: Path, **settings: object) -> Path:
    shutil.copytree(folder, to, dirs_exist_ok=True)
    before = json.loads((folder / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(before | settings))
    return to


@pytest.mark.parametrize(
    "wrong",
    [{"patch_size": [1, 1, 4]}, {"num_layers": 3}, {"ffn_dim": 64}, {"qk_norm": None}, {"eps": "small"}],
)
def test_a_config_that_the_tensors_contradict_is_refused(wrong: dict[str, object], folder: Path, tmp_path: Path):
    (name, value) = next(iter(wrong.items()))
    with pytest.raises(CheckpointError, match=re.escape(f"{name}={value!r} for")):
        load_wan_transformer(changed(folder, tmp_path, **wrong), LATENT)


def test_what_tensors_do_not_tell_is_read(folder: Path, tmp_path: Path):
    assert load_wan_transformer(changed(folder, tmp_path, eps=1e-3), LATENT).config.eps == 1e-3


@pytest.mark.parametrize(
    ("given", "said"), [(4, "num_attention_heads=2 for 4"), (0, "does not divide into num_heads=0")]
)
def test_other_heads_than_the_configs_are_refused(given: int, said: str, folder: Path):
    with pytest.raises(CheckpointError, match=said):
        load_wan_transformer(folder, LATENT, num_heads=given)
