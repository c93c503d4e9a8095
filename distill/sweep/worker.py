"""A worker process of a sweep: trains one run after another, and writes their records."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

from distill.common.atomic import is_local
from distill.errors import Stopped, UserError
from distill.results import store
from distill.results.record import Record
from distill.sweep import claims
from distill.sweep.collect import Job, done_record, failed_record, now

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from distill.config.resolve import Resolved
    from distill.training.records import Results


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Attributes:
      kind: "ended" (there is a record), "held" (another process has the run) or "dead" (the
        process of the run is gone, and has left no record).
      message: why, unless the run is finished.
      record: what was recorded.
      peak_bytes: most memory that the process has used so far; 0 if it is not known.
      seconds: that the job took.
    """

    kind: str
    message: str = ""
    record: Record | None = None
    peak_bytes: int = 0
    seconds: float = 0.0

    @property
    def is_dead(self) -> bool:
        """Whether the process is gone."""
        return self.kind == "dead"


def serve(pipe: Connection, cores: Sequence[int], grace: float) -> None:
    """Works until its parent closes the pipe; the main function of a worker process.

    Args:
      pipe: gives jobs, and takes their outcomes.
      cores: that this process runs on: runs side by side are faster than one run on all cores.
      grace: seconds in which a run saves its state once the parent is gone.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops all
    threading.Thread(target=_end_with_parent, args=(grace,), daemon=True).start()
    tqdm.set_lock(threading.RLock())  # else a semaphore of the system, which is left behind
    while True:
        try:
            job = pipe.recv()
        except (EOFError, ConnectionError):
            os._exit(0)  # jax and TensorFlow take seconds to be taken apart
        outcome = work(job)
        with contextlib.suppress(BrokenPipeError):
            pipe.send(outcome)


def work(job: Job) -> Outcome:
    """Trains or resumes a run, unless another process has it, and appends its record.

    Args:
      job: the attempt; its results folder has to be there.
    """
    claim = claims.try_claim(job.log)
    if claim is None:
        return Outcome("held", f"another process holds {job.log}")
    began, started = time.monotonic(), now()
    try:
        earlier = store.by_run(job.out).get(job.run, [])
        if earlier and earlier[-1].is_done:  # another process has just finished it
            return Outcome("ended", record=earlier[-1])
        job = dataclasses.replace(job, attempt=len(earlier) + 1)
        with _printing_to(claim):
            print(f"{started}: attempt {job.attempt} at {job.run}", flush=True)
            outcome = _attempt(job, began, started)
        if outcome.record is not None:
            store.append(job.out, outcome.record)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return dataclasses.replace(outcome, peak_bytes=peak, seconds=time.monotonic() - began)
    finally:
        claims.release(claim)


def _attempt(job: Job, began: float, started: str) -> Outcome:
    from distill.config.resolve import resolve
    from distill.convert.sizes import adopt_for
    from distill.training.run_lock import InUse

    resolved = None
    try:
        resolved = resolve(job.gin_files, job.overrides, None, adopt_for(job.run_dir))
        results = _train(resolved, job.run_dir)
        return Outcome("ended", record=done_record(job, resolved.run, results, started))
    except InUse as error:
        print(error, flush=True)
        return Outcome("held", str(error))
    except Stopped as stopped:
        print(stopped, flush=True)
        os._exit(128 + stopped.number)  # else the process would take the next run
    except Exception as error:
        message = _describe(error, job)
        print(message, flush=True)
        if resolved is None:
            return Outcome("dead", message)
        record = failed_record(job, resolved.run, message, started, time.monotonic() - began)
        return Outcome("ended", message, record)


def _train(resolved: Resolved, run_dir: str) -> Results:
    from distill.engines import early_checks, native

    if resolved.engine == "t5x":
        from distill.engines.t5x import train as t5x_train

        return t5x_train.train(
            resolved, run_dir, prepared=early_checks.check_rows(resolved, run_dir)
        )
    _make_data(resolved)
    prepared = early_checks.check_rows(resolved, run_dir)
    return native.train(resolved, run_dir, lambda line: print(line, flush=True), prepared=prepared)


def _make_data(resolved: Resolved) -> None:
    """Tokenizes the data of a run; of several processes that need the same, one does."""
    from distill.data import cache, datasets

    spec = resolved.run.data
    digests = datasets.file_digests(spec)
    folder = cache.cache_folder(spec, digests)
    if not is_local(folder) or cache.open_cache(spec, digests) is not None:
        return
    with claims.turn(folder.parent / f".{folder.name}.turn"):
        if cache.open_cache(spec, digests) is None:
            cache.load_cache(spec, digests, say=lambda line: print(line, flush=True))


def _describe(error: Exception, job: Job) -> str:
    """The message of an attempt that failed; the traceback of a fault goes to the log."""
    from distill.common.disk import describe_failure

    if isinstance(error, UserError):
        return str(error)
    told = describe_failure(error, [job.run_dir])
    if told is not None:
        return told
    traceback.print_exc()
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first[:300]} (the traceback is in {job.log})"


@contextlib.contextmanager
def _printing_to(descriptor: int) -> Iterator[None]:
    """Sends what this process and the libraries in it print to a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, before in zip((1, 2), saved, strict=True):
            os.dup2(before, number)
            os.close(before)


def _end_with_parent(grace: float) -> None:
    """Stops this process when its parent has ended, in whatever way."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    multiprocessing.connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(128 + signal.SIGTERM)
