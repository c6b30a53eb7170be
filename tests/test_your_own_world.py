"""The recipe of docs/your-own-world.md, at toy size: its files are written, its scripts and commands are run."""

import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from cfworld import World
from cfworld.cli import main as cli
from cfworld.data import EpisodeStore
from cfworld.errors import DatasetError
from tests.hydra_tools import forgetful

PAGE = Path(__file__).parents[1] / "docs" / "your-own-world.md"
TINY_WORLD = (
    "world.tokenizer.latent_channels=4",
    "world.tokenizer.widths=[16,16,16]",
    "world.tokenizer.decoder_depths=[1,1,1]",
    "world.transformer.dim=24",
    "world.transformer.depth=2",
    "world.transformer.num_heads=2",
    "world.transformer.ffn_dim=48",
    "stage.loop.batch_size=2",
    "stage.loop.warmup=0",
)
TINY_ROLLOUTS = (
    "stage.loop.steps=2",
    "stage.generator_every=2",
    "stage.min_latents=5",
    "stage.sheet_rows=1",
    "stage.sheet_latents=8",
)
TINY = {
    "stage=tokenizer": (
        *TINY_WORLD,
        "stage.loop.steps=3",
        "stage.num_statistics_blocks=8",
        "stage.num_eval_blocks=8",
    ),
    "stage=teacher": (
        *TINY_WORLD,
        "stage.loop.steps=2",
        "stage.clip_latents=12",
        "stage.min_latents=4",
        "stage.sheet_rows=1",
        "stage.sheet_latents=8",
    ),
    "stage=init": (
        *TINY_WORLD,
        "stage.loop.steps=2",
        "stage.clip_latents=12",
        "stage.min_latents=4",
        "stage.sheet_rows=1",
        "stage.sheet_latents=8",
    ),
    "stage=local": (*TINY_WORLD, *TINY_ROLLOUTS, "stage.num_targets=2"),
    "stage=context": (*TINY_WORLD, *TINY_ROLLOUTS, "stage.curriculum={shortest:0,first:1,last:2,ramp_steps:2}"),
    "stage=heads": (
        *TINY_WORLD,
        "stage.loop.steps=2",
        "stage.clip_latents=12",
        "stage.eval_clips=2",
        "stage.calibration_rollouts=2",
        "stage.calibration_latents=2",
        "stage.novelty={clips:4,clip_latents:4}",
    ),
    "frames=600": ("frames=12",),
}
"""What is added to a command of the page, by a word of it."""

