"""Making the runs of a plan: each once, some at a time, with logs of their own; what is done is not done again."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of the runs."""

    made: Sequence[Run]
    """Those that were made now."""
    skipped: Sequence[Run]
    """Those that had been made before."""
    failed: Sequence[Run]
    """Those that failed, or could not begin because what they need had failed."""


def execute_all(runs: Sequence[Run], execute: Execute, bar: Bar = progress_bar, workers: int = 1) -> Outcome:
    """Make all runs that are still to do, and go on where one fails.

    Args:
        runs: in an order in which each finds what it needs.
        execute: makes one; it is called in a thread of its own.
        bar: counts runs.
        workers: how many are made at a time. A run begins when all that it needs are there.
    """
    skipped = {run.folder for run in runs if (run.folder / DONE).is_file()}
    waiting, making = [run for run in runs if run.folder not in skipped], dict[Future[bool], Run]()
    made, failed = set[Path](), set[Path]()
    with bar("ablation", len(runs), "run") as progress, ThreadPoolExecutor(workers) as pool:
        progress(len(skipped))
        while waiting or making:
            unmade = {run.folder for run in (*waiting, *making.values())}
            for run in [run for run in waiting if not _needs(run, unmade)][: workers - len(making)]:
                waiting.remove(run)
                if _needs(run, failed):
                    print(f"{run.title}: left out, since what it needs failed", file=sys.stderr)
                    failed.add(run.folder)
                    progress(1)
                else:
                    making[pool.submit(_made, run, execute)] = run
            for future in wait(making, return_when=FIRST_COMPLETED).done:
                (made if future.result() else failed).add(making.pop(future).folder)
                progress(1)
    return Outcome(*([run for run in runs if run.folder in those] for those in (made, skipped, failed)))


def _needs(run: Run, folders: Set[Path]) -> bool:
    """Whether a run reads what another one writes."""
    return any(str(folder) in argument for folder in folders for argument in run.arguments)


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
