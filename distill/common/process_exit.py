"""Ends a process of the command line without taking its modules apart."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn


def run_and_exit(main: Callable[[], int]) -> NoReturn:
    """Runs a command, and ends the process with its exit code.

    Threads that are not daemons are waited for, exit handlers run and the standard streams are
    flushed, as at any other end. What is left out is the destruction of every object that is still
    there. With jax and TensorFlow that takes seconds in which the process, whose work is done, says
    nothing. Files therefore have to be closed before `main` returns.

    Args:
      main: the command; gives the exit code, or raises SystemExit.
    """
    codes: list[int] = []

    def leave() -> None:
        if not codes:
            return  # an error that `main` does not handle: Python shows it
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # nobody reads it
                stream.flush()
        os._exit(codes[0])

    atexit.register(leave)  # before all others, so that it runs after them
    try:
        code = main()
    except SystemExit as end:
        if end.code is not None and not isinstance(end.code, int):
            raise
        code = end.code or 0
    codes.append(code)
    sys.exit(code)