pytestmark = [
    pytest.mark.sources,
    pytest.mark.filterwarnings("ignore::UserWarning:minari"),
    pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder to work in, with local Minari datasets of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    ids = set(gym.registry)
    yield tmp_path
    for name in gym.registry.keys() - ids:
        del gym.registry[name]


def files_of_the_page() -> dict[str, str]:
    blocks = re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return dict(blocks)


def commands_of_the_page() -> list[list[str]]:
    blocks = re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return [shlex.split(line) for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def write(folder: Path, name: str, **changes: str) -> str:
    """Write a file of the page, with a few words changed to make it small."""
    text = files_of_the_page()[name]
    for old, new in changes.items():
        assert text.count(old) == 1, f"{name} says {old!r} {text.count(old)} times"
        text = text.replace(old, new)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def run(command: list[str]) -> None:
    """Run a command of the page at toy size."""
    program, *arguments = command
    assert program == "cfworld"
    tiny = [override for word, overrides in TINY.items() if word in arguments for override in overrides]
    assert tiny
    wider = ["world.tokenizer.latent_channels=6"] if "world=lamp_48" in arguments else []
    cfworld(*arguments, *tiny, *wider)


def cfworld(*arguments: str) -> None:
    """Run a command, and forget what it told Hydra."""
    with forgetful():
        cli.main(arguments)


def test_the_recipe_leads_from_a_simulator_to_an_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["test"])
    write(folder, "lamp_env.py")
    write(folder, "worlds/world/lamp.yaml")
    write(folder, "worlds/world/lamp_48.yaml")
    runpy.run_path(
        write(folder, "record.py", **{'("train", 400, 0)': '("train", 5, 0)', '("eval", 60, ': '("eval", 3, '}),
        run_name="__main__",
    )
    for command in commands_of_the_page():
        run(command)
    wide = World.from_pretrained(folder / "runs/lamp_48/teacher/export").config
    assert (wide.tokenizer.latent_shape, wide.transformer.input_skip) == ((6, 6, 8), True)
    assert (folder / "outputs/lamp/rollout.mp4").stat().st_size > 0

    played = runpy.run_path(write(folder, "play.py", **{"range(200)": "range(3)"}))
    assert played["env"].spec.id == "cfworld/World-v0"
    assert played["env"].action_space == spaces.Box(-1.0, 1.0, (2,))
    assert played["env"].unwrapped.world.variant == "student"
    assert played["observation"].shape == (48, 64, 3)
    assert np.isfinite(played["reward"])

    spanned = runpy.run_path(write(folder, "span.py", **{"range(400)": "range(16)"}))
    assert spanned["rate"] == 1.0  # the first check always promotes
    seconds = spanned["latents"] * spanned["world"].config.frames_per_latent / spanned["world"].config.fps
    assert seconds == pytest.approx(27.4)  # as the page says
    assert "nominal span 27.4 s" in capsys.readouterr().out

    with pytest.raises(SystemExit):
        cfworld("evaluate", "world=runs/lamp/teacher/export", f"out={folder / 'judged'}")
    assert "expected the id of a twin" in capsys.readouterr().err


def recorded_elsewhere(dataset_id: str, *cameras: str, jpeg: bool = False) -> None:
    """A Minari dataset that cfworld had no part in: 8 episodes of 12 ticks, images in a Dict, a Box of actions."""
    rng = np.random.default_rng(0)
    entries: dict[str, spaces.Space] = {name: spaces.Box(0, 255, (24, 32, 3), np.uint8) for name in cameras}
    entries["joints"] = spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def episode(index: int) -> EpisodeBuffer:
        frames: dict[str, Any] = {name: list(rng.integers(0, 255, (13, 24, 32, 3), np.uint8)) for name in cameras}
        last = np.arange(12) == 11
        return EpisodeBuffer(
            id=index,
            seed=index,
            observations=frames | {"joints": list(rng.normal(size=(13, 3)))},
            actions=list(rng.uniform(-1, 1, (12, 2)).astype(np.float32)),
            rewards=[1.0] * 12,
            terminations=list(last & (index % 2 == 0)),
            truncations=list(last & (index % 2 == 1)),
        )

    minari.create_dataset_from_buffers(
        dataset_id,
        [episode(index) for index in range(8)],
        observation_space=spaces.Dict(entries),
        action_space=spaces.Box(-1.0, 1.0, (2,), np.float32),
        jpeg_encoding=jpeg,
    )


def test_a_dataset_of_others_is_read_by_its_minari_id(folder: Path) -> None:
    recorded_elsewhere("somebody/recordings-v0", "camera")
    store = EpisodeStore.open("somebody/recordings-v0")
    episode = store.episode(3)
    assert (len(store), store.lengths.tolist(), store.seeds.tolist()) == (8, [12] * 8, list(range(8)))
    assert (episode.frames.shape, episode.actions.dtype) == ((13, 24, 32, 3), np.float32)
    assert (episode.terminated, episode.truncated) == (False, True)


def test_a_dataset_of_others_is_split_and_scaled(folder: Path) -> None:
    recorded_elsewhere("somebody/recordings-v0", "camera")
    changes = {"HEIGHT, WIDTH = 48, 64": "HEIGHT, WIDTH = 8, 16", "download=True": "download=False"}
    runpy.run_path(write(folder, "reshape.py", **changes))
    before = EpisodeStore.open("somebody/recordings-v0").episode(1)
    train, held_out = (EpisodeStore.open(f"lamp/{split}-v0") for split in ("train", "eval"))
    assert (len(train), len(held_out)) == (7, 1)
    after = train.episode(0)
    blocks = before.frames.reshape(13, 8, 3, 16, 2, 3).mean(axis=(2, 4))  # 3x2 pixels become one
    assert np.abs(after.frames - blocks).max() < 1  # Pillow rounds after each axis
    assert np.array_equal(after.actions, before.actions)
    assert (after.terminated, after.truncated) == (False, True)


def test_one_image_of_several_is_named_in_the_worlds_file(folder: Path) -> None:
    recorded_elsewhere("somebody/recordings-v0", "front", "wrist", jpeg=True)
    with pytest.raises(DatasetError, match="'front', 'wrist'"):
        EpisodeStore.open("somebody/recordings-v0")
    write(folder, "worlds/world/lamp.yaml")
    data = [f"world.{split}_data=somebody/recordings-v0" for split in ("train", "eval")]
    sizes = ["world.tokenizer.resolution=[24,32]", "world.transformer.latent_size=[3,4]"]
    run([*commands_of_the_page()[0], *data, *sizes, "world.transformer.patch_size=[1,1]", "world.image_key=wrist"])
    assert "image_key: wrist" in Path("runs/lamp/tokenizer/config.yaml").read_text()
