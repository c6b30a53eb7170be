"""The example of scenarios runs as it stands, in a toy world and for less time."""

from pathlib import Path

import pytest

from tests.toy import DISCRETE, toy_world

EXAMPLE = Path(__file__).parents[2] / "examples" / "scenario.py"


@pytest.mark.sources
def test_the_example_plays_its_branches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    toy_world(num_starts=20, actions=DISCRETE).save_pretrained(tmp_path / "toy")
    code = EXAMPLE.read_text(encoding="utf-8")
    for old, new in (("doom_take_cover", "toy"), ("seconds: 6", "seconds: 2"), ("fork: 2", "fork: 1")):
        assert old in code
        code = code.replace(old, new)
    exec(compile(code, str(EXAMPLE), "exec"), {"__name__": "__main__"})
    printed = capsys.readouterr().out
    told = ("go on:", "stand still:", "step aside:", "sum hazard of step aside < sum hazard of stand still")
    assert all(name in printed for name in told)
    assert (tmp_path / "scenario.png").is_file()
