"""`cfworld rollout scenario=...`: plays a scenario, writes what it asks for, and says whether its assertions hold."""

from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from tqdm import tqdm

from cfworld import files
from cfworld.cli import checks, common
from cfworld.cli.live import policies
from cfworld.cli.scale import check_scale
from cfworld.envs import Scenario, ScenarioResult
from cfworld.envs.scenarios.schema import Output
from cfworld.envs.spaces import world_action_space
from cfworld.errors import ConfigError
from cfworld.export.scenario import (
    check_dataset,
    write_scenario_dataset,
    write_scenario_strip,
    write_scenario_video,
)
from cfworld.metrics import machine
from cfworld.world import World

__all__ = ["play_scenario", "verdict"]

_CHECKED = 1.0
"""Seconds within which a broken scenario is refused: no bar before that."""
_DATASET = "dataset"
"""The folder of the dataset within that of the outputs."""


def play_scenario(config: Any) -> bool:
    """Play a scenario; write the video, the strip, the figures and the dataset that it asks for.

    Args:
        config: a `RolloutConfig` that names a scenario. Its world, variant, memory and seed take the place of the
            scenario's where they are given.

    Returns:
        Whether every assertion holds.

    Raises:
        ScenarioError: if the scenario is wrong. Nothing has been generated or written then.
        ConfigError: if the video cannot have the configuration's scale, or a file stands where a folder is to be; the
            same holds.
    """
    scenario = Scenario.load(config.scenario)
    given = {"variant": config.variant, "memory": config.memory, "num_steps": config.num_steps}
    world = scenario.load_world(config.world, device=config.device, **given)
    _check_outputs(scenario, world, config.scale)
    _check_folders(scenario, common.output_folder("rollout", config.out))
    begin = perf_counter()
    title = f"{scenario.plan.name}: generate"
    with tqdm(total=scenario.num_steps(world), unit="step", desc=title, delay=_CHECKED) as bar:
        result = scenario.run(world, seed=config.seed, policies=policies, on_step=lambda _: bar.update())
    seconds = perf_counter() - begin
    folder = common.open_output("rollout", config.out, config)
    files.write_text(folder / "scenario.yaml", scenario.text)
    figures = _figures(result, scenario, world, config.device, seconds)
    _write(result, scenario.plan.outputs, world, folder, config.scale, figures)
    print(verdict(result))
    print(f"{folder}: {', '.join(scenario.plan.outputs)} of {len(result.branches)} branch(es) of {scenario.plan.name}")
    return result.passed


def verdict(result: ScenarioResult) -> str:
    """A table of what held and what failed."""
    rows = [("", "assertion", "branch", "got")]
    rows += [("held" if one.holds else "FAILED", one.text, one.branch, one.got) for one in result.checks]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    failed = sum(not one.holds for one in result.checks)
    return "\n".join([*lines, f"{len(result.checks) - failed} of {len(result.checks)} assertions hold"])


def _check_outputs(scenario: Scenario, world: World, scale: int) -> None:
    if Output.VIDEO in scenario.plan.outputs:
        check_scale(scale, world.config.resolution, len(scenario.plan.branches))
    if Output.DATASET not in scenario.plan.outputs:
        return
    try:
        check_dataset(world_action_space(world.config.actions))
    except ConfigError as error:
        raise scenario.plan.places["outputs"].error(str(error)) from error


def _check_folders(scenario: Scenario, folder: Path) -> None:
    checks.check_folder(str(folder))
    if Output.DATASET in scenario.plan.outputs:
        checks.check_folder(str(folder / _DATASET))


def _write(
    result: ScenarioResult,
    outputs: tuple[Output, ...],
    world: World,
    folder: Path,
    scale: int,
    figures: dict[str, Any],
) -> None:
    if Output.JSON in outputs:
        common.write_figures(folder, "scenario", figures)
    if Output.STRIP in outputs:
        write_scenario_strip(folder / "scenario.png", result)
    if Output.DATASET in outputs:
        about = {"num_steps": world.sampler.num_steps, "memory": world.config.memory.summary}
        write_scenario_dataset(folder / _DATASET, result, world_action_space(world.config.actions), about)
    if Output.VIDEO in outputs:
        progress = partial(tqdm, unit="frame", desc="scenario.mp4: encode")
        write_scenario_video(folder / "scenario.mp4", result, scale, progress)


def _figures(result: ScenarioResult, scenario: Scenario, world: World, device: str, seconds: float) -> dict[str, Any]:
    return {
        **result.figures(),
        "file": scenario.file,
        "about": scenario.plan.about,
        "variant": world.variant,
        "num_steps": world.sampler.num_steps,
        "memory": world.config.memory.summary,
        "generation_seconds": seconds,
        **machine.machine_figures(device),
    }
