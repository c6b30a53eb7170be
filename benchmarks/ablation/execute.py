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

__all__ = ["DONE", "Commands", "Execute", "Outcome", "execute_all"]

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


def execute_all(
    runs: Sequence[Run],
    execute: Execute,
    bar: Bar = progress_bar,
    workers: int = 1,
    stop: Callable[[], None] = lambda: None,
) -> Outcome:
    """Make all runs that are still to do, and go on where one fails.

    Args:
        runs: in an order in which each finds what it needs.
        execute: makes one; it is called in other threads.
        bar: counts runs.
        workers: how many are made at a time. A run begins when all that it needs is there and a worker is free.
        stop: ends what is being made, where this is interrupted.
    """
    skipped = {run.folder for run in runs if (run.folder / DONE).is_file()}
    waiting = [run for run in runs if run.folder not in skipped]
    making: dict[Future[bool], Run] = {}
    made, failed = set[Path](), set[Path]()
    pool = ThreadPoolExecutor(workers)
    try:
        with bar("ablation", len(runs), "run") as progress:
            progress(len(skipped))
            while waiting or making:
                unmade = {run.folder for run in (*waiting, *making.values())}
                ready = [run for run in waiting if not _needs(run, unmade)]
                lost = [run for run in ready if _needs(run, failed)]
                for run in lost:
                    print(f"{run.title}: left out, since what it needs failed", file=sys.stderr)
                failed |= {run.folder for run in lost}
                begun = [] if lost else ready[: workers - len(making)]
                assert lost or begun or making, "runs are in an order in which each finds what it needs"
                making |= {pool.submit(_made, run, execute): run for run in begun}
                waiting = [run for run in waiting if run not in lost and run not in begun]
                done = set[Future[bool]]() if lost else wait(making, return_when=FIRST_COMPLETED).done
                for future in done:
                    (made if future.result() else failed).add(making.pop(future).folder)
                progress(len(lost) + len(done))
    except BaseException:
        stop()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
    return Outcome(
        made=[run for run in runs if run.folder in made],
        skipped=[run for run in runs if run.folder in skipped],
        failed=[run for run in runs if run.folder in failed],
    )


def _needs(run: Run, folders: Set[Path]) -> bool:
    """Whether a run reads what another one writes."""
    return any(f"{folder}/" in f"{argument}/" for folder in folders for argument in run.arguments)


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


class Commands:
    """Runs `cfworld` in processes of their own; an interrupted training goes on from its last checkpoint."""

    def __init__(self) -> None:
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def __call__(self, run: Run) -> None:
        """Make a run.

        Raises:
            CalledProcessError: if it fails.
        """
        command = [sys.executable, "-c", "from cfworld.cli.main import main; main()", *run.command]
        with log_of(run).open("a", encoding="utf-8") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **_THREADS})
            self._running.add(process)
            if self._stopped:
                process.terminate()
            code = process.wait()
            self._running.discard(process)
        if code:
            raise subprocess.CalledProcessError(code, command)

    def stop(self) -> None:
        """End all that is running, and what begins from now on."""
        self._stopped = True
        for process in list(self._running):
            process.terminate()


_THREADS = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
