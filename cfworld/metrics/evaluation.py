"""Evaluating a world: which metrics, on what, and in which order."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cfworld.envs.twins import Twin, make_twin
from cfworld.errors import ConfigError
from cfworld.memory.presets import MEMORY_HELP
from cfworld.metrics.calibration import heads
from cfworld.metrics.continuation import STUDENT, ContinuationConfig, run_continuation
from cfworld.metrics.control import ControlConfig, run_control
from cfworld.metrics.controls import CONTROLS
from cfworld.metrics.drift import DriftConfig, run_drift
from cfworld.metrics.fidelity import FidelityConfig, fidelity, fidelity_steps
from cfworld.metrics.judgement import CEILING, CHANCE, LAST_FRAME, Judgement
from cfworld.metrics.novelty import NoveltyConfig, run_novelty
from cfworld.metrics.probe import ProbeConfig, run_probe
from cfworld.metrics.progress import Bar, silent_bar, watched
from cfworld.metrics.promotions import PromotionsConfig, run_promotions
from cfworld.metrics.recordings import FIRST_SEED, held_out, policy_actions
from cfworld.metrics.rollouts import WorldLike, endless, rollout, tokenizer_rollout
from cfworld.metrics.routes import RecallConfig, run_recall
from cfworld.metrics.survival import SurvivalConfig, run_survival
from cfworld.metrics.turning import TURNS
from cfworld.settings import check_counts
from cfworld.world import World, WorldConfig

__all__ = ["METRICS", "EvaluateConfig", "baseline_titles", "check_baseline", "judge"]

METRICS = (
    "fidelity",
    "control",
    "heads",
    "drift",
    "survival",
    "recall",
    "probe",
    "promotions",
    "continuation",
    "novelty",
)
_BASELINE = "baseline"
"""With this the names of baselines begin that were given without."""
_TAKEN = {"world", "twin", "left", LAST_FRAME, CEILING, CHANCE, STUDENT, *CONTROLS}
"""Names in the report that no baseline may have."""
_SEED_STRIDE = 100_000
"""Metrics that record their own episodes begin this far from one another."""
_ENDLESS_TICKS = 10**9


@dataclass(kw_only=True, slots=True)
class EvaluateConfig:
    """What `cfworld evaluate` takes.

    Attributes:
        world: A world of the zoo, or a checkpoint folder.
        variant: student or teacher; null for the best there is.
        baseline: Another world of the same twin to judge beside it, such as one trained without long memory; a list of
            several, or {name: world} to say what they are called in the report. Recall then asks to exceed the midpoint
            of the best of them and the ceiling.
        metrics: Some of fidelity, control, heads, drift, survival, recall, probe, promotions, continuation, novelty;
            null for all that the twin allows, continuation where its student is given.
        controls: Degenerate controls to judge as well: freeze, loop, blur, shuffled, immortal, indifferent.
        starts: Held-out starts for fidelity, control and heads.
        seed: The first evaluation seed, 1000000 or more.
        prefix_latents: Latents of real frames before a start.
        batch: Rows generated together by fidelity, control, heads, drift and recall; the others take all of theirs.
        num_steps: Denoising steps; null for the world's own.
        memory: In place of the world's own, not of its baselines': see `MEMORY_HELP`.
        device: Where to generate: cpu, cuda, cuda:1 ...
        out: Folder to write to; null for outputs/evaluate/<time>.
    """

    world: str
    variant: str | None = None
    baseline: Any = None
    metrics: list[str] | None = None
    controls: list[str] = field(default_factory=list)
    starts: int = 64
    seed: int = FIRST_SEED
    prefix_latents: int = 8
    batch: int = 32
    num_steps: int | None = None
    memory: str | None = field(
        default=None, metadata={"help": f"{MEMORY_HELP} Baselines keep theirs, so that the same weights may be one."}
    )
    device: str = "cpu"
    out: str | None = None
    fidelity: FidelityConfig = field(default_factory=FidelityConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    survival: SurvivalConfig = field(default_factory=SurvivalConfig)
    recall: RecallConfig = field(default_factory=RecallConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    promotions: PromotionsConfig = field(default_factory=PromotionsConfig)
    continuation: ContinuationConfig = field(default_factory=ContinuationConfig)
    novelty: NoveltyConfig = field(default_factory=NoveltyConfig)

    def __post_init__(self) -> None:
        """Refuse unknown names, seeds that were trained on, and empty evaluations."""
        for name, chosen, known in (
            ("metrics", self.metrics or [], METRICS),
            ("controls", self.controls, tuple(CONTROLS)),
        ):
            if unknown := [item for item in chosen if item not in known]:
                raise ConfigError(f"got {name}={unknown}; expected some of {', '.join(known)}")
        if self.metrics is not None and not self.metrics:
            raise ConfigError(f"got no metrics; expected some of {', '.join(METRICS)}, or null for all")
        check_counts(self, "starts", "prefix_latents", "batch")
        if (self.control.starts or 0) > self.starts:
            raise ConfigError(
                f"got control.starts={self.control.starts} with starts={self.starts}; expected no more than those: "
                f"give starts={self.control.starts}"
            )
        given = self.baseline
        listed = [*given, *given.values()] if isinstance(given, Mapping) else _listed(given)
        if not all(isinstance(name, str) and (name or given == "") for name in listed):  # "" alone the command refuses
            raise ConfigError(
                f"got baseline={self.baseline!r}; expected the name or folder of a world, or a list of them, or "
                "{name: world}"
            )
        if taken := [name for name in self.baselines if name in _TAKEN]:
            raise ConfigError(f"got baselines called {', '.join(taken)}, as something else in the report; rename them")
        if "continuation" in (self.metrics or ()) and not self.continuation.student:
            raise ConfigError(
                "got metric continuation without continuation.student=; give the world whose student makes the context"
            )
        if self.seed < FIRST_SEED:
            raise ConfigError(f"got seed={self.seed}; expected at least {FIRST_SEED}: smaller ones are for training")

    @property
    def baselines(self) -> dict[str, str]:
        """Where the baselines lie, by what they are called in the report."""
        if isinstance(self.baseline, Mapping):
            return dict(self.baseline)
        return baseline_titles(_listed(self.baseline))


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, list | tuple) else [given]


def baseline_titles(paths: Sequence[str]) -> dict[str, str]:
    """What baselines without names are called in the report, with where each one lies.

    One alone is `baseline`; several are told apart by their folders, `export` left out.
    """
    if len(paths) < 2:
        return dict(zip([_BASELINE], paths, strict=False))
    titles: dict[str, str] = {}
    for path in paths:
        parts = [part for part in Path(path).parts if part != "export"]
        names = [f"{_BASELINE} {'/'.join(parts[-length:])}" for length in range(1, len(parts) + 1)]
        titles[next((name for name in names if name not in titles), f"{_BASELINE} {len(titles) + 1}")] = path
    return titles


def check_baseline(world: WorldConfig, baseline: WorldConfig, given: str = "baseline") -> None:
    """Refuse a baseline that is a world of something else: their figures cannot stand side by side.

    Args:
        world: the world.
        baseline: the other one.
        given: the setting that names it.

    Raises:
        ConfigError: if twin, actions, frames per step or another quantity that both share differs.
    """
    for name in ("source", "actions", "fps", "resolution", "frames_per_latent", "frames_per_step"):
        ours, theirs = getattr(world, name), getattr(baseline, name)
        if ours != theirs:
            raise ConfigError(
                f"the world of {given}= has {name}={theirs}; expected {ours}, as the world has. Choose one that was "
                "trained for the same twin"
            )


def judge(
    worlds: Mapping[str, WorldLike], config: EvaluateConfig, bar: Bar = silent_bar, student: World | None = None
) -> Iterator[Judgement]:
    """Judge worlds by every metric that was asked for, one when the next outcome is asked for.

    What cannot be measured is refused at the call, before anything is.

    Args:
        worlds: the world to evaluate first, then a baseline and controls; all have the same twin.
        config: what to measure.
        bar: shows how far it is.
        student: makes the contexts of the metric continuation.

    Returns:
        The outcomes, in the order of `METRICS`.

    Raises:
        ConfigError: if the world has no twin, the prefix holds no whole steps, the twin cannot do what a metric
            needs, or a policy cannot act in it.
    """
    settings = next(iter(worlds.values())).config
    impossible = {"recall": settings.source not in TURNS, "continuation": student is None}
    wanted = config.metrics or [metric for metric in METRICS if not impossible.get(metric)]
    if config.prefix_latents % settings.latents_per_chunk:
        raise ConfigError(
            f"got prefix_latents={config.prefix_latents}; expected a multiple of the world's "
            f"latents_per_chunk, {settings.latents_per_chunk}"
        )
    if "recall" in wanted and settings.source not in TURNS:
        raise ConfigError(f"got metric recall for {settings.source!r}; expected one of {', '.join(TURNS)}")
    _check_policies(config, wanted, settings.source)
    return _judgements(worlds, config, wanted, bar, student)


def _judgements(
    worlds: Mapping[str, WorldLike], config: EvaluateConfig, wanted: list[str], bar: Bar, student: World | None
) -> Iterator[Judgement]:
    settings = next(iter(worlds.values())).config
    twin = make_twin(settings.source, _ENDLESS_TICKS)
    lasting = {name: endless(world) for name, world in worlds.items()}
    try:
        yield from _from_shared_starts(lasting, twin, config, wanted, bar)
        yield from _from_own_starts(worlds, lasting, twin, config, wanted, bar)
        if "continuation" in wanted and student is not None:
            prefix_ticks = config.prefix_latents * settings.frames_per_latent
            seed = config.seed + _SEED_STRIDE * METRICS.index("continuation")
            yield run_continuation(lasting, endless(student), twin, config.continuation, prefix_ticks, seed, bar)
    finally:
        twin.close()


def _check_policies(config: EvaluateConfig, wanted: list[str], source: str) -> None:
    """Refuse a world without a twin, and who cannot act in it; a simulator starts at its reset, and not here."""
    acting = {"survival": config.survival.policies, "promotions": [config.promotions.policy]}
    with closing(make_twin(source, _ENDLESS_TICKS)) as twin:
        for policy in [policy for metric, policies in acting.items() if metric in wanted for policy in policies]:
            policy_actions(twin, policy, 1, config.seed)


def _from_shared_starts(
    worlds: Mapping[str, WorldLike], twin: Twin, config: EvaluateConfig, wanted: list[str], bar: Bar
) -> Iterator[Judgement]:
    """Fidelity, control and heads look at the same starts."""
    if not {"fidelity", "control", "heads"} & set(wanted):
        return
    first = next(iter(worlds.values()))
    settings = first.config
    num_ticks = config.fidelity.num_ticks(settings.fps, settings.frames_per_step)
    prefix_ticks = config.prefix_latents * settings.frames_per_latent
    starts = held_out(twin, config.starts, num_ticks, prefix_ticks, first_seed=config.seed)
    recordings = list(watched(starts, bar, "starts: twin", config.starts, "start"))
    steps = fidelity_steps(config.fidelity, settings.fps, settings.frames_per_step)
    decode = steps if "fidelity" in wanted else set()
    rollouts = {
        name: rollout(world, recordings, decode=decode, batch=config.batch, bar=bar, title=f"starts: {name}")
        for name, world in worlds.items()
        if {"fidelity", "heads"} & set(wanted)
    }
    if "fidelity" in wanted:
        ceiling = tokenizer_rollout(first, recordings, steps)
        yield fidelity(rollouts, ceiling, recordings, config.fidelity, settings.fps)
    if "control" in wanted:
        yield run_control(worlds, twin, recordings, config.control, config.batch, bar)
    if "heads" in wanted:
        yield heads(rollouts, recordings, settings.frames_per_step)


def _from_own_starts(
    worlds: Mapping[str, WorldLike],
    lasting: Mapping[str, WorldLike],
    twin: Twin,
    config: EvaluateConfig,
    wanted: list[str],
    bar: Bar,
) -> Iterator[Judgement]:
    """These metrics record their own episodes; only survival lets the world's end."""
    settings = next(iter(worlds.values())).config
    prefix_ticks = config.prefix_latents * settings.frames_per_latent
    seeds = {metric: config.seed + _SEED_STRIDE * i for i, metric in enumerate(METRICS)}
    if "drift" in wanted:
        yield from run_drift(lasting, twin, config.drift, prefix_ticks, seeds["drift"], config.batch, bar)
    if "survival" in wanted:
        yield run_survival(worlds, twin, config.survival, prefix_ticks, seeds["survival"], bar)
    if "recall" in wanted:
        seed, baselines = seeds["recall"], [name for name in worlds if name in config.baselines]
        yield run_recall(lasting, twin, settings.source, config.recall, seed, config.batch, baselines, bar)
    if "probe" in wanted:
        yield run_probe(lasting, twin, config.probe, prefix_ticks, seeds["probe"], bar)
    if "promotions" in wanted:
        yield run_promotions(lasting, twin, config.promotions, prefix_ticks, seeds["promotions"], bar)
    if "novelty" in wanted:
        yield run_novelty(lasting, twin, config.novelty, prefix_ticks, seeds["novelty"], bar)
