"""What has to be run: variants that share a beginning share its runs."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.ablation.config import STAGES, AblationConfig
from benchmarks.ablation.horizons import Horizons, horizons
from benchmarks.ablation.settings import SCORED, composed, depends
from benchmarks.ablation.variants import FULL, TEACHER, TEACHER_WITHOUT_ERFT, VARIANTS, Variant
from cfworld.train.consistency import InitStageConfig
from cfworld.train.teacher import TeacherStageConfig

__all__ = ["Run", "plan", "planned_horizons"]

_ERRORS_BEGIN = {
    "teacher": TeacherStageConfig().erft.start_step,
    "init": InitStageConfig().erft.start_step,
}
"""Where the stages begin with errors by default."""
_CONTINUED = {FULL, TEACHER, TEACHER_WITHOUT_ERFT}


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One command. Equal settings have equal folders, so that a run is made once however many variants need it."""

    title: str
    """What a progress bar says."""
    arguments: tuple[str, ...]
    """Of `cfworld`, without the folder."""
    folder: Path
    """What it writes to."""
    variant: str = ""
    """The variant that it judges; empty for a training."""
    seed: int = 0
    """The seed of the training."""
    continues: bool = False
    """Whether it lets teachers with and without ERFT continue the full method's student."""

    @property
    def command(self) -> list[str]:
        """All arguments of `cfworld`."""
        return [*self.arguments, f"out={self.folder}"]


def plan(config: AblationConfig) -> list[Run]:
    """All runs in an order in which each finds what it needs, seed by seed and variant by variant."""
    runs: dict[Path, Run] = {}
    for seed in config.seeds:
        for name in config.chosen:
            for run in _runs(config, name, seed):
                runs.setdefault(run.folder, run)
        if set(config.chosen) >= _CONTINUED:
            run = _continuation(config, seed)
            runs[run.folder] = run
    return list(runs.values())


def planned_horizons(config: AblationConfig) -> Horizons:
    """How far Stage 2 rolls out: by the world's own memory, the same for every variant."""
    of_world = [text for text in config.train if text.startswith(("world.", "memory=", "model="))]
    settings = composed("stage=context", f"world={config.world}", *of_world)
    return horizons(settings["world"], config.steps.context)


def _continuation(config: AblationConfig, seed: int) -> Run:
    """Both teachers continue the rollouts of the full method's student."""
    exports = {
        name: next(run.folder for run in reversed(list(_runs(config, name, seed))) if not run.variant) / "export"
        for name in _CONTINUED
    }
    arguments = (
        "evaluate",
        f"world={exports[TEACHER]}",
        f"baseline={exports[TEACHER_WITHOUT_ERFT]}",
        "variant=teacher",
        f"device={config.device}",
        "metrics=[continuation]",
        f"continuation.student={exports[FULL]}",
        *config.continuation,
    )
    folder = _folder(config, "continuation", seed, arguments)
    return Run(title=f"continuation, seed {seed}", arguments=arguments, folder=folder, seed=seed, continues=True)


def _runs(config: AblationConfig, name: str, seed: int) -> Iterator[Run]:
    variant, before = VARIANTS[name], dict[str, Run]()
    if variant.score:
        before["score"] = _training(config, VARIANTS[variant.score], "teacher", seed, {})
        yield before["score"]
    for stage in STAGES:
        if STAGES.index(stage) > STAGES.index(variant.final):
            break
        run = _training(config, variant, stage, seed, before)
        before[stage] = run
        yield run
    export, kind = before[variant.final].folder / "export", "teacher" if variant.final == "teacher" else "student"
    arguments = ("evaluate", f"world={export}", f"variant={kind}", f"device={config.device}", *config.evaluate)
    folder = _folder(config, f"evaluate_{name}", seed, arguments)
    yield Run(title=f"{name}, seed {seed}: evaluate", arguments=arguments, folder=folder, variant=name, seed=seed)


def _training(config: AblationConfig, variant: Variant, stage: str, seed: int, before: dict[str, Run]) -> Run:
    overrides = [*variant.everywhere, *(variant.teacher if stage == "teacher" else ())]
    overrides += variant.init if stage == "init" else ()
    overrides += variant.scored if stage in SCORED else ()
    overrides += planned_horizons(config).overrides if stage == "context" else ()
    overrides += [f"stage.erft.start_step={_errors_begin(config, stage)}"] if stage in _ERRORS_BEGIN else []
    if stage == "teacher":
        overrides += [f"stage.init_from={config.teacher}"] if config.teacher else []
    else:
        teacher = before["score"] if stage in SCORED and variant.score else before["teacher"]
        overrides.append(f"stage.teacher={teacher.folder / 'export'}")
        if stage != "init":
            overrides.append(f"stage.student={before[STAGES[STAGES.index(stage) - 1]].folder / 'export'}")
    steps = getattr(config.steps, stage)
    if stage == "local" and variant.final == "local":
        steps += config.steps.context  # the same budget
    if config.tokenizer:
        overrides.append(f"world.trained_tokenizer={config.tokenizer}")
    arguments = (
        "train",
        f"stage={stage}",
        f"world={config.world}",
        f"device={config.device}",
        f"stage.loop.steps={steps}",
        f"stage.loop.seed={seed}",
        f"stage.loop.num_threads={config.num_threads}",
        *overrides,
        *config.overrides_of(stage),
    )
    folder = _folder(config, stage, seed, arguments)
    return Run(title=f"{variant.title}, seed {seed}: {stage}", arguments=arguments, folder=folder, seed=seed)


def _folder(config: AblationConfig, name: str, seed: int, arguments: tuple[str, ...]) -> Path:
    """A folder of its own for these settings; the folders of earlier stages among them tell the whole line apart."""
    return Path(config.work).absolute() / f"seed_{seed}" / f"{name}_{depends(arguments)}"


def _errors_begin(config: AblationConfig, stage: str) -> int:
    """The step at which errors are first injected: no later than a tenth of the budget."""
    return min(_ERRORS_BEGIN[stage], getattr(config.steps, stage) // 10)
