"""Ends a process of the command line without taking its modules apart."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

_codes: list[int] = []


def run_and_exit(main: Callable[[], int]) -> NoReturn:
    """Runs a command, and ends the process with its exit code.

    Threads that are not daemons are waited for, exit handlers run and the standard streams are
    flushed, as at any other end. What is left out is the destruction of every object that is still
    there. With jax and TensorFlow that takes seconds in which the process, whose work is done, says
    nothing. Files therefore have to be closed before `main` returns.

    Args:
      main: the command; gives the exit code, or raises SystemExit.
    """

    atexit.register(_leave)  # before all others, so that it runs after them
    try:
        code = main()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        code = end.code or 0
    _codes.append(code)
    sys.exit(code)


def leave(code: int) -> NoReturn:
    """Ends the process now, without the exit handlers that have not run yet.

    Args:
      code: its exit code.
    """
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # nobody reads it
            stream.flush()
    os._exit(code)


def _leave() -> None:
    if _codes:  # else an error that the command does not handle: Python shows it
        leave(_codes[-1])


def code() -> int | None:
    """The exit code of the command, once it is known; exit handlers may ask."""
    return _codes[-1] if _codes else None


@contextlib.contextmanager
def orderly_sigterm(said: str) -> Iterator[None]:
    """Within its block SIGTERM raises SystemExit(143), so that files are closed on the way out.

    In threads other than the main one, and where SIGTERM is ignored or handled, nothing changes.

    Args:
      said: a line for stderr.
    """
    taken = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )

    def end(number: int, frame: object) -> NoReturn:
        del frame
        os.write(2, f"{said}\n".encode())
        sys.exit(128 + number)

    if taken:
        signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        if taken:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
