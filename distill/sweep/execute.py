"""Runs a sweep: what is left to do, side by side, until every run has a record."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence

from distill.common.progress import PERIOD, Progress, Say, to_stderr
from distill.errors import Stopped
from distill.preflight.host_memory import available_bytes
from distill.results import store
from distill.results.record import Record
from distill.sweep import claims
from distill.sweep.collect import Job, failed_record, next_job, now
from distill.sweep.cost import longest_first
from distill.sweep.folder import ResultsFolder
from distill.sweep.plan import Run
from distill.sweep.table import GrowingTable
from distill.sweep.worker import Outcome
from distill.sweep.workers import Crew, available_cores, crew
from distill.training.run_lock import LOCK

_PERIOD = PERIOD - 0.5  # seconds between two lines about what goes on
_HELD_PERIOD = 2.0  # seconds between two looks at runs that other processes hold
_ELSEWHERE_PERIOD = 30.0  # the same for processes of other machines
_LOOKED_AT, _SHOWN = 4096, 160  # bytes of a log's end, and characters of its newest line


class SweepStopped(Stopped):
    """A signal ends a sweep; its runs have saved their state."""

    def __init__(self, number: int, done: int, count: int) -> None:
        super().__init__(number)
        self.done, self.count = done, count

    def __str__(self) -> str:
        return (
            f"stopped by {signal.Signals(self.number).name}: {self.done} of {self.count} runs are "
            "done; the same command goes on"
        )


@dataclasses.dataclass
class _Held:
    """A run that another process has, why, and the time before which nobody looks again."""

    run: Run
    message: str
    not_before: float


class Execution:
    """Executes the runs of a sweep in one results folder."""

    def __init__(
        self,
        sweep: str,
        runs: Sequence[Run],
        folder: ResultsFolder,
        workers: int,
        retries: int,
        say: Say = to_stderr,
    ) -> None:
        """Looks at what the folder has already.

        Args:
          sweep: name of the sweep.
          runs: of the plan.
          folder: the results folder, which is there.
          workers: runs side by side.
          retries: how often this process repeats a run that fails.
          say: takes lines.
        """
        self._sweep, self._runs, self._folder = sweep, list(runs), folder
        self._workers, self._retries, self._say = workers, retries, say
        self._by_id = {run.id: run for run in runs}
        self._twins: dict[str, list[Run]] = {}  # by id of the run that trains for them
        self._records: dict[str, Record] = {}  # of runs that need nothing more
        self._held: dict[str, _Held] = {}
        self._tries: dict[str, int] = {}
        self._running: list[Job] = []
        self._peak_bytes = self._turn = 0
        firsts: dict[str, Run] = {}
        for run in runs:
            first = firsts.setdefault(run.digest, run)
            if first is not run:
                self._twins.setdefault(first.id, []).append(run)
            if record := self._done_elsewhere(run):
                self._records[run.id] = record
        for run in firsts.values():
            if run.id in self._records:
                self._record_twins(run, self._records[run.id])
        self.finished_before = len(self._records)
        left = [run for run in firsts.values() if run.id not in self._records]
        self._left = list(reversed(longest_first(left)))  # the next one last
        self._table = GrowingTable(runs, say)

    @property
    def left(self) -> list[Run]:
        """The runs that are still to be trained."""
        return list(reversed(self._left))

    def run(self) -> list[Record]:
        """Runs all that is left.

        Returns:
          The last record of each run, in the order of the plan.

        Raises:
          SweepStopped: SIGTERM or SIGHUP.
          KeyboardInterrupt: Ctrl-C.
        """
        with _signals_raise(), self._progress() as self._bar:
            try:
                with crew(self._workers, available_cores()) as members:
                    while self._left or self._held or members.jobs:
                        self._work(members)
            except Stopped as stopped:
                raise SweepStopped(stopped.number, self._count_done(), len(self._runs)) from None
            except KeyboardInterrupt:
                done, count = self._count_done(), len(self._runs)
                raise KeyboardInterrupt(
                    f"interrupted: {done} of {count} runs are done; the same command goes on"
                ) from None
        return [self._records[run.id] for run in self._runs]

    def _count_done(self) -> int:
        return sum(record.is_done for record in self._records.values())

    def _progress(self) -> Progress:
        return Progress(
            total=len(self._runs),
            description="sweep",
            unit="runs",
            initial=len(self._records),
            smoothing=0,
            disable=not sys.stderr.isatty(),
            note=self._newest_line,
        )

    def _work(self, members: Crew) -> None:
        """Starts what can start, and takes what has ended."""
        while members.has_room and self._has_memory(members) and (run := self._next()):
            members.start(self._job(run))
        self._running = members.jobs
        if self._held:
            self._look_at_held()
        if not self._running and self._held:
            time.sleep(_HELD_PERIOD)
        ended = members.wait(_HELD_PERIOD if self._held else _PERIOD)
        for job, outcome in ended:
            self._end(job, outcome)
        if not ended and self._bar.disable and (line := self._newest_line()):
            self._say(line)

    def _has_memory(self, members: Crew) -> bool:
        """Whether there is memory for one more process; one may always run."""
        if not members.jobs or members.has_idle or not self._peak_bytes:
            return True
        available = available_bytes()
        return available is None or available >= self._peak_bytes

    def _next(self) -> Run | None:
        """The next run, without those that another process has finished in the meantime."""
        while self._left:
            run = self._left.pop()
            record = self._done_elsewhere(run)
            if record is None:
                return run
            self._take(run, record)
        return None

    def _done_elsewhere(self, run: Run) -> Record | None:
        """The record of a finished run, which gets one if another sweep trained for it."""
        record = self._folder.newest([run], self._say).get(run.id)
        if record is None or not record.is_done:
            return None
        own = self._folder.records(self._say).get(run.id)
        if own is None or not own[-1].is_done:
            record = dataclasses.replace(record, sweep=self._sweep)
            store.append(self._folder.path, record, self._say)
        return record

    def _job(self, run: Run) -> Job:
        return next_job(run, self._sweep, self._folder, self._say)

    def _end(self, job: Job, outcome: Outcome) -> None:
        """Takes what came of a job."""
        run = self._by_id[job.run]
        self._peak_bytes = max(self._peak_bytes, outcome.peak_bytes)
        if outcome.kind == "held":
            if not self._held:
                self._say(f"{run.title}: {outcome.message}; it is waited for at the end")
            # Where the kernel knows of no holder, it is on another host, and is asked less often.
            wait = 0.0 if self._is_held(run) else _ELSEWHERE_PERIOD
            self._held[run.id] = _Held(run, outcome.message, time.monotonic() + wait)
            return
        record = outcome.record
        if record is None:
            record = failed_record(job, run.resolved.run, outcome.message, now(), outcome.seconds)
            store.append(self._folder.path, record, self._say)
        self._tries[run.id] = self._tries.get(run.id, 0) + 1
        if not record.is_done and self._tries[run.id] <= self._retries:
            self._say(f"{run.title} failed and will be tried again: {record.error}")
            self._left.insert(0, run)  # last, so that what may work comes first
        else:
            self._take(run, record)

    def _take(self, run: Run, record: Record) -> None:
        """A run needs nothing more."""
        before = len(self._records)
        self._records[run.id] = record
        self._record_twins(run, record)
        self._table.add(run, record, len(self._records))
        self._bar.update(len(self._records) - before)

    def _record_twins(self, run: Run, record: Record) -> None:
        """Gives the runs that have the configuration of another one its results."""
        for twin in self._twins.get(run.id, ()):
            if twin.id not in self._records:
                copied = twin.as_recorded(record)
                store.append(self._folder.path, copied, self._say)
                self._records[twin.id] = copied

    def _look_at_held(self) -> None:
        """Takes the records of runs that other processes had, or the runs that they left."""
        for held in list(self._held.values()):
            record = self._done_elsewhere(held.run)
            if record is not None:
                del self._held[held.run.id]
                self._take(held.run, record)
            elif time.monotonic() >= held.not_before and not self._is_held(held.run):
                del self._held[held.run.id]
                self._left.append(held.run)

    def _is_held(self, run: Run) -> bool:
        """Whether a process of this machine works on a run, in a sweep or by `distill train`."""
        log, lock = self._folder.log(run.id), self._folder.run_dir(run.id) / LOCK
        return claims.is_claimed(log) or claims.is_claimed(lock)

    def _newest_line(self) -> str:
        """The newest line of the log of one of the runs that are under way, in turn."""
        self._turn += 1
        if not self._running:
            held = next(iter(self._held.values()), None)
            return f"  waiting: {held.message}" if held else ""
        job = self._running[self._turn % len(self._running)]
        line = newest_line(job.log)
        if not self._bar.disable:  # the bar has the time that the whole sweep needs
            line = line.partition("  ETA ")[0]
        return f"  {self._by_id[job.run].title}: {line}" if line else ""


def newest_line(path: str) -> str:
    """The last line of a log that is not blank; "" without one."""
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LOOKED_AT))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line for line in reversed(lines) if line.strip()), "")[:_SHOWN]


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Within its block SIGTERM and SIGHUP raise Stopped, unless they are ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        del frame
        raise Stopped(number)

    taken = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
