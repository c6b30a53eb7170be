import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from cfworld.cli import bench_scale
from cfworld.cli.bench import BenchConfig, bench
from cfworld.cli.bench_scale import meets_bar, verdict
from cfworld.errors import ConfigError
from cfworld.metrics.speed.scale_speed import PartSpeed, ScaleSpeed, needed_by
from cfworld.metrics.speed.scales import Scale
from cfworld.metrics.speed.step_parts import STEP_PARTS
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
    assert figures["libraries"].keys() == {"cuda", "driver", "triton", "torchao", "flash_attn", "flash_attn_3"}
    table = (tmp_path / "bench.md").read_text()
    assert figures["meets_bar"] is None
    assert "No verdict: the bar of 70% is one of bf16, and this was measured with fp32." in table
    assert "At chunk 31, in turns with chunk 30" in table
    assert table in capsys.readouterr().out


@pytest.mark.parametrize(
    ("precision", "fp8", "share", "said"),
    [
        ("bf16", False, 0.8, "reaches 80% of the roofline in bf16.* it meets the bar of 70%"),
        ("bf16", False, 0.6, "reaches 60% of the roofline in bf16.* it misses the bar of 70%"),
        ("bf16", True, 0.8, "No verdict: the bar of 70% is one of bf16, .* with 8-bit layers beside it"),
        ("fp32", False, 0.8, "No verdict: the bar of 70% is one of bf16, .* with fp32"),
    ],
)
def test_only_bf16_is_held_to_the_bar(precision: str, fp8: bool, share: float, said: str) -> None:
    part = PartSpeed(ms=10.0, roofline_ms=10 * share / 4, tflops=1.0, gbytes=1.0)
    speed = ScaleSpeed(
        kv_latents=21,
        batch=1,
        step_ms_p50=10.0,
        step_ms_p95=10.0,
        frames_per_s=1200.0,
        ahead_ms=10.0,
        denoiser_frames_per_s=600.0,
        parts=dict.fromkeys(STEP_PARTS, part),
        state_mb=1.0,
        peak_device_memory_mb=None,
    )
    meets = meets_bar(speed, precision, fp8)
    figures = {"precision": precision, "fp8": fp8, "meets_bar": meets}
    assert re.search(said, verdict(speed, figures))


def test_what_only_a_scale_takes_is_refused_without_one() -> None:
    with pytest.raises(ConfigError, match=r"got kv_latents=\[6\], compile=default without scale"):
        BenchConfig(world="toy", compile="default", kv_latents=[6])


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"world": "nope", "variant": "teacher"}, "got world=nope, variant=teacher beside scale=toy"),
        ({"environment": True}, "got environment=True beside scale=toy"),
        ({"long_steps": 10}, "got long_steps=10; expected more than 30"),
        ({"long_steps": 30}, "got long_steps=30; expected more than 30"),
        ({"compile": "banana"}, "got compile=banana; expected one of off, default"),
        ({"attention": "sage"}, "got attention=sage; expected one of auto, torch"),
        ({"precision": "fp16"}, "got precision=fp16; expected one of null, bf16, fp32"),
        ({"kv_latents": [3]}, "got kv_latents=.3.; expected numbers from 4"),
    ],
)
def test_what_a_scale_does_not_take_is_refused(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        BenchConfig(scale="toy", **wrong)


def test_what_is_left_out_follows_from_the_kind() -> None:
    world, scale = BenchConfig(), BenchConfig(scale="toy")
    assert (world.world, world.batch_sizes, world.long_steps) == ("doom_take_cover", [1, 4, 16, 64], 10_000)
    assert (scale.world, scale.batch_sizes, scale.kv_latents) == (None, [1, 2, 4], [6, 12, 21])


def test_a_long_run_that_does_not_fit_is_said_to_be_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (needed_by(Scale.TOY, 4, rows, torch.float32) for rows in (1, 2))
    monkeypatch.setattr(bench_scale, "available_bytes", lambda _: (one + two) // 2)
    config = BenchConfig(
        scale="toy",
        kv_latents=[4],
        batch_sizes=[1, 2],
        steps=1,
        warmup=0,
        num_steps=1,
        precision="fp32",
        out=str(tmp_path),
    )
    bench(config)
    table = (tmp_path / "bench.md").read_text()
    assert "4 latents and 2 rows were left out" in table
    assert "The long run was left out: it needs two states at once, about 0.0 GiB." in table
