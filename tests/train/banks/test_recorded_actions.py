"""From a Minari dataset of any kind of action to a world that takes it; and what is refused on the way."""

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

from cfworld import Start, World
from cfworld.configs.schema import WorldSettings
from cfworld.data import EpisodeStore
from cfworld.errors import ActionError, ConfigError, DatasetError
from cfworld.prompts import ActionConfig, ActionKind, ActionPart, TextConfig
from cfworld.tokenizer import BlockVAE
from cfworld.tokenizer.block_vae_files import write_block_vae
from cfworld.train.banks.dataset import open_dataset, read_latents
from cfworld.train.banks.recorded_actions import check_bounds, fits, measured, text_table
from cfworld.train.build import init_stage, run_folder, teacher_stage
from cfworld.train.consistency import InitStageConfig
from cfworld.train.erft import ErftConfig
from cfworld.train.loop import run
from cfworld.train.loop_config import LoopConfig
from cfworld.train.teacher import TeacherStageConfig
from tests.toy import ACTIONS, DICT, KINDS, MULTI, TEXT, toy_world
from tests.train.toy_dataset import settings

TICKS = 40
SPACES: dict[str, spaces.Space] = {
    "multi": spaces.MultiDiscrete([2, 2, 3]),
    "box": spaces.Box(np.array([-1, 0], np.float32), np.array([1, 2], np.float32)),
    "text": spaces.Text(40),
    "dict": spaces.Dict(
        mouse=spaces.Box(-1, 1, (2,), np.float32),
        keyboard=spaces.MultiDiscrete([2, 2, 3]),
        move=spaces.Discrete(3),
        say=spaces.Text(40),
    ),
}


def write(kind: str, data: str = "data") -> WorldSettings:
    """One random episode that Minari wrote, and the settings of a world that fits it."""
    space = SPACES[kind]
    space.seed(0)
    taken: Any = [space.sample() for _ in range(TICKS)]
    storage = MinariStorage.new(
        Path(data).absolute(),
        observation_space=spaces.Box(0, 255, (64, 64, 3), np.uint8),
        action_space=space,
        jpeg_encoding=False,
    )
    frames = np.random.default_rng(0).integers(0, 255, (TICKS + 1, 64, 64, 3), np.uint8)
    if isinstance(space, spaces.Dict):
        taken = {name: [action[name] for action in taken] for name in space.spaces}
    buffer = EpisodeBuffer(
        observations=list(frames),
        actions=taken,
        rewards=[0.0] * TICKS,
        terminations=[False] * TICKS,
        truncations=[False] * (TICKS - 1) + [True],
    )
    storage.update_episodes([buffer])
    storage.update_metadata({"dataset_id": "toy-v0", "minari_version": minari.__version__})
    return settings(data, actions=KINDS[kind])


def teacher_config(steps: int = 2) -> TeacherStageConfig:
    loop = LoopConfig(steps=steps, batch_size=2, warmup=0, save_every=steps, sample_every=0, log_every=1, lr=3e-3)
    return TeacherStageConfig(
        loop=loop, min_latents=4, clip_latents=8, erft=ErftConfig(start_step=9), sheet_rows=1, sheet_latents=4
    )


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", SPACES)
def test_a_dataset_of_any_kind_of_action_trains_a_world_that_takes_it(kind: str) -> None:
    world = write(kind)
    write_block_vae(BlockVAE(world.tokenizer), run_folder(world.name, "tokenizer") / "export")
    stage, depends = teacher_stage(world, teacher_config(), "cpu")
    before = {name: value.clone() for name, value in stage.module.named_parameters() if "prompts" in name}
    run(stage, teacher_config().loop, Path("runs/toy/teacher"), "cpu", {"world": depends})
    learnt = dict(stage.module.named_parameters())
    assert before
    assert all(not torch.equal(learnt[name], value) for name, value in before.items() if not name.endswith("null"))

    made = World.from_pretrained("runs/toy/teacher/export")
    action = ACTIONS[kind]
    batch = {name: [part] for name, part in action.items()} if kind == "dict" else [action]
    _, out = made.step(made.initial(seeds=[0])[0], batch)
    assert out.latents.isfinite().all()
    assert made.num_starts == 1
    if kind == "box":
        assert made.config.actions.settings() == depends["actions"]
        assert len(made.config.actions.mean) == 2


def test_a_student_goes_by_its_teachers_statistics() -> None:
    world = write("box")
    write_block_vae(BlockVAE(world.tokenizer), run_folder(world.name, "tokenizer") / "export")
    stage, depends = teacher_stage(world, teacher_config(), "cpu")
    run(stage, teacher_config().loop, run_folder(world.name, "teacher"), "cpu", {"world": depends})
    student, _ = init_stage(world, InitStageConfig(min_latents=4, clip_latents=4), "cpu")
    assert student.module.prompts.config.std == depends["actions"]["std"]  # type: ignore[union-attr]
    more, again = teacher_stage(world, replace(teacher_config(), init_from="runs/toy/teacher/export"), "cpu")
    assert again["actions"] == depends["actions"]
    assert more.batch(0).clips.actions.shape == (2, 8, 4, 2)
    other = replace(world, actions=replace(world.actions, mean=[9.0, 9.0], std=[1.0, 1.0]))
    with pytest.raises(ConfigError, match="the settings ask for actions="):
        init_stage(other, InitStageConfig(), "cpu")


