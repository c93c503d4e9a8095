"""SIGTERM and SIGHUP: a run saves its state, then ends.

During training steps a signal is kept until the step's end, where `fit` saves and stops. In other
phases (preparing, decoding) it stops at once, and what is saved stays.

Several hosts have to stop after the same step. jax's preemption service agrees on one when SIGTERM
reaches any of them, and keeps the signal until then; SIGHUP has its usual effect there.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

import jax

from distill.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Whether a signal came while it was held back."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._holds = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within its block a signal is only kept: whoever trains asks for `number`."""
        before, self._holds = self._holds, True
        try:
            yield
        finally:
            self._holds = before

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Within a block of `held`: a signal, one that was kept too, stops the run at once.

        Raises:
          Stopped: there is a signal.
        """
        before, self._holds = self._holds, False
        try:
            if self.number is not None:
                raise Stopped(self.number)
            yield
        finally:
            self._holds = before

    def ask(self, step: int) -> int | None:
        """The signal to stop for after this step; None to go on. All hosts ask after each step."""
        if jax.distributed.is_initialized() and _has_preemption_service():
            from jax.experimental.multihost_utils import reached_preemption_sync_point

            if reached_preemption_sync_point(step):
                self.number = signal.SIGTERM
        return self.number

    def handle(self, number: int, frame: object) -> None:
        """Keeps the signal, or stops at once."""
        del frame
        self.number = number
        if not self._holds:
            raise Stopped(number)


def _has_preemption_service() -> bool:
    # jax declares its settings at run time, where type checkers do not see them.
    return bool(jax.config.jax_enable_preemption_service)  # type: ignore[attr-defined]


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within its block the signals are handled; before and after they have their usual effect.

    In threads other than the main one, and on several hosts, nothing changes.

    Yields:
      What `fit` asks.
    """
    request = StopRequest()
    alone = not jax.distributed.is_initialized()
    if not alone or threading.current_thread() is not threading.main_thread():
        yield request
        return
    # What is ignored stays so: nohup ignores SIGHUP.
    taken = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, request.handle) for number in taken}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
