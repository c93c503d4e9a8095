"""Faults of the program itself: their tracebacks are kept in a file for a report."""

from __future__ import annotations

import os
import platform
import shlex
import tempfile
import traceback
from collections.abc import Sequence

from distill import __version__

EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h


def write(error: BaseException, arguments: Sequence[str]) -> str:
    """Writes the traceback of an error that no code expects, and says where it is.

    Args:
      error: the error.
      arguments: of the command line.

    Returns:
      One line for the user: the error, the file, and what to do with it.
    """
    name = f"{type(error).__name__}: {error}".partition("\n")[0]
    content = "".join(
        [
            f"distill {__version__}, Python {platform.python_version()}, {platform.platform()}\n",
            f"distill {shlex.join(arguments)}\n",
            *traceback.format_exception(error),
        ]
    )
    try:
        descriptor, path = tempfile.mkstemp(prefix="distill-error-", suffix=".log")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(content)
    except OSError as failed:
        return f"{name}. Its traceback could not be written ({failed}):\n{content}"
    return (
        f"{name}. The traceback is in {path}: please open an issue and attach this file, which "
        "contains the command line but no data"
    )
