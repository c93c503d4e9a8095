"""Ends a run whose steps have stopped: a collective may wait forever for a host that hangs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from distill.training.peers import end_process


class StepWatch:
    """Ends the process when no step has finished for some time; use as a context manager.

    It counts only while steps are taken: what is done within `paused` may last as long as it wants.
    """

    def __init__(self, timeout: float, steps_done: Callable[[], int]) -> None:
        """Prepares the thread.

        Args:
          timeout: seconds; 0 for no watch.
          steps_done: number of steps that the devices have finished.
        """
        self._timeout, self._steps_done = timeout, steps_done
        self._thread = threading.Thread(target=self._watch, name="steps", daemon=True)
        self._is_over, self._pauses = threading.Event(), 0
        self._since, self._done = time.monotonic(), -1

    def __enter__(self) -> StepWatch:
        self._since = time.monotonic()
        if self._timeout:
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._is_over.set()
        if self._timeout:
            self._thread.join()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Compilation, evaluation and checkpoints do not count."""
        self._pauses += 1
        try:
            yield
        finally:
            self._since = time.monotonic()
            self._pauses -= 1

    def _watch(self) -> None:
        while not self._is_over.wait(min(1.0, self._timeout / 4)):
            done, now = self._steps_done(), time.monotonic()
            if done != self._done or self._pauses:
                self._done, self._since = done, now
            elif now - self._since > self._timeout:
                end_process(
                    f"no step has finished for {self._timeout:g} s, the last was step {done}: a "
                    "host or a device hangs (--step_timeout sets the limit). Repeat the command "
                    "on all hosts to resume from the newest checkpoint"
                )
