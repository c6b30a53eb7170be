"""Worlds that were imported from Wan are trained on: their tokenizer, texts and sizes come with them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
import torch
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from cfworld import World
from cfworld.configs.schema import WorldSettings
from cfworld.data import EpisodeStore
from cfworld.errors import ConfigError, UnknownWorldError
from cfworld.model import Generator
from cfworld.prompts.umt5 import UMT5Texts
from cfworld.rollout import SamplerConfig, Solver
from cfworld.tokenizer import WanVAE
from cfworld.train.banks.latent_bank import encode_store
from cfworld.train.build import heads_stage, init_stage, like_imported, local_stage, teacher_stage, tokenizer_stage
from cfworld.train.consistency import InitStageConfig
from cfworld.train.erft import ErftConfig
from cfworld.train.heads import HeadsStageConfig
from cfworld.train.local import LocalStageConfig
from cfworld.train.loop import run
from cfworld.train.loop_config import LoopConfig
from cfworld.train.teacher import TeacherStage, TeacherStageConfig
from cfworld.train.tokenizer import TokenizerStageConfig
from tests.wan_toy import TABLE, pipeline_folder, wan_world

TICKS = 60
SAMPLER = SamplerConfig(solver=Solver.EULER, num_steps=2, guidance=2.0)
TEACHER = TeacherStageConfig(
    loop=LoopConfig(steps=1, batch_size=2, warmup=0, sample_every=1, lr=1e-3, log_every=1),
    clip_latents=6,
    min_latents=6,
    num_copies=1,
    prompt_dropout=0.5,
    sheet_rows=1,
    sheet_latents=9,
)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipeline_folder(tmp_path_factory.mktemp("wan"))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch):
    """On processors with fast bfloat16, too: what is compared here is compared exactly."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)


def write_dataset(space: spaces.Space, actions: list[Any]) -> None:
    """Two episodes of noise, 15 latents each, whose actions change in the middle; Minari writes them."""
    rng = np.random.default_rng(0)
    images = spaces.Box(0, 255, (16, 16, 3), np.uint8)
    storage = MinariStorage.new(Path("data").resolve(), observation_space=images, action_space=space)
    never = [False] * TICKS
    storage.update_episodes(
        EpisodeBuffer(
            observations=list(rng.integers(0, 255, (TICKS + 1, 16, 16, 3), np.uint8)),
            actions=[actions[0]] * 30 + [actions[1]] * 30,
            rewards=[0.0] * TICKS,
            terminations=never,
            truncations=never,
        )
        for _ in range(2)
    )
    storage.update_metadata({"dataset_id": "toy-v0", "minari_version": minari.__version__})


def settings(imported: World) -> WorldSettings:
    imported.save_pretrained("imported")
    return like_imported(
        WorldSettings(
            name="toy",
            imported="imported",
            train_data="data",
            held_out=0.5,
            prefix_latents=3,
            memory=imported.config.memory,
            sampler=SAMPLER,
        )
    )


def test_a_student_of_named_actions_is_trained_on_as_a_teacher(pipeline: Path, here: Path):
    write_dataset(spaces.Discrete(2), [0, 1])
    imported = wan_world(pipeline, actions=TABLE)
    stage, _ = teacher_stage(settings(imported), TEACHER, "cpu")
    assert isinstance(stage, TeacherStage)
    for name, value in imported.generator.state_dict().items():
        assert torch.equal(stage.module.state_dict()[name], value), f"{name} is where it begins"
    figures = run(stage, TEACHER.loop, here / "run", "cpu", {})
    assert figures["last"]["flow"] > 0
    assert figures["last"]["reward"] == figures["last"]["hazard"] == 0, "there are no heads"
    trained = World.from_pretrained(here / "run" / "export", variant="teacher", precision="fp32")
    assert isinstance(trained.tokenizer, WanVAE)
    assert trained.config.sampler == SAMPLER
    assert trained.num_starts == 1
    weights = (world.generator.transformer.head.head.weight for world in (trained, imported))
    assert not torch.equal(*weights)
    state, _ = trained.initial([0])
    assert trained.step(state, ["darken"])[1].frames is not None


def test_a_run_depends_on_what_the_import_holds(pipeline: Path, here: Path):
    write_dataset(spaces.Discrete(2), [0, 1])
    depends = []
    for shift in (0.0, 0.0, 1.0):
        imported = wan_world(pipeline, actions=TABLE)
        imported.generator.transformer.head.head.bias.add_(shift)
        depends.append(teacher_stage(settings(imported), TEACHER, "cpu")[1]["imported"])
    assert depends[0] == depends[1] != depends[2]


def test_an_import_that_is_not_there_is_asked_for():
    with pytest.raises(UnknownWorldError, match="cfworld import-wan out=nowhere"):
        like_imported(WorldSettings(name="toy", imported="nowhere"))


