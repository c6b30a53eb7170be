"""`cfworld evaluate`: judges a world against its twin."""

from time import perf_counter
from typing import Any

from cfworld.cli import common
from cfworld.metrics import machine
from cfworld.metrics.controls import make_control
from cfworld.metrics.evaluation import EvaluateConfig, check_baseline, judge
from cfworld.metrics.progress import progress_bar
from cfworld.metrics.report import draw, write_report
from cfworld.metrics.rollouts import WorldLike
from cfworld.world import World, find_world
from cfworld.world.checkpoint import read_manifest

__all__ = ["evaluate", "main"]

SUMMARY = (
    "Judge a world against its twin on seeds that were never trained on: fidelity, control, reward and "
    "hazard, drift, survival, recall and what the memory keeps, with 95 % bootstrap intervals. Writes report.json, "
    "report.md, plots and film strips, anew after every metric: an interruption loses the one under way."
)
EXAMPLE = "world=panorama metrics=[fidelity,control] controls=[freeze] starts=16"


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Judge, write the report anew after every metric, and return its figures."""
    began = perf_counter()
    world = _load(config.world, config, config.memory)
    worlds: dict[str, WorldLike] = {"world": world}
    for name, path in config.baselines.items():
        worlds[name] = baseline = _load(path, config)
        check_baseline(world.config, baseline.config)
    worlds |= {name: make_control(name, world) for name in config.controls}
    student = _student(config, world)
    judgements = judge(worlds, config, progress_bar, student)
    folder = common.open_output("evaluate", config.out, config)
    about, judged, figures = _about(world, config), [], {}
    for judgement in judgements:
        judged.append(judgement)
        draw(folder, judgement)
        figures = write_report(folder, {**about, "seconds": round(perf_counter() - began, 1)}, judged)
    bars = [passed for metric in figures["bars"].values() for passed in metric["world"].values()]
    measured = [passed for passed in bars if passed is not None]
    print(f"{folder / 'report.md'}: {sum(measured)} of {len(measured)} bars passed")
    return figures


def _load(name: str, config: EvaluateConfig, memory: str | None = None) -> World:
    return World.from_pretrained(
        name, variant=config.variant, device=config.device, num_steps=config.num_steps, memory=memory
    )


def _student(config: EvaluateConfig, world: World) -> World | None:
    """The student whose rollouts are continued, if there is to be one."""
    if not config.continuation.student:
        return None
    student = World.from_pretrained(config.continuation.student, variant="student", device=config.device)
    check_baseline(world.config, student.config, given="continuation.student")
    return student


def _about(world: World, config: EvaluateConfig) -> dict[str, Any]:
    """What was judged, down to the checksums of its weights, and how."""
    manifest = read_manifest(find_world(config.world))
    return {
        "world": config.world,
        "name": world.config.name,
        "variant": world.variant,
        "twin": world.config.source,
        "solver": world.sampler.solver.value,
        "num_steps": world.sampler.num_steps,
        "memory": f"{config.memory or 'its own'} ({world.config.memory.summary})",
        "baselines": config.baselines or None,
        "continued": config.continuation.student or None,
        "controls": ", ".join(config.controls) or None,
        "starts": config.starts,
        "seed": config.seed,
        "checksums": manifest["variants"][world.variant]["files"] | manifest["tokenizer"],
        **machine.machine_figures(config.device),
    }


def main() -> None:
    """Run `cfworld evaluate`."""
    common.run_command("evaluate", EvaluateConfig, evaluate, SUMMARY, example=EXAMPLE)
