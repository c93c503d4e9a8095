"""Points of long loops at which a signal still ends the run, though its exception was lost.

Python prints and drops an exception that a signal handler raises while it runs a callback of the
garbage collector, a finalizer, or a function that C++ has called. Whoever handles signals registers
a check here; the loops ask.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

_checks: list[Callable[[], None]] = []


def safe_point() -> None:
    """Runs the checks; one of them may raise. Costs nothing worth mentioning."""
    for check in tuple(_checks):
        check()


@contextlib.contextmanager
def registered(check: Callable[[], None]) -> Iterator[None]:
    """Within its block `safe_point` runs the check."""
    _checks.append(check)
    try:
        yield
    finally:
        _checks.remove(check)
