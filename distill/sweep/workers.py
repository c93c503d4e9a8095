"""Runs side by side, one process per core, which end with the process that started them."""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING

from distill.errors import Stopped

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

    from distill.training.records import Results

GRACE = 30.0  # seconds in which a run saves its state once its parent is gone


def available_cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]


@contextlib.contextmanager
def workers(cores: Sequence[int]) -> Iterator[ProcessPoolExecutor]:
    """A pool with a process per core.

    An exception within the block, Ctrl-C too, stops all of it: runs that train save their state,
    and no other begins. If this process is killed, its workers do the same.

    Args:
      cores: of `available_cores`.
    """
    context = multiprocessing.get_context("spawn")
    counter = context.Value("i", 0)
    with ProcessPoolExecutor(len(cores), context, _prepare, (counter, cores)) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise


def train(gin_files: Sequence[str], overrides: tuple[str, ...], run_dir: str) -> Results:
    """Trains a run in a worker; its lines go to `<run_dir>.log`.

    Args:
      gin_files: of the run.
      overrides: `NAME=value` texts.
      run_dir: the run folder.

    Raises:
      UserError: whatever `native.train` refuses.
    """
    from distill.config.resolve import resolve
    from distill.engines import native

    with open(f"{run_dir}.log", "a") as log:
        resolved = resolve(gin_files, overrides)
        try:
            return native.train(resolved, run_dir, lambda line: print(line, file=log, flush=True))
        except Stopped as stopped:
            print(stopped, file=log, flush=True)
            os._exit(128 + stopped.number)  # else the process would take the next run


def _prepare(counter: Synchronized[int], cores: Sequence[int]) -> None:
    """Gives a worker one core: runs side by side are faster than one run on all cores."""
    with counter.get_lock():
        index, counter.value = counter.value, counter.value + 1
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {cores[index % len(cores)]})
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which stops all
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Stops this process when its parent has ended, in whatever way."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    multiprocessing.connection.wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(128 + signal.SIGTERM)
