"""Runs side by side, each in a process with cores of its own, which end with their parent."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing import connection
from typing import TYPE_CHECKING

from distill.common import huge_pages
from distill.sweep.worker import Outcome, serve

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from distill.sweep.collect import Job

GRACE = 30.0  # seconds in which a run saves its state once its parent is gone
_STOP = 90.0  # seconds in which a worker that is told to stop has to end


def available_cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


@dataclasses.dataclass
class _Worker:
    process: SpawnProcess
    pipe: connection.Connection
    job: Job | None = None
    started: float = 0.0


class Crew:
    """Worker processes; `crew` makes one and ends it."""

    def __init__(self, count: int, cores: Sequence[int]) -> None:
        """Prepares a crew without starting a process.

        Args:
          count: of workers.
          cores: of `available_cores`; the workers share them evenly.
        """
        self._context = multiprocessing.get_context("spawn")
        shares = [list(cores[index::count]) for index in range(min(count, len(cores)))]
        self._shares = [shares[index % len(shares)] for index in range(count)]
        self._workers: list[_Worker | None] = [None] * count

    @property
    def jobs(self) -> list[Job]:
        """The jobs that are under way."""
        return [worker.job for worker in self._workers if worker and worker.job]

    @property
    def has_room(self) -> bool:
        """Whether a worker has nothing to do."""
        return len(self.jobs) < len(self._workers)

    @property
    def has_idle(self) -> bool:
        """Whether a process that has started has nothing to do."""
        return any(worker and not worker.job for worker in self._workers)

    def start(self, job: Job) -> None:
        """Gives a job to a worker that has nothing to do; there must be one."""
        free = [i for i, worker in enumerate(self._workers) if worker is None or not worker.job]
        index = min(free, key=lambda i: self._workers[i] is None)  # one that runs already
        worker = self._workers[index] or self._new_worker(index)
        self._workers[index] = worker
        worker.pipe.send(job)
        worker.job, worker.started = job, time.monotonic()

    def wait(self, timeout: float) -> list[tuple[Job, Outcome]]:
        """What has ended.

        Args:
          timeout: seconds after which nothing may have.

        Returns:
          Jobs and what came of them. A process that died is an outcome too.
        """
        busy = {worker.pipe: worker for worker in self._workers if worker and worker.job}
        ended = []
        for pipe in connection.wait(list(busy), timeout):
            worker = busy[pipe]  # type: ignore[index]  # only these were waited for
            job = worker.job
            assert job is not None
            try:
                outcome = worker.pipe.recv()
            except (EOFError, ConnectionError):
                outcome = self._dead(worker)
            worker.job = None
            if job.is_t5x or outcome.is_dead:  # T5X leaves its settings behind in the process
                self._dismiss(worker)
            ended.append((job, outcome))
        return ended

    def _dead(self, worker: _Worker) -> Outcome:
        worker.process.join(GRACE)
        code = worker.process.exitcode
        reason = f"with exit code {code}"
        if code is not None and code < 0:
            reason = f"by {signal.Signals(-code).name}"
            if code == -signal.SIGKILL:
                reason += " (perhaps the memory ran out: try fewer --workers)"
        seconds = time.monotonic() - worker.started
        return Outcome("dead", f"its process was ended {reason}", seconds=seconds)

    def _new_worker(self, index: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=serve, args=(theirs, self._shares[index], GRACE), daemon=True
        )
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _dismiss(self, worker: _Worker) -> None:
        worker.pipe.close()  # a worker without a job ends
        self._workers[self._workers.index(worker)] = None
        worker.process.join(GRACE)
        if worker.process.is_alive():
            worker.process.kill()

    def stop(self, told: bool) -> None:
        """Ends all processes.

        Args:
          told: whether runs are to save their state first; else none is under way.
        """
        workers = [worker for worker in self._workers if worker]
        for worker in workers:
            if told and worker.job:
                worker.process.terminate()
            worker.pipe.close()
        end = time.monotonic() + _STOP
        try:
            for worker in workers:
                worker.process.join(max(0.1, end - time.monotonic()))
        finally:  # Ctrl-C for the second time stops at once
            for worker in workers:
                if worker.process.is_alive():
                    worker.process.kill()


@contextlib.contextmanager
def crew(count: int, cores: Sequence[int]) -> Iterator[Crew]:
    """Worker processes, for the time of the block.

    An exception within it, Ctrl-C too, stops all of them: runs that train save their state. If
    this process is killed, its workers do the same.

    Args:
      count: of workers.
      cores: of `available_cores`.
    """
    os.environ |= huge_pages.environment(os.environ)  # of the workers, which start after this
    members = Crew(count, cores)
    try:
        yield members
    except BaseException:
        members.stop(told=True)
        raise
    members.stop(told=False)
