"""Jobs on several processes: results as they come, clear errors when a worker dies, none left behind."""

import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, ClassVar, Protocol, cast, runtime_checkable

from cfworld.errors import CollectionError

__all__ = ["Job", "run_jobs"]

PATIENCE = 60.0
"""Seconds that a worker gets to finish what it is doing and close its simulator."""


@runtime_checkable
class Job(Protocol):
    """Does numbered pieces of work in one process; picklable as long as it has done none."""

    worker: ClassVar[str]
    """What errors call a process that does it."""
    advice: ClassVar[str]
    """What is kept, and what to do, when such a process dies."""

    def __call__(self, number: int, advance: Callable[[int], None]) -> Any:
        """Does piece `number`, telling `advance` how far it has come. It may raise what `advance` raises."""

    def close(self) -> None:
        """Releases what the work needed."""


class _StopWorking(Exception):  # noqa: N818
    """The parent wants no more work, or is no more."""


def run_jobs(
    job: Job, numbers: Iterator[int], num_workers: int, advance: Callable[[int], None]
) -> Generator[tuple[int, Any], None, None]:
    """Does pieces of work, in this process when there is one worker, and gives the results as they come.

    Close the iterator to stop: workers then finish the step they are in, and drop their unfinished pieces.

    Args:
        job: What every worker does.
        numbers: The pieces of work; an endless iterator will do.
        num_workers: How many processes.
        advance: Is told how far the work has come.

    Yields:
        The number of a piece and its result.

    Raises:
        CollectionError: A worker died or its job raised.
    """
    if num_workers > 1:
        yield from _run_in_processes(job, numbers, num_workers, advance)
        return
    try:
        for number in numbers:
            yield number, job(number, advance)
    finally:
        job.close()


def _run_in_processes(
    job: Job, numbers: Iterator[int], num_workers: int, advance: Callable[[int], None]
) -> Generator[tuple[int, Any], None, None]:
    context = multiprocessing.get_context("spawn")
    workers: dict[Connection, SpawnProcess] = {}
    try:
        for _, number in zip(range(num_workers), numbers, strict=False):
            ours, theirs = cast(tuple[Connection, Connection], context.Pipe())
            process = context.Process(target=_work, args=(job, theirs), daemon=True)
            process.start()
            theirs.close()
            workers[ours] = process
            ours.send(number)
        while workers:
            for connection in cast(list[Connection], wait(list(workers))):
                kind, *content = _receive(job, connection, workers[connection])
                if kind == "advance":
                    advance(*content)
                elif kind == "done":
                    following = next(numbers, None)
                    if following is not None:
                        connection.send(following)
                    yield content[0], content[1]
                    if following is None:
                        _dismiss({connection: workers.pop(connection)})
    finally:
        _dismiss(workers)


def _receive(job: Job, connection: Connection, process: SpawnProcess) -> tuple[Any, ...]:
    try:
        message = connection.recv()
    except (EOFError, ConnectionError):
        process.join()
        _clear_away(process)
        raise CollectionError(
            f"a {job.worker} died with exit code {process.exitcode} (negative: a signal; -9 is often lack of memory); "
            f"{job.advice}, with fewer workers if it was memory"
        ) from None
    if message[0] == "failed":
        raise CollectionError(f"a {job.worker} failed:\n{message[1]}")
    return message


def _dismiss(workers: dict[Connection, SpawnProcess]) -> None:
    """Lets workers finish their step and go; one that does not go is killed."""
    for connection in workers:
        with suppress(OSError):
            connection.send(None)
    for connection, process in workers.items():
        _drain(connection)
        process.join(PATIENCE)
        if process.exitcode != 0:
            _clear_away(process)
            process.join()
        connection.close()


def _clear_away(process: SpawnProcess) -> None:
    """Kills a worker and the simulators that it started, which would outlive it."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(cast(int, process.pid), signal.SIGKILL)
    process.kill()


def _drain(connection: Connection) -> None:
    """Reads what a leaving worker still says, so that it never waits for a reader."""
    with suppress(EOFError, OSError):
        while connection.poll(PATIENCE):
            connection.recv()


def _keep_files_from_children() -> None:
    """Keeps the pipes from simulators: while one of them held an end, nobody would learn of a death."""
    for file in range(3, 256):
        with suppress(OSError):
            os.set_inheritable(file, False)


def _work(job: Job, connection: Connection) -> None:
    """The life of a worker. It ends with its parent, whose end of the pipe then closes.

    A worker leads a session of its own: Ctrl-C reaches the parent alone, which then stops the workers in order.
    """
    os.setsid()
    _keep_files_from_children()

    def advance(amount: int) -> None:
        if connection.poll():
            raise _StopWorking
        connection.send(("advance", amount))

    try:
        while (number := connection.recv()) is not None:
            connection.send(("done", number, job(number, advance)))
    except (_StopWorking, EOFError, ConnectionError):
        pass
    except Exception:
        with suppress(OSError):
            connection.send(("failed", traceback.format_exc()))
    finally:
        job.close()
