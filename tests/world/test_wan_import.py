"""Parts of Wan's worlds, from where they are found: layouts, pipelines, and what is refused by name."""

import json
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from cfworld import World
from cfworld.errors import CheckpointError, ConfigError, MissingDependencyError
from cfworld.model import Transformer
from cfworld.model.wan_layouts import WanLayout, to_layout
from cfworld.model.wan_weights import save_wan_transformer
from cfworld.prompts.umt5 import UMT5Texts
from cfworld.tokenizer import TinyVAE, TinyVAEConfig, WanVAE, WanVAEConfig
from cfworld.world.wan import check_parts, settings_of
from cfworld.world.wan_vae_files import frame_coder_of
from tests.wan_toy import TABLE, pipeline_folder, randomised, wan_world


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline_folder(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def world(folder: Path) -> World:
    return wan_world(folder)


def test_the_same_network_in_another_layout_is_the_same_world(folder: Path, world: World, tmp_path: Path):
    transformer = world.generator.transformer
    save_wan_transformer(transformer, tmp_path / "original", "original")
    tensors = to_layout(transformer.state_dict(), WanLayout.ORIGINAL, 4, (2, 2))
    averaged = {f"model._fsdp_wrapped_module.{name}": value for name, value in tensors.items()}
    torch.save({"generator": {}, "generator_ema": averaged, "step": 600}, tmp_path / "model.pt")
    for given, settings in (
        (folder / "transformer", {}),
        (tmp_path / "original", {}),
        (tmp_path / "model.pt", {"num_heads": 2, "part": "generator_ema"}),
        (transformer, {}),
    ):
        assert wan_world(folder, transformer=given, **settings).fingerprint == world.fingerprint


def test_a_transformer_that_would_have_heads_is_taken_without(folder: Path, world: World):
    without = world.generator.transformer
    transformer = Transformer(replace(without.config, heads=True))
    transformer.load_state_dict(without.state_dict())
    with_heads = wan_world(folder, transformer=transformer)
    assert [name for name, _ in with_heads.generator.named_parameters()] == [
        name for name, _ in world.generator.named_parameters()
    ]
    assert with_heads.fingerprint == world.fingerprint


def test_parts_may_lie_apart_or_in_a_pipeline(folder: Path, world: World):
    apart = wan_world(folder, transformer=folder / "transformer", vae=str(folder / "vae"))
    assert apart.fingerprint == world.fingerprint
    assert torch.equal(apart.initial([7])[1], world.initial([7])[1])


def test_a_checkpoint_in_half_precision_is_computed_in_the_precision_that_was_asked_for(folder: Path, tmp_path: Path):
    tensors = load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
    halved = {name: value.bfloat16() for name, value in tensors.items()}
    save_file(halved, tmp_path / "half.safetensors")
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        world = wan_world(folder, transformer=tmp_path / "half.safetensors", num_heads=2, precision=precision)
        assert {value.dtype for value in world.generator.transformer.parameters()} == {dtype}
        assert {value.dtype for value in world.tokenizer.parameters()} == {dtype}


def test_a_tiny_vae_shows_the_same_latents(folder: Path, world: World, tmp_path: Path):
    tiny = randomised(TinyVAE(TinyVAEConfig(resolution=[32, 32], z_dim=4, width=4, widths=[6, 5, 4, 3])))
    torch.save(tiny.state_dict(), tmp_path / "taew2_1.pth")
    quick = wan_world(folder, vae=tmp_path / "taew2_1.pth", resolution=[32, 32])
    assert isinstance(quick.tokenizer, TinyVAE)
    state, frames = quick.initial([0])
    assert torch.equal(state.latents, world.initial([0])[0].latents), "the VAE has no part in what is generated"
    assert frames.shape == (1, 12, 32, 32, 3)
    quick.save_pretrained(tmp_path / "world")
    again = World.from_pretrained(tmp_path / "world", precision="fp32")
    assert torch.equal(again.initial([0])[1], frames)


def original_vae_names() -> list[str]:
    """Names of Wan2.1_VAE.pth, from the order of its modules."""

    def residual(place: str, *, widens: bool) -> list[str]:
        inner = [f"{place}.residual.{leaf}" for leaf in ("0.gamma", "2.weight", "2.bias", "3.gamma", "6.weight")]
        shortcut = [f"{place}.shortcut.{leaf}" for leaf in ("weight", "bias")] if widens else []
        return [*inner, f"{place}.residual.6.bias", *shortcut]

    def resample(place: str, *, time: bool) -> list[str]:
        layers = ["resample.1", "time_conv"] if time else ["resample.1"]
        return [f"{place}.{layer}.{leaf}" for layer in layers for leaf in ("weight", "bias")]

    def ends(half: str) -> list[str]:
        attention = [f"{half}.middle.1.{leaf}" for leaf in ("norm.gamma", "to_qkv.weight", "to_qkv.bias")]
        attention += [f"{half}.middle.1.proj.{leaf}" for leaf in ("weight", "bias")]
        first = [f"{half}.conv1.weight", f"{half}.conv1.bias", f"{half}.head.0.gamma"]
        head = [f"{half}.head.2.{leaf}" for leaf in ("weight", "bias")]
        middle = [name for place in (0, 2) for name in residual(f"{half}.middle.{place}", widens=False)]
        return first + head + attention + middle

    names = [f"conv{number}.{leaf}" for number in (1, 2) for leaf in ("weight", "bias")]
    names += ends("encoder") + ends("decoder")
    for place in range(11):  # two blocks a level, a halving between levels, the later two of time as well
        at = f"encoder.downsamples.{place}"
        names += resample(at, time=place > 2) if place % 3 == 2 else residual(at, widens=place in (3, 6))
    for place in range(15):  # three blocks a level, a doubling between levels, the earlier two of time as well
        at = f"decoder.upsamples.{place}"
        names += resample(at, time=place < 8) if place % 4 == 3 else residual(at, widens=place == 4)
    return names


def test_the_original_file_of_the_vae_has_all_that_diffusers_asks_for(tmp_path: Path):
    torch.save({name: torch.zeros(1) for name in original_vae_names()}, tmp_path / "Wan2.1_VAE.pth")
    config, tensors = frame_coder_of(tmp_path / "Wan2.1_VAE.pth", (480, 832))
    assert isinstance(config, WanVAEConfig)
    assert config.latent_shape == (16, 60, 104)
    with torch.device("meta"):
        assert tensors.keys() == WanVAE(config).state_dict().keys()


def refused(folder: Path, **changes) -> str:
    with pytest.raises((CheckpointError, ConfigError)) as caught:
        wan_world(folder, **changes)
    return str(caught.value)


def test_missing_extra_and_misshapen_tensors_of_a_vae_are_named(folder: Path, tmp_path: Path):
    tensors = load_file(folder / "vae" / "diffusion_pytorch_model.safetensors")
    del tensors["post_quant_conv.bias"]
    tensors["decoder.conv_out.bias"] = torch.zeros(5)
    tensors["more"] = torch.zeros(1)
    save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    (tmp_path / "config.json").write_text((folder / "vae" / "config.json").read_text())
    message = refused(folder, vae=tmp_path)
    assert "1 missing: vae.post_quant_conv.bias" in message
    assert "1 extra: vae.more" in message
    assert "1 of another shape: vae.decoder.conv_out.bias [5] instead of [3]" in message


def test_files_of_another_kind_are_refused_by_what_they_are(folder: Path, tmp_path: Path):
    assert "holds no transformer of Wan: got" in refused(folder, transformer=folder / "vae")
    transformer_alone = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    assert "holds no VAE for Wan's latents" in refused(folder, vae=transformer_alone)
    settings = json.loads((folder / "vae" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(settings | {"is_residual": True}))
    save_file({"a": torch.zeros(1)}, tmp_path / "diffusion_pytorch_model.safetensors")
    assert "with {'is_residual': True}; expected the AutoencoderKLWan of Wan 2.1" in refused(folder, vae=tmp_path)
    torch.save({"encoder.0.weight": torch.zeros(4, 3, 3, 3), "decoder.22.weight": torch.zeros(1)}, tmp_path / "t.pth")
    assert "holds no tiny VAE: missing decoder.1.weight" in refused(folder, vae=tmp_path / "t.pth")
    assert "there are no weights at" in refused(folder, vae=tmp_path / "nothing")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"dim_mult": None}, r"dim_mult=None; expected list\[int\]"),
        ({"latents_mean": ["a"] * 4}, r"latents_mean=\['a', 'a', 'a', 'a'\]; expected list\[float\]"),
        ({"latents_std": [0.0, 1.0, 1.0, 1.0]}, "expected finite numbers, deviations above 0"),
        ({"latents_mean": [0.0, 0.0, 0.0, float("nan")]}, "expected finite numbers, deviations above 0"),
        ({"base_dim": -3}, "got base_dim=-3; expected an integer of at least 1"),
    ],
)
def test_settings_of_a_vae_that_cannot_be_are_refused_by_name(
    folder: Path, tmp_path: Path, changes: dict[str, Any], named: str
):
    vae = Path(shutil.copytree(folder / "vae", tmp_path / "vae"))
    settings = json.loads((vae / "config.json").read_text())
    (vae / "config.json").write_text(json.dumps(settings | changes))
    with pytest.raises(CheckpointError, match=rf"config.json of .*vae is none of an AutoencoderKLWan: .*{named}"):
        frame_coder_of(vae, (16, 16))


