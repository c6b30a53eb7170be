"""What is compared: each variant is a few settings that differ from the full method."""

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["FAST_ONLY", "FULL", "SINK_AND_FAST", "TEACHER", "TEACHER_WITHOUT_ERFT", "VARIANTS", "Paper", "Variant"]

FULL, FAST_ONLY, SINK_AND_FAST = "full", "fast_only", "sink_and_fast"
TEACHER, TEACHER_WITHOUT_ERFT = "teacher", "teacher_without_erft"


@dataclass(frozen=True, kw_only=True, slots=True)
class Paper:
    """What the paper reports for its counterpart after 60 s (VBench)."""

    total: float
    background: float
    subject: float
    dynamic: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """One row of the ablation."""

    title: str
    """Its name in the table."""
    everywhere: tuple[str, ...] = ()
    """Overrides of every stage."""
    teacher: tuple[str, ...] = ()
    """Overrides of the teacher."""
    init: tuple[str, ...] = ()
    """Overrides of the student's initialisation."""
    scored: tuple[str, ...] = ()
    """Overrides of the stages that follow scores, local and context."""
    score: str = ""
    """The variant whose teacher is the real score; empty for its own."""
    final: str = "context"
    """The last stage, whose export is judged."""
    paper: Paper | None = None
    """Its counterpart."""
    baseline: bool = False
    """Whether the others' effective context is measured against it."""


_ABSOLUTE = ("world.memory.positions=ABSOLUTE",)
_NO_ERRORS = ("stage.erft.probability=0", "stage.erft.noise=0")


def _uniform(interval: int) -> tuple[str, ...]:
    return ("world.memory.rule=UNIFORM", f"world.memory.consolidate_every={interval}")


VARIANTS: Mapping[str, Variant] = {
    FAST_ONLY: Variant(
        title="fast memory only", everywhere=("world.memory.num_sink=0", "world.memory.num_slow=0"), baseline=True
    ),
    SINK_AND_FAST: Variant(title="sink and fast memory", everywhere=("world.memory.num_slow=0",), baseline=True),
    FULL: Variant(
        title="full",
        scored=("paradigm=context_forcing",),
        paper=Paper(total=82.45, background=95.34, subject=94.88, dynamic=58.26),
    ),
    "without_cdmd": Variant(
        title="without CDMD (Stage 1 alone)",
        scored=("paradigm=context_forcing",),
        final="local",
        paper=Paper(total=80.36, background=93.55, subject=93.20, dynamic=48.12),
    ),
    "without_bounded_positions": Variant(
        title="without bounded positions",
        everywhere=_ABSOLUTE,
        scored=("paradigm=context_forcing",),
        paper=Paper(total=73.52, background=84.68, subject=79.24, dynamic=27.45),
    ),
    "uniform_1": Variant(
        title="uniform slow memory, interval 1",
        everywhere=_uniform(1),
        scored=("paradigm=context_forcing",),
        paper=Paper(total=80.82, background=92.45, subject=92.10, dynamic=52.15),
    ),
    "uniform_2": Variant(
        title="uniform slow memory, interval 2",
        everywhere=_uniform(2),
        scored=("paradigm=context_forcing",),
        paper=Paper(total=81.11, background=93.12, subject=92.85, dynamic=55.30),
    ),
    "uniform_3": Variant(
        title="uniform slow memory, interval 3", everywhere=_uniform(3), scored=("paradigm=context_forcing",)
    ),
    TEACHER: Variant(title="teacher", final="teacher"),
    TEACHER_WITHOUT_ERFT: Variant(title="teacher without ERFT", teacher=_NO_ERRORS, final="teacher"),
    "without_erft": Variant(
        title="without ERFT", teacher=_NO_ERRORS, init=_NO_ERRORS, scored=("paradigm=context_forcing",)
    ),
    "self_forcing": Variant(
        title="short teacher, short student (Self-Forcing)", scored=("paradigm=self_forcing",), score=FAST_ONLY
    ),
    "longlive": Variant(title="short teacher, long student (LongLive)", scored=("paradigm=longlive",), score=FAST_ONLY),
    "score_window_2": Variant(
        title="score window of 2 chunks", scored=("paradigm=context_forcing", "stage.score_window=2")
    ),
    "score_window_4": Variant(
        title="score window of 4 chunks", scored=("paradigm=context_forcing", "stage.score_window=4")
    ),
}
"""By name; baselines first. `self_forcing`, `longlive` and `full` are the three paradigms."""
