"""Notices of Compute Engine that a machine is about to be taken: they stop a run as SIGTERM does.

Read from the metadata server, on Compute Engine only. A notice that is there when a run starts does
not stop it: the machine would only start it again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from distill.common import metadata

PERIOD = 5.0  # seconds between two questions; a spot machine is taken 30 s after its notice
_TIMEOUT = 1.0  # seconds for an answer; the server is on the machine itself
_KEYS = {  # below instance/, and the value that says that the machine stops
    "preempted": "TRUE",
    "maintenance-event": "TERMINATE_ON_HOST_MAINTENANCE",
}


@contextlib.contextmanager
def watched_notices(say: Callable[[str], None]) -> Iterator[None]:
    """Within its block a notice makes this process send SIGTERM to itself.

    Args:
      say: takes a line about it.
    """
    if not metadata.is_compute_engine():
        yield
        return
    is_over = threading.Event()
    thread = threading.Thread(target=_watch, args=(is_over, say), name="notices", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()  # a late signal would meet the handlers that were there before


def _watch(is_over: threading.Event, say: Callable[[str], None]) -> None:
    known = _present()
    for key in sorted(known):
        say(f"Compute Engine: {key} was {_KEYS[key]} before the run started; it goes on")
    while not is_over.wait(PERIOD):
        found = _present()
        if found - known and not is_over.is_set():
            key = min(found - known)
            say(f"Compute Engine: {key} is {_KEYS[key]}; the run saves its state and ends")
            os.kill(os.getpid(), signal.SIGTERM)
            return
        known = found


def _present() -> set[str]:
    """The notices that there are; none where the server does not answer."""
    with contextlib.suppress(OSError):
        return {key for key, value in _KEYS.items() if metadata.read(key, _TIMEOUT) == value}
    return set()
