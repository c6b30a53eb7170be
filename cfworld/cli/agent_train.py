"""`cfworld agent-train`: trains an agent in a world or in its simulator."""

from pathlib import Path
from typing import Any

from cfworld.agents.config import AgentTrainConfig
from cfworld.agents.progress import TrainProgress
from cfworld.cli import common
from cfworld.metrics import machine
from cfworld.metrics.plots.agent_plots import learning_curve
from cfworld.world import World

__all__ = ["agent_train", "main"]

SUMMARY = (
    "Train an agent in a generated world (env=dream) or in its simulator (env=twin), on latents or on pixels, and "
    "score it in the simulator while it learns. Writes the agent as it is last and as it scored best (last/, best/: "
    "give one of them to agent-eval or to rollout's policy=), the curve of both scores, a checkpoint, a TensorBoard "
    "log and the figures. The same command with the same out= resumes."
)
EXAMPLE = "world=doom_take_cover max_minutes=45 out=runs/agents/dream"


def agent_train(config: AgentTrainConfig) -> dict[str, Any]:
    """Train, write everything, and return the figures."""
    from cfworld.agents.train import train_agent  # `--help` is quick

    world = World.from_pretrained(
        config.world,
        variant=config.variant,
        device=config.device,
        precision=config.precision,
        num_steps=config.num_steps,
    )
    folder = common.output_folder("agent-train", config.out)

    def show(progress: TrainProgress) -> None:
        if progress.curve:
            learning_curve(folder / "curve.png", progress.curve, f"training in the {config.env}")
        common.write_figures(folder, "agent-train", _figures(config, world, progress))

    progress = train_agent(config, world, folder, show, lambda: common.write_config(folder, config))
    figures = _figures(config, world, progress)
    common.write_figures(folder, "agent-train", figures)
    print(f"{_agent(folder)}: {progress.steps} steps{_told(progress)}; curve and figures in {folder}")
    return figures


def _agent(folder: Path) -> Path:
    return folder / ("best" if (folder / "best").exists() else "last")


def _told(progress: TrainProgress) -> str:
    best = f", {progress.best.real:.1f} in the simulator at best" if progress.best else ""
    return f" ({progress.stopped})" * bool(progress.stopped) + best


def _figures(config: AgentTrainConfig, world: World, progress: TrainProgress) -> dict[str, Any]:
    return {
        "world": config.world,
        "variant": world.variant,
        "num_steps": world.sampler.num_steps,
        "fingerprint": world.fingerprint,
        "env": config.env.value,
        "obs": config.obs,
        "blind": config.blind,
        "algorithm": config.algorithm.value,
        "seed": config.seed,
        "steps": progress.steps,
        "ticks_at_most": progress.steps * world.config.frames_per_step,
        "minutes": progress.minutes,
        "steps_per_s": progress.steps / max(progress.minutes * 60, 1e-9),
        "stopped": progress.stopped or None,
        "best": None if progress.best is None else progress.best.real,
        "curve": progress.as_dict()["curve"],
        **machine.peak_memory_mb(config.device),
        **machine.machine_figures(config.device),
    }


def main() -> None:
    """Run `cfworld agent-train`."""
    common.run_command("agent-train", AgentTrainConfig, agent_train, SUMMARY, example=EXAMPLE)
