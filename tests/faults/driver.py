"""Trains one tiny run again and again under faults: a process that the test talks to.

Imports and compilation happen once, so a run takes less than a second. Each line of the input is
a case as JSON (see `_answer`), each line of the output says how it ended.
"""

from __future__ import annotations

import concurrent.futures.thread
import contextlib
import ctypes
import faulthandler
import gc
import json
import os
import shutil
import signal
import sys
import threading
import time
import traceback

THREADS_SECONDS = 5  # threads that run longer after the end would keep the process from ending


def main() -> None:
    """Answers lines until the input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    # A test that gives up asks where the threads wait.
    faulthandler.register(signal.SIGUSR1, file=os.fdopen(os.dup(2), "w"))
    for line in sys.stdin:
        answers.write(json.dumps(_answer(**json.loads(line))) + "\n")


def _answer(argv: list[str], log: str, faults: dict[str, str], clean: list[str]) -> dict:
    """Runs a command line in this process.

    Args:
      argv: the arguments of `distill`.
      log: the file that takes stdout and stderr.
      faults: the environment variables of shim.c.
      clean: folders that are removed first.

    Returns:
      code, the exit code; `crash`, the traceback of an exception that came through; `alive`, the
      names of threads that would not end.
    """
    for folder in clean:
        shutil.rmtree(folder, ignore_errors=True)
    # Both a traceback that a thread prints and what C++ writes count as output.
    with open(log, "w") as file:
        kept = [os.dup(1), os.dup(2)]
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            return _run(argv, faults)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, descriptor in enumerate(kept, 1):
                os.dup2(descriptor, target)
                os.close(descriptor)


def _run(argv: list[str], faults: dict[str, str]) -> dict:
    from distill import cli

    _compile_once()
    before = set(threading.enumerate())
    code, crash = None, None
    _set_faults(faults)
    try:
        code = cli.main(argv)
    except SystemExit as end:
        code = end.code
    except BaseException:
        crash = traceback.format_exc()
    # Faults stay: what a thread still writes belongs to the run.
    alive = _still_alive(before)
    _set_faults({})
    gc.collect()  # asyncio prints what a forgotten future holds when it is collected
    return {"code": code, "crash": crash, "alive": alive}


def _set_faults(faults: dict[str, str]) -> None:
    for name in [name for name in os.environ if name.startswith("FAULTS_")]:
        del os.environ[name]
    os.environ.update(faults)
    ctypes.CDLL(None).faults_configure()


def _still_alive(before: set[threading.Thread]) -> list[str]:
    deadline = time.monotonic() + THREADS_SECONDS
    alive = []
    for thread in threading.enumerate():
        if thread in before or thread.daemon or _is_idle_worker(thread):
            continue
        with contextlib.suppress(Exception):  # Orbax's threads raise what they failed with
            thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            alive.append(thread.name)
    return alive


def _is_idle_worker(thread: threading.Thread) -> bool:
    """Threads of executors wait for more work; Python ends them at exit."""
    return thread in concurrent.futures.thread._threads_queues


def _compile_once() -> None:
    """Every run of this process has one configuration: the first run's program serves all."""
    from distill.training import trainer

    if getattr(trainer.make_program, "is_shared", False):
        return
    make, programs = trainer.make_program, []

    def shared(*arguments: object) -> object:
        if not programs:
            programs.append(make(*arguments))
        return programs[0]

    shared.is_shared = True
    trainer.make_program = shared


if __name__ == "__main__":
    main()
