"""`cfworld agent-eval`: scores agents in a world and in its simulator, on the same seeds."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cfworld import files
from cfworld.agents.card import read_card
from cfworld.agents.evaluate import Scores, dream_scores
from cfworld.agents.planner import PlannerConfig
from cfworld.agents.players import has_learned, make_player
from cfworld.agents.twin_job import TwinJob, scores_of_jobs
from cfworld.cli import common
from cfworld.cli.agent_scores import kept_or_played, who
from cfworld.cli.agent_video import write_both
from cfworld.data.policies import who_acts
from cfworld.data.policy_files import agent_folder
from cfworld.envs.twins import make_twin
from cfworld.errors import ConfigError
from cfworld.metrics import machine
from cfworld.metrics.agents import PolicyScores, agent_figures, agent_table
from cfworld.metrics.bootstrap import mean_interval
from cfworld.metrics.plots.agent_plots import dream_and_real
from cfworld.metrics.report import as_figures
from cfworld.settings import check_counts
from cfworld.world import World

__all__ = ["AgentEvalConfig", "agent_eval", "main"]

SUMMARY = (
    "Score agents in a generated world and in its simulator, on the same seeds for all: means with 95 % intervals, "
    "paired differences, the rank correlation of dream and reality over the agents, and a video of both side by side. "
    "Writes agent-eval.json, agent-eval.md, agent-eval.png and agent-eval.mp4; the first three after every agent. The "
    "same out= again, with the same policies or more, plays only what has not been played."
)
EXAMPLE = "world=doom_take_cover 'policies=[random,noop,best_sweep,runs/agents/dream/best]' workers=2"
BEST_SWEEP = "best_sweep"
_ABOUT = (
    "env",
    "algorithm",
    "obs",
    "stack",
    "own_actions",
    "blind",
    "deterministic",
    "steps",
    "world_fingerprint",
    "weights",
    "seed",
)


@dataclass(kw_only=True, slots=True)
class AgentEvalConfig:
    """What `cfworld agent-eval` takes.

    Attributes:
        world: A world of the zoo, or a checkpoint folder.
        variant: student or teacher; null for the best there is.
        precision: bf16 or fp32, in which the world computes; null for what the device does at full speed.
        num_steps: Denoising steps; null for the world's own. Fewer are faster and show less.
        policies: Who acts: see `who_acts`.
        baselines: Those among them that the others are compared with, seed by seed; by default all but agents and the
            planner.
        dream: Score them in the generated world.
        twin: Score them in its simulator.
        episodes: Episodes of each in each place.
        planner_episodes: Episodes of the planner, which is slow, in each place: the first of the same seeds.
        seed: Seed of the first episode; the others count on from it.
        max_ticks: Ticks after which an episode is cut off; null for the world's own horizon. In the world they count
            from the start's last frame.
        sweep_periods: Periods that best_sweep tries, in ticks.
        sweep_episodes: Episodes of each period, in the simulator.
        sweep_seed: Seed of the first of them.
        rows: Episodes side by side in the world.
        workers: Simulators at once, each in a process of its own; 1 stays in this one.
        planner: How the planner plans.
        video: Whom to film in both places; null for the first agent, or the first policy; "" for nobody. Nobody is
            filmed who plays in one place alone.
        video_ticks: Ticks of the video at most.
        device: Where world and agents compute: cpu, cuda, cuda:1 ...
        out: Folder to write to; null for outputs/agent-eval/<time>. Scores that it holds already are not played again.
    """

    world: str
    variant: str | None = None
    precision: str | None = None
    num_steps: int | None = None
    policies: list[str] = field(
        default_factory=lambda: ["random", "sticky", "noop", BEST_SWEEP],
        metadata={"help": f"Who acts: {who_acts(f'{BEST_SWEEP}, the sweep whose period is searched first')}."},
    )
    baselines: list[str] | None = None
    dream: bool = True
    twin: bool = True
    episodes: int = 100
    planner_episodes: int = 10
    seed: int = 2_000_000
    max_ticks: int | None = None
    sweep_periods: list[int] = field(default_factory=lambda: [70, 80, 90, 100, 110, 120, 130, 140, 160])
    sweep_episodes: int = 40
    sweep_seed: int = 3_000_000
    rows: int = 50
    workers: int = 1
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    video: str | None = None
    video_ticks: int = 700
    device: str = "cpu"
    out: str | None = None

    def __post_init__(self) -> None:
        check_counts(self, "episodes", "planner_episodes", "sweep_episodes", "rows", "workers", "video_ticks")
        check_counts(self, "seed", "sweep_seed", least=0)
        if self.max_ticks is not None and self.max_ticks < 1:
            raise ConfigError(f"got max_ticks={self.max_ticks}; expected at least 1, or null for the world's horizon")
        if self.num_steps is not None and self.num_steps < 1:
            raise ConfigError(f"got num_steps={self.num_steps}; expected at least 1, or null for the world's own")
        if not self.policies or len(set(self.policies)) < len(self.policies):
            raise ConfigError(f"got policies={self.policies}; expected at least one, each once")
        if not (self.dream or self.twin):
            raise ConfigError("got dream=false and twin=false; expected at least one of them")
        if missing := sorted({*(self.baselines or []), *([self.video] if self.video else [])} - set(self.policies)):
            raise ConfigError(f"got {missing[0]!r} as a baseline or for the video; expected one of {self.policies}")
        if self.video and not (self.dream and self.twin):
            raise ConfigError(
                f"got video={self.video} with dream={self.dream} and twin={self.twin}; a video shows both places: "
                "expected both, or no video"
            )
        if BEST_SWEEP in self.policies and (not self.sweep_periods or min(self.sweep_periods) < 1):
            raise ConfigError(f"got sweep_periods={self.sweep_periods}; expected periods from 1 tick")
        searched = range(self.sweep_seed, self.sweep_seed + self.sweep_episodes)
        if BEST_SWEEP in self.policies and {*searched} & {*range(self.seed, self.seed + self.episodes)}:
            raise ConfigError("the sweep's period would be searched on the seeds of the comparison; give other seeds")


def agent_eval(config: AgentEvalConfig) -> dict[str, Any]:
    """Score, write everything, and return the figures."""
    world = World.from_pretrained(
        config.world,
        variant=config.variant,
        device=config.device,
        precision=config.precision,
        num_steps=config.num_steps,
    )
    for name in config.policies:
        if name != BEST_SWEEP:
            make_player(name, world, config.planner)  # refuses before anything is played
    max_ticks = config.max_ticks or world.config.horizon_frames
    if config.twin or BEST_SWEEP in config.policies:
        make_twin(world.config.source, max_ticks).close()  # so does a world without a simulator
    folder = common.open_output("agent-eval", config.out, config)
    about = _about(config, world, max_ticks)
    search: dict[str, Any] | None = None
    names = {name: name for name in config.policies}
    if BEST_SWEEP in names:
        search = _search(config, world, folder, max_ticks)
        names[BEST_SWEEP] = search["best"]
        about["best sweep"] = f"{search['best']}, searched on seeds from {config.sweep_seed}"
    baselines = _baselines(config)
    found: list[PolicyScores] = []
    figures: dict[str, Any] = {}
    for title, name in names.items():
        found.append(_scores(config, world, folder, title, name, max_ticks))
        figures = _write(folder, about, found, baselines, search)
    filmed = _filmed(config)
    if filmed:
        player = make_player(names[filmed], world, config.planner)
        ticks = min(max_ticks, config.video_ticks)
        write_both(folder / "agent-eval.mp4", world, player, config.seed, ticks)
    print(f"{(folder / 'agent-eval.md').read_text(encoding='utf-8')}\nIn {folder}: agent-eval.json, .md, .png")
    return figures


def _search(config: AgentEvalConfig, world: World, folder: Path, max_ticks: int) -> dict[str, Any]:
    """The sweep that lives longest in the simulator, and how long all that were tried did."""
    seeds = range(config.sweep_seed, config.sweep_seed + config.sweep_episodes)
    tried = {}
    for period in config.sweep_periods:
        name = f"sweep:{period}"
        scores = _played(config, world, folder, f"search: {name}", name, "twin", seeds, max_ticks)
        tried[name] = mean_interval(scores.returns)
    return {"best": max(tried, key=lambda name: tried[name].mean), "tried": tried}


def _scores(config: AgentEvalConfig, world: World, folder: Path, title: str, name: str, max_ticks: int) -> PolicyScores:
    count = min(config.episodes, config.planner_episodes) if name == "planner" else config.episodes
    seeds = range(config.seed, config.seed + count)
    chosen = [place for place, asked in (("dream", config.dream), ("twin", config.twin)) if asked]
    places = {place: _played(config, world, folder, title, name, place, seeds, max_ticks) for place in chosen}
    about: dict[str, Any] = {"policy": name}
    if (agent := agent_folder(name)) is not None:
        card = asdict(read_card(agent))
        about |= {key: card[key] for key in _ABOUT}
    return PolicyScores(policy=title, places=places, about=about)


def _played(
    config: AgentEvalConfig, world: World, folder: Path, title: str, name: str, place: str, seeds: range, max_ticks: int
) -> Scores:
    """Scores in one place, kept ones where the folder has them."""

    def play() -> Scores:
        with _bar(f"{title}, {place}", len(seeds)) as progress:
            if place == "twin":
                job = _job(config, world, name, max_ticks)
                return scores_of_jobs(job, seeds, min(config.workers, len(seeds)), progress)
            player = make_player(name, world, config.planner)
            return dream_scores(world, player, seeds, max_ticks, config.rows, progress)

    world_key = {"world": world.fingerprint, "num_steps": world.sampler.num_steps, "max_ticks": max_ticks}
    episodes = {"place": place, "seed": seeds.start, "episodes": len(seeds)}
    return kept_or_played(folder / "scores", who(name, config.planner) | world_key | episodes, play)


def _job(config: AgentEvalConfig, world: World, name: str, max_ticks: int) -> TwinJob:
    return TwinJob(
        world=world if config.workers == 1 else config.world,
        variant=config.variant,
        device=config.device,
        precision=config.precision,
        num_steps=config.num_steps,
        player=name,
        planner=config.planner,
        max_ticks=max_ticks,
    )


def _write(
    folder: Path,
    about: dict[str, Any],
    found: Sequence[PolicyScores],
    baselines: Sequence[str],
    search: dict[str, Any] | None,
) -> dict[str, Any]:
    figures = {"about": about, **agent_figures(found, baselines), "sweep_search": search}
    common.write_figures(folder, "agent-eval", as_figures(figures))
    files.write_text(folder / "agent-eval.md", agent_table(figures, baselines, about))
    dream_and_real(folder / "agent-eval.png", figures["policies"])
    return figures


def _baselines(config: AgentEvalConfig) -> list[str]:
    if config.baselines is not None:
        return config.baselines
    return [name for name in config.policies if name != "planner" and not has_learned(name)]


def _filmed(config: AgentEvalConfig) -> str:
    if config.video is not None:
        return config.video
    if not (config.dream and config.twin):
        return ""
    return next((name for name in config.policies if has_learned(name)), config.policies[0])


def _about(config: AgentEvalConfig, world: World, max_ticks: int) -> dict[str, Any]:
    return {
        "world": config.world,
        "variant": world.variant,
        "num_steps": world.sampler.num_steps,
        "fingerprint": world.fingerprint,
        "twin": world.config.source,
        "episodes": config.episodes,
        "seeds": f"from {config.seed}",
        "max_ticks": max_ticks,
        **machine.machine_figures(config.device),
    }


@contextmanager
def _bar(title: str, episodes: int) -> Iterator[Any]:
    with tqdm(total=episodes, unit="episode", desc=title) as bar:
        yield bar.update


def main() -> None:
    """Run `cfworld agent-eval`."""
    common.run_command("agent-eval", AgentEvalConfig, agent_eval, SUMMARY, example=EXAMPLE)
