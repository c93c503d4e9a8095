"""Keeps Orbax, asyncio and TensorStore from printing failures that they also raise.

A full disk makes many parts of a checkpoint fail at once. Orbax raises the error of one of them,
which ends the run with a message. The others would print hundreds of lines around it.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from distill.errors import Stopped

_CLOSED = "Event loop is closed"  # what asyncio says


def quiet_checkpoint_errors() -> None:
    """Hides these lines for the rest of the process; a second call changes nothing."""
    absl = logging.getLogger("absl")
    absl.setLevel(logging.WARNING)
    absl.addFilter(_says_something_new)
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    if sys.unraisablehook is not _report:
        _earlier_hooks.append(sys.unraisablehook)
        sys.unraisablehook = _report


def _says_something_new(record: logging.LogRecord) -> bool:
    """False for what Orbax also raises, and for two of its warnings.

    It gives one at each save of a step that was not evaluated, and one at each read of a state
    alone.
    """
    usual = ("tracked_metric", "Metadata file does not exist")
    return not record.exc_info and not any(text in str(record.msg) for text in usual)


_earlier_hooks: list[Callable[[sys.UnraisableHookArgs], object]] = []


def _report(unraisable: sys.UnraisableHookArgs) -> None:
    """Prints an exception that nobody can catch, but not that of a write that ends too late.

    TensorStore reports the end of each write to the event loop of its checkpoint, which is closed
    once another write has failed. A signal that Python drops stops the run at the next safe point.
    """
    error = unraisable.exc_value
    if isinstance(error, Stopped) or (isinstance(error, RuntimeError) and str(error) == _CLOSED):
        return
    _earlier_hooks[-1](unraisable)