def test_a_latent_bank_keeps_numbers_of_texts_and_gives_their_encodings() -> None:
    world = write("dict")
    store = open_dataset(world, "data")
    tokenizer = BlockVAE(world.tokenizer)
    for _ in range(2):  # the second time from the cache
        bank = read_latents(world, "data", store, tokenizer, "cpu")
        assert bank.actions.shape == (10, 4, 3 + 2 + 1 + 1)
        assert bank.actions_at(torch.tensor([3])).shape == (1, 4, 3 + 2 + 1 + 4 * 8)
    episode = minari.MinariDataset(Path("data").absolute())[0]
    tick = 3 * 4 + 1
    taken = {name: part[tick] for name, part in episode.actions.items()}
    expected = world.actions.prompts(4, 4).check(taken, None, 1)[0, 0]
    torch.testing.assert_close(bank.actions_at(torch.tensor([3]))[0, 1], expected)


def test_texts_may_be_encoded_by_ones_own_encoder() -> None:
    own = ActionConfig(text=TextConfig(max_length=40, tokens=1, width=2, encoder="lengths"))
    with pytest.raises(ConfigError, match="'lengths' does not ship"):
        text_table(own, ["a", "bcd"])
    table = text_table(own, ["a", "bcd"], lambda texts: [[len(text), 1] for text in texts])
    assert table is not None
    assert table(torch.tensor([[1, 0]])).tolist() == [[[3, 1], [1, 1]]]
    with pytest.raises(ActionError, match="got a text of 41 characters"):
        text_table(TEXT, ["a" * 41])


def test_statistics_are_those_of_the_data() -> None:
    actions = ActionConfig(low=[-10.0, 0.0], high=[10.0, 4.0])
    recorded = torch.tensor([[[1.0, 2.0], [3.0, 2.0]], [[5.0, 2.0], [7.0, 2.0]]])
    found = measured(actions, recorded)
    assert found.mean == [4.0, 2.0]
    assert found.std == [2.23607, 0.1], "the second never varies: a twentieth of half its range"
    assert measured(found, recorded + 1).mean == [4.0, 2.0], "given statistics stay"


def test_statistics_of_a_part_come_from_its_own_columns() -> None:
    recorded = torch.zeros(2, 1, 7)
    recorded[1, 0, 3:5] = torch.tensor([0.5, -1.0])  # keyboard 0 to 2, mouse 3 and 4
    found = measured(DICT, recorded)
    assert found.parts["mouse"].mean == [0.25, -0.5]
    assert found.parts["mouse"].std == [0.25, 0.5]
    assert found.parts["keyboard"] == DICT.parts["keyboard"]
    assert measured(MULTI, torch.zeros(2, 1, 3, dtype=torch.int64)) == MULTI
    recorded[1, 0, 4] = -1.5
    with pytest.raises(ConfigError, match=r"'d' reach from .*actions.parts.mouse.low=\[-1.0, -1.0\]"):
        check_bounds(DICT, recorded, "d")


@pytest.mark.parametrize("kind", SPACES)
def test_a_dataset_fits_a_world_of_its_own_kind_alone(kind: str) -> None:
    assert [other for other, actions in KINDS.items() if fits(SPACES[kind], actions)] == [kind]


@pytest.mark.parametrize(
    ("space", "actions"),
    [
        (spaces.MultiDiscrete([2, 3]), ActionConfig(multi=[3, 2])),
        (spaces.MultiDiscrete([2]), ActionConfig(num_actions=2)),
        (spaces.Discrete(2), ActionConfig(multi=[2])),
        (spaces.Dict(a=spaces.Discrete(2)), ActionConfig(parts={"b": ActionPart(num_actions=2)})),
        (spaces.Dict(a=spaces.Discrete(2)), ActionConfig(parts={"a": ActionPart(num_actions=3)})),
    ],
)
def test_other_sizes_and_names_do_not_fit(space: spaces.Space, actions: ActionConfig) -> None:
    assert not fits(space, actions)
    assert fits(spaces.MultiBinary(2), ActionConfig(multi=[2, 2]))


@pytest.mark.parametrize(
    ("space", "actions", "expected"),
    [
        (spaces.Discrete(2), ActionConfig(num_actions=3), True),
        (spaces.Discrete(4), ActionConfig(num_actions=3), False),
        (spaces.MultiDiscrete([2, 1]), ActionConfig(multi=[2, 3]), True),
        (spaces.MultiDiscrete([3, 1]), ActionConfig(multi=[2, 3]), False),
        (spaces.MultiDiscrete([2]), ActionConfig(multi=[2, 3]), False),
        (spaces.Box(-1, 1, (2,)), ActionConfig(multi=[2, 3]), False),
        (spaces.Dict(a=spaces.Discrete(2)), ActionConfig(parts={"a": ActionPart(num_actions=3)}), True),
    ],
)
def test_where_actions_were_counted_the_world_may_have_more(
    space: spaces.Space, actions: ActionConfig, expected: bool
) -> None:
    assert fits(space, actions, at_most=True) is expected


def test_a_dataset_of_other_parts_is_refused() -> None:
    world = write("dict")
    with pytest.raises(DatasetError, match=r"are Dict\(.*but the world's are .*'multi': \[2, 2, 3\].*make them agree"):
        open_dataset(replace(world, actions=MULTI), "data")
    assert EpisodeStore.open("data").texts
    assert world.actions.kind is ActionKind.DICT


@pytest.mark.parametrize("kind", SPACES)
def test_an_episode_begins_at_a_moment_of_a_dataset_of_any_kind_of_action(kind: str) -> None:
    write(kind)
    world, taken = toy_world(actions=KINDS[kind]), minari.MinariDataset(Path("data").absolute())[0].actions
    start = Start.from_episode("data", tick=12, num_latents=2)
    state, _ = world.initial(seeds=[0], starts=[start])
    recorded = {name: part[8:12] for name, part in taken.items()} if kind == "dict" else taken[8:12]
    expected = world.generator.prompts.check(recorded, None, 4)[0]
    assert torch.equal(state.memory.actions[0, state.memory.valid[0]][-1], expected)