def test_parts_and_settings_that_do_not_fit_together_are_refused(folder: Path, tmp_path: Path):
    assert "multiples of 4" in refused(folder, resolution=[18, 16])
    assert "expected height and width" in refused(folder, resolution=[16])
    assert "must be a multiple of patch_size" in refused(folder, resolution=[20, 16])
    assert "opening='jump'; expected one of the actions ['open', 'darken']" in refused(
        folder, actions=TABLE, opening="jump"
    )
    assert "without an encoder of their texts" in refused(folder, actions=TABLE, text_encoder=None)
    assert "got precision 'fp8'" in refused(folder, precision="fp8")
    assert "holds no config.json" in refused(folder, text_encoder=tmp_path)
    assert "got device='nowhere'" in refused(folder, device="nowhere")
    tiny = randomised(TinyVAE(TinyVAEConfig(resolution=[32, 32], z_dim=6, width=4, widths=[6, 5, 4, 3])))
    torch.save(tiny.state_dict(), tmp_path / "six.pth")
    message = refused(folder, vae=tmp_path / "six.pth", resolution=[32, 32])
    assert "makes latents [6, 4, 4], but the transformer expects [4, 4, 4]" in message
    with pytest.raises(TypeError, match="resolutoin"):
        wan_world(folder, resolutoin=[16, 16])


