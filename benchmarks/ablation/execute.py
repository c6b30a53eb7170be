"""Making the runs of a plan: each once, with a log of its own; what is done is not done again."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from benchmarks.ablation.plan import Run
from cfworld import files
from cfworld.metrics.progress import Bar, progress_bar

__all__ = ["DONE", "Execute", "Outcome", "execute_all", "in_subprocess"]

Execute = Callable[[Run], None]
"""Makes a run, or raises."""
DONE = "done.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What came of the runs."""

    made: Sequence[Run]
    """Those that were made now."""
    skipped: Sequence[Run]
    """Those that had been made before."""
    failed: Sequence[Run]
    """Those that failed, or could not begin because what they need had failed."""


def execute_all(runs: Sequence[Run], execute: Execute, bar: Bar = progress_bar) -> Outcome:
    """Make all runs that are still to do, and go on where one fails.

    Args:
        runs: in an order in which each finds what it needs.
        execute: makes one.
        bar: counts runs.
    """
    made, skipped, failed = [], [], []
    with bar("ablation", len(runs), "run") as progress:
        for run in runs:
            if (run.folder / DONE).is_file():
                skipped.append(run)
            elif any(str(lost.folder) in argument for lost in failed for argument in run.arguments):
                print(f"{run.title}: left out, since what it needs failed", file=sys.stderr)
                failed.append(run)
            else:
                (made if _made(run, execute) else failed).append(run)
            progress(1)
    return Outcome(made=made, skipped=skipped, failed=failed)


def _made(run: Run, execute: Execute) -> bool:
    began = perf_counter()
    run.folder.mkdir(parents=True, exist_ok=True)
    print(run.title, file=sys.stderr)
    try:
        execute(run)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"{run.title}: failed ({error}); see {log_of(run)}", file=sys.stderr)
        return False
    minutes = round((perf_counter() - began) / 60, 2)
    minutes = _trained_minutes(run) or minutes
    files.write_json(run.folder / DONE, {**asdict(run), "folder": str(run.folder), "minutes": minutes})
    return True


def _trained_minutes(run: Run) -> float | None:
    """What a training says that it took, its parts before an interruption included."""
    path = run.folder / "figures.json"
    return json.loads(path.read_text(encoding="utf-8")).get("minutes") if path.is_file() else None


def log_of(run: Run) -> Path:
    """Where the output of a run goes."""
    return run.folder.with_suffix(".log")


def in_subprocess(run: Run) -> None:
    """Run `cfworld` in a process of its own; an interrupted training goes on from its last checkpoint.

    Raises:
        CalledProcessError: if it fails.
    """
    program = [sys.executable, "-c", "from cfworld.cli.main import main; main()"]
    with log_of(run).open("a", encoding="utf-8") as log:
        subprocess.run([*program, *run.command], stdout=log, stderr=log, check=True, env={**os.environ, **_THREADS})


_THREADS = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
