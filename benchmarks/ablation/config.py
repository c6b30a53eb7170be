"""What `python -m benchmarks.ablation` takes."""

from dataclasses import dataclass, field

from benchmarks.ablation.variants import VARIANTS
from cfworld.errors import ConfigError
from cfworld.settings import check_counts

__all__ = ["STAGES", "AblationConfig", "Steps"]

STAGES = ("teacher", "init", "local", "context")


@dataclass(kw_only=True, slots=True)
class Steps:
    """The budget: optimiser steps of each stage, the same for every variant.

    Attributes:
        teacher: Of a teacher; variants that differ later share it.
        init: Of the student's initialisation.
        local: Of Stage 1.
        context: Of Stage 2; a variant without Stage 2 takes them in Stage 1.
    """

    teacher: int = 600
    init: int = 150
    local: int = 150
    context: int = 300

    def __post_init__(self) -> None:
        """Refuse stages without steps."""
        check_counts(self, *STAGES, prefix="steps.")


@dataclass(kw_only=True, slots=True)
class AblationConfig:
    """What is trained, for how long, and how it is judged.

    Attributes:
        world: A file of configs/world; its tokenizer must have been trained.
        variants: Names of variants; empty for all.
        seeds: One training of everything for each.
        steps: Budget of each stage.
        teacher: Folder of a world whose teacher every variant's teacher begins with; empty for random weights.
        tokenizer: Folder of the trained tokenizer; empty for runs/<world>/tokenizer/export.
        train: More overrides for every `cfworld train`, such as stage.loop.batch_size=4; one for a single stage begins
            with its name, as in teacher:stage.clip_latents=64.
        evaluate: More overrides for every `cfworld evaluate`.
        continuation: More overrides where teachers with and without ERFT continue the full method's student, which is
            done when all three are among the variants.
        device: Where to train and to generate.
        num_threads: Threads of every training on the CPU.
        workers: Runs at a time. Minutes in the table are those of the clock, and longer where runs share a machine.
        work: Folder of the runs. What lies there is not made again.
        results: Folder of ablation.json, ablation.md and ablation.png.
        check: Print what would be run, and stop.
    """

    world: str = "panorama"
    variants: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    steps: Steps = field(default_factory=Steps)
    teacher: str = ""
    tokenizer: str = ""
    train: list[str] = field(default_factory=list)
    evaluate: list[str] = field(
        default_factory=lambda: [
            "metrics=[recall,drift,promotions]",
            "recall.away=[4,8,12,16,20,24,32]",
            "recall.full_turn=false",
            "recall.starts=32",
            "drift.seconds=[60]",
            "drift.starts=8",
            "promotions.starts=8",
        ]
    )
    continuation: list[str] = field(default_factory=lambda: ["continuation.starts=16"])
    device: str = "cpu"
    num_threads: int = 1
    workers: int = 1
    work: str = "outputs/ablation"
    results: str = "benchmarks/results"
    check: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown variants, an empty ablation, and one that nobody makes."""
        if unknown := [name for name in self.variants if name not in VARIANTS]:
            raise ConfigError(f"got variants={unknown}; expected some of {', '.join(VARIANTS)}")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"got seeds={self.seeds}; expected one or more different ones")
        check_counts(self, "workers")

    def overrides_of(self, stage: str) -> list[str]:
        """Those of `train` that are for this stage, without its name."""
        named = [(text.partition(":")[0] in STAGES, text) for text in self.train]
        return [
            text.removeprefix(f"{stage}:")
            for is_for_one, text in named
            if not is_for_one or text.startswith(f"{stage}:")
        ]

    @property
    def chosen(self) -> list[str]:
        """The variants, in the order of `VARIANTS`."""
        return [name for name in VARIANTS if name in self.variants or not self.variants]