def test_parts_and_settings_of_another_kind_are_refused_by_name(folder: Path):
    for changes, said in (
        ({"text_encoder": folder / "vae"}, "is that of AutoencoderKLWan; expected model_type umt5"),
        ({"actions": {"a": 3}}, "got actions={'a': 3}; expected names, each with the text"),
        ({"actions": ["a"]}, "got actions=['a']; expected names, each with the text"),
        ({"opening": 3}, "got opening=3; expected a text"),
        ({"opening": "a" * 99}, "got an opening of 99 characters; expected at most max_length=60"),
        ({"name": ""}, "got name=''; expected a name"),
        ({"resolution": 3}, "got resolution=3; expected height and width"),
        ({"num_tokens": 0}, "got num_tokens=0; expected a whole number from 1"),
        ({"num_heads": 8}, "num_attention_heads=2 for 8"),
    ):
        assert said in refused(folder, **changes)


@pytest.mark.parametrize("name", ["transformer", "vae", "text_encoder"])
def test_a_part_that_is_no_path_is_refused(name: str):
    parts = {"transformer": "a", "vae": "b", "text_encoder": None} | {name: 3}
    with pytest.raises(ConfigError, match=f"got {name}=3; expected a path"):
        check_parts(**parts)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"memory": "huge"}, "got memory='huge'; expected a MemoryConfig or one of the presets"),
        ({"memory": 3}, "got memory=3; expected a MemoryConfig, or the name of a preset"),
        ({"sampler": "x"}, "got sampler='x'; expected a SamplerConfig"),
        ({"part": 3}, "got part=3; expected the name of a network"),
    ],
)
def test_settings_of_another_kind_are_refused(wrong: dict[str, Any], named: str):
    with pytest.raises(ConfigError, match=re.escape(named)):
        settings_of(wrong)


