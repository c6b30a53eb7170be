"""`cfworld train` as Hydra composes it: which stages a paradigm changes, and which refuse it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfworld.cli import train
from cfworld.configs.schema import WorldSettings
from cfworld.prompts import ActionConfig, ActionPart, TextConfig
from cfworld.train.distillation.distill import DistillConfig, Shown
from cfworld.train.processes.team import Team
from tests.toy import toy_world


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """The settings of stages 1 and 2 that are to be trained; nothing is."""
    return seen_by_stages(monkeypatch, tmp_path, lambda _world, settings: settings)


def seen_by_stages(
    monkeypatch: pytest.MonkeyPatch, folder: Path, look: Callable[[WorldSettings, Any], Any]
) -> list[Any]:
    """What `look` sees of the world and the settings of every stage that is to be trained."""
    seen: list[Any] = []

    def build(world: WorldSettings, settings: Any, _device: str, _team: Team) -> tuple[None, dict[str, Any]]:
        seen.append(look(world, settings))
        return None, {}

    monkeypatch.chdir(folder)
    monkeypatch.setattr(train, "STAGES", {name: (schema, build) for name, (schema, _) in train.STAGES.items()})
    monkeypatch.setattr(train, "run", lambda *_: {})
    return seen


@pytest.mark.parametrize("stage", ["local", "context"])
@pytest.mark.parametrize(
    ("paradigm", "scores", "student"),
    [
        ("context_forcing", Shown.MEMORY, Shown.MEMORY),
        ("longlive", Shown.WINDOW, Shown.MEMORY),
        ("self_forcing", Shown.WINDOW, Shown.WINDOW),
    ],
)
def test_a_paradigm_says_which_memory_is_shown(
    built: list[Any], monkeypatch: pytest.MonkeyPatch, stage: str, paradigm: str, scores: Shown, student: Shown
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", f"stage={stage}", f"paradigm={paradigm}", "stage.num_steps=2"])
    train.main()
    (settings,) = built
    assert isinstance(settings, DistillConfig)
    assert (settings.score_memory, settings.student_memory) == (scores, student)
    assert (settings.name, settings.num_steps) == (stage, 2)


def test_without_a_paradigm_the_stage_says_it_itself(built: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "stage=local", "stage.score_memory=WINDOW"])
    train.main()
    assert (built[0].score_memory, built[0].student_memory) == (Shown.WINDOW, Shown.MEMORY)


@pytest.mark.parametrize("stage", ["teacher", "init", "heads"])
def test_a_paradigm_is_refused_where_no_rollouts_are_judged(
    built: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stage: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["train", "paradigm=longlive", f"stage={stage}"])
    with pytest.raises(SystemExit):
        train.main()
    assert f"stage={stage}; paradigms belong to the stages local and context" in capsys.readouterr().err
    assert not built


def test_a_worlds_file_may_have_several_actions_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = seen_by_stages(monkeypatch, tmp_path, lambda world, _settings: world.actions)
    (tmp_path / "worlds" / "world").mkdir(parents=True)
    (tmp_path / "worlds" / "world" / "hands.yaml").write_text(HANDS)
    monkeypatch.setattr(sys, "argv", ["train", "--config-dir", "worlds", "world=hands", "stage=teacher"])
    train.main()
    mouse, say = ActionPart(low=[-1.0, -1.0], high=[1.0, 1.0]), ActionPart(text=TextConfig(max_length=64))
    assert seen == [ActionConfig(parts={"keyboard": ActionPart(multi=[2, 3]), "mouse": mouse, "say": say})]


def test_data_takes_the_place_of_both_datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = seen_by_stages(monkeypatch, tmp_path, lambda world, _: (world.train_data, world.eval_data, world.held_out))
    monkeypatch.setattr(sys, "argv", ["train", "stage=teacher", "data=lerobot:robots/arm", "world.held_out=0.2"])
    train.main()
    assert seen == [("lerobot:robots/arm", "", 0.2)]


def test_a_default_that_is_given_beside_an_import_is_not_dropped(
    built: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_world(fps=10).save_pretrained("toy")
    arguments = ["train", "world=wan", "stage=teacher", "world.imported=toy"]
    monkeypatch.setattr(sys, "argv", arguments)
    train.main()
    assert len(built) == 1
    monkeypatch.setattr(sys, "argv", [*arguments, "world.fps=35"])
    with pytest.raises(SystemExit):
        train.main()
    assert "got settings of world.fps beside world.imported='toy'" in capsys.readouterr().err
    assert len(built) == 1


HANDS = """
defaults: [panorama, _self_]
name: hands
actions:
  num_actions: 0
  names: []
  parts:
    keyboard: {multi: [2, 3]}
    mouse: {low: [-1, -1], high: [1, 1]}
    say: {text: {max_length: 64}}
"""
