import json
from pathlib import Path
from typing import Any

import pytest

from cfworld.cli.bench import BenchConfig, bench
from cfworld.errors import ConfigError
from tests.toy import toy_world


def test_the_bench_leaves_figures_and_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toy_world().save_pretrained(tmp_path / "toy")
    config = BenchConfig(
        world=str(tmp_path / "toy"),
        batch_sizes=[1, 2],
        steps=3,
        warmup=1,
        long_steps=5,
        environment=True,
        out=str(tmp_path),
    )
    bench(config)
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert [speed["batch"] for speed in figures["batches"]] == [1, 2]
    assert figures["long_run"]["steps"] == 5
    ways = [(speed["batch"], speed["way"]) for speed in figures["environments"]]
    assert ways == [
        (1, "World.step"),
        (1, "WorldVectorEnv"),
        (1, "WorldEnv"),
        (2, "World.step"),
        (2, "WorldVectorEnv"),
    ]
    table = (tmp_path / "bench.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines() if line.startswith("| ")]
    assert [row[1] for row in rows][2:4] == ["1", "2"]
    assert [(int(row[1]), row[2]) for row in rows[6:]] == ways
    assert table in capsys.readouterr().out


@pytest.mark.parametrize("wrong", [{"batch_sizes": []}, {"batch_sizes": [0]}, {"steps": 0}, {"long_steps": -1}])
def test_wrong_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        BenchConfig(world="toy", **wrong)


def test_a_scale_is_measured_beside_its_roofline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = BenchConfig(
        world="unused",
        scale="toy",
        kv_latents=[4, 6],
        batch_sizes=[1, 2],
        steps=1,
        warmup=0,
        long_steps=31,
        num_steps=1,
        precision="fp32",
        out=str(tmp_path),
    )
    bench(config)
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert [(one["kv_latents"], one["batch"]) for one in figures["speeds"]] == [(6, 1), (6, 2), (4, 1), (4, 2)]
    assert figures["long_run"]["state_before_mb"] == figures["long_run"]["state_after_mb"]
    assert {"date", "torch", "device_name", "rates", "precision"} <= figures.keys()
    table = (tmp_path / "bench.md").read_text()
    assert "es the bar of 70%" in table
    assert "At chunk 31, in turns with chunk 30" in table
    assert table in capsys.readouterr().out


def test_what_only_a_scale_takes_is_refused_without_one() -> None:
    with pytest.raises(ConfigError, match="without scale"):
        BenchConfig(world="toy", compile="default")