def test_texts_are_encoded_once_and_teacher_init_and_local_follow_one_another(
    pipeline: Path, here: Path, monkeypatch: pytest.MonkeyPatch
):
    write_dataset(spaces.Text(60), ["a red door opens", "the sky darkens"])
    world = settings(wan_world(pipeline))
    asked = []
    features = UMT5Texts._features
    monkeypatch.setattr(UMT5Texts, "_features", lambda self, text: asked.append(text) or features(self, text))
    stage, _ = teacher_stage(world, TEACHER, "cpu")
    assert sorted(asked) == ["", "a red door opens", "the sky darkens"]
    assert isinstance(stage, TeacherStage)
    assert isinstance(stage.module, Generator)
    assert stage.batch(0).clips.actions.shape == (2, 6, 4, 60)
    expected = UMT5Texts.from_folder(pipeline, 6)(["a red door opens"])[0]
    encode = stage.module.prompts
    assert isinstance(encode, torch.nn.Module)
    prompts = encode(stage.train.actions_at(torch.tensor([0])))
    assert torch.equal(prompts[0], expected), "what a dataset says is what the network is shown"
    asked.clear()
    run(stage, replace(TEACHER.loop, sample_every=0), Path("runs/toy/teacher"), "cpu", {})
    short: dict[str, Any] = {"loop": TEACHER.loop, "sheet_rows": 1, "sheet_latents": 9}
    clip: dict[str, Any] = {"clip_latents": 6, "min_latents": 6, "num_copies": 1, "num_levels": 2, "num_steps": 1}
    init, _ = init_stage(world, InitStageConfig(**short, **clip, erft=ErftConfig(max_sigma=1.0)), "cpu")
    run(init, TEACHER.loop, Path("runs/toy/init"), "cpu", {})
    local = LocalStageConfig(**short, num_targets=1, num_steps=1, min_latents=6, generator_every=1)
    distilled, _ = local_stage(world, local, "cpu")
    run(distilled, TEACHER.loop, Path("runs/toy/local"), "cpu", {})
    assert not asked, "all of them read the file of the first"
    student = World.from_pretrained("runs/toy/local/export", precision="fp32")
    assert student.step(student.initial([0])[0], ["the red sky"])[1].frames is not None, "it takes new texts too"


def test_an_import_without_its_encoder_cannot_be_trained_on_texts(pipeline: Path, here: Path):
    write_dataset(spaces.Text(60), ["a red door opens", "the sky darkens"])
    with pytest.raises(ConfigError, match="Import it again with text_encoder"):
        teacher_stage(settings(wan_world(pipeline, text_encoder=None)), TEACHER, "cpu")


def test_what_wan_has_not_is_not_trained(pipeline: Path, here: Path):
    write_dataset(spaces.Discrete(2), [0, 1])
    world = settings(wan_world(pipeline, actions=TABLE))
    with pytest.raises(ConfigError, match="Begin with stage=teacher"):
        tokenizer_stage(world, TokenizerStageConfig(), "cpu")
    with pytest.raises(ConfigError, match="has no heads"):
        heads_stage(world, HeadsStageConfig(student="imported"), "cpu")


def test_an_episode_is_encoded_as_one_video(pipeline: Path, here: Path):
    write_dataset(spaces.Discrete(2), [0, 1])
    tokenizer = wan_world(pipeline, actions=TABLE).tokenizer
    store = EpisodeStore.open("data")
    bank = encode_store(store, tokenizer, None, torch.device("cpu"), batch_size=4)
    frames = torch.from_numpy(store.episode(0).frames)[None, 1:]
    torch.testing.assert_close(bank.latents[:15].float(), tokenizer.encode(frames)[0], atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("change", [{"fps": 24}, {"opening": "darken"}])
def test_what_an_import_says_is_not_to_be_set(pipeline: Path, here: Path, change: dict[str, Any]):
    wan_world(pipeline, actions=TABLE).save_pretrained("imported")
    (name,) = change
    with pytest.raises(ConfigError, match=f"settings of world.{name} beside world.imported='imported'"):
        like_imported(WorldSettings(name="toy", imported="imported", **change))


@pytest.mark.parametrize("key", ["fps", "actions", "actions.num_actions", "transformer.depth"])
def test_what_an_import_says_is_not_to_be_set_to_what_is_usual_either(pipeline: Path, here: Path, key: str):
    wan_world(pipeline, actions=TABLE).save_pretrained("imported")
    usual = WorldSettings(name="toy", imported="imported")
    with pytest.raises(ConfigError, match=f"settings of world.{key} beside world.imported='imported'"):
        like_imported(usual, ["memory.num_slow", key])


def test_what_is_given_as_an_import_says_it_is_taken(pipeline: Path, here: Path):
    wan_world(pipeline, actions=TABLE).save_pretrained("imported")
    usual = WorldSettings(name="toy", imported="imported")
    taken = like_imported(usual)
    assert like_imported(replace(usual, fps=taken.fps), ["fps", "transformer.rope_theta", "name"]) == taken
    assert taken.transformer.rope_theta == usual.transformer.rope_theta