def test_a_preset_is_laid_over_the_papers_memory():
    memory = settings_of({"memory": "fast_only"}).memory
    assert (memory.num_slow, memory.latents_per_chunk, memory.recache) == (0, 3, True)


def test_an_encoder_that_cannot_be_read_leaves_nothing_behind(folder: Path, tmp_path: Path):
    shutil.copytree(folder / "text_encoder", tmp_path / "encoder")  # without its tokenizer
    world = wan_world(folder, text_encoder=tmp_path / "encoder")
    with pytest.raises(CheckpointError, match="holds no UMT5 encoder with its tokenizer"):
        world.save_pretrained(tmp_path / "world")
    assert not (tmp_path / "world").exists()


def test_a_variant_without_an_encoder_leaves_that_of_another_where_it_is(folder: Path, tmp_path: Path):
    for variant in ("teacher", "student"):
        world = wan_world(folder)
        world.variant = variant
        if variant == "student":
            world.generator.prompts.use_encoder(lambda texts: torch.ones(len(texts), 6, 16))
        world.save_pretrained(tmp_path)
    again: Any = World.from_pretrained(tmp_path, variant="teacher", precision="fp32").generator.prompts.encoder
    expected = UMT5Texts.from_folder(folder, num_tokens=6)(["the red door"])
    torch.testing.assert_close(again(["the red door"]), expected, atol=0.05, rtol=0.05, msg="stored in bfloat16")


@pytest.mark.parametrize(("actions", "count"), [(TABLE, 3), ({}, 1)])
def test_an_encoder_of_another_width_is_refused_at_once(folder: Path, actions: dict[str, str], count: int):
    message = refused(folder, actions=actions, text_encoder=lambda texts: torch.ones(len(texts), 6, 12))
    assert f"got tokens [{count}, 6, 12] from the encoder of texts; expected finite numbers [{count}, P, 16]" in message


def test_texts_are_encoded_as_transformers_does_and_are_zero_beyond_their_end(folder: Path):
    from transformers import AutoTokenizer
    from transformers.models.umt5.modeling_umt5 import UMT5EncoderModel

    encoder = UMT5Texts.from_folder(folder, num_tokens=6)
    found = encoder(["the  red\n door", "&quot;a&quot;", "a red blue door opens the sky"])
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    model = UMT5EncoderModel.from_pretrained(folder / "text_encoder").eval()
    ids = tokenizer(["the red door"], return_tensors="pt").input_ids
    assert ids.shape == (1, 4), "three words and the end"
    with torch.no_grad():
        expected = model(ids).last_hidden_state[0]
    torch.testing.assert_close(found[0, :4], expected, atol=1e-5, rtol=1e-5)
    assert (found[0, 4:] == 0).all()
    assert torch.equal(found[1], encoder(['"a"'])[0])
    assert (found[2] != 0).any(dim=-1).all(), "a longer text is cut"
    assert torch.equal(found[:1], encoder(["the red door"])), "whatever is encoded beside it"


def test_a_broken_encoder_of_texts_says_where_it_lies(folder: Path, tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "umt5"}')
    with pytest.raises(CheckpointError, match=r"holds no UMT5 encoder with its tokenizer"):
        UMT5Texts.from_folder(tmp_path)(["a"])


@pytest.mark.parametrize("package", ["diffusers", "transformers"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(
    package: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        MissingDependencyError, match=rf"{package}, which is not installed; run `pip install -e '\.\[wan\]'"
    ):
        wan_world(folder, actions=TABLE)
