"""SIGTERM, SIGHUP and Ctrl-C: a run saves its state, then ends.

During training steps a signal is kept until the step's end, where `fit` saves and stops; a second
Ctrl-C stops at once. A validation is interrupted, and `fit` saves the state that it was about. In
other phases (preparing, the test) a signal stops at once, and what is saved stays. Where Python
drops the exception of the handler (see `distill.common.safe_points`), the run stops at the next
batch that it decodes, the next row that it prepares, or the next phase.

Several hosts have to stop after the same step. jax's preemption service agrees on one when SIGTERM
reaches any of them, and keeps the signal until then; SIGHUP has its usual effect there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import jax

from distill.common.safe_points import registered
from distill.errors import Stopped, describe_saved, stopped_by

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_KEPT = b"\nCtrl-C: stopping after this step; press it again to stop without saving\n"


class StopRequest:
    """Whether a signal came while it was held back."""

    def __init__(self) -> None:
        self.number: int | None = None
        self._holds = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within its block a signal is only kept: whoever trains asks for `number`.

        Raises:
          Stopped: a signal came before.
        """
        self.check()
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
            self.check()
            yield
            self.check()
        finally:
            self._holds = before

    def check(self) -> None:
        """Stops the run if there is a signal that is not held back.

        Raises:
          Stopped: there is.
        """
        if self.number is not None and not self._holds:
            raise stopped_by(self.number)

    def ask(self, step: int) -> int | None:
        """The signal to stop for after this step; None to go on. All hosts ask after each step."""
        if jax.distributed.is_initialized() and _has_preemption_service():
            from jax.experimental.multihost_utils import reached_preemption_sync_point

            if reached_preemption_sync_point(step):
                self.number = signal.SIGTERM
        return self.number

    def handle(self, number: int, frame: object) -> None:
        """Keeps the signal, and stops at once unless it is held back.

        Raises:
          Stopped: it is not held back.
          KeyboardInterrupt: Ctrl-C, for the second time.
        """
        del frame
        if number == signal.SIGINT and self.number == number:
            raise KeyboardInterrupt
        self.number = number
        self.check()
        if number == signal.SIGINT:
            os.write(2, _KEPT)  # print may be what the signal interrupted


@contextlib.contextmanager
def saying_what_is_saved(newest_step: Callable[[], int | None]) -> Iterator[None]:
    """Adds what is saved to the message of a signal or of Ctrl-C that ends the block.

    Args:
      newest_step: finds the newest saved step; None if none is.
    """
    try:
        yield
    except Stopped as stopped:
        raise stopped_by(stopped.number, newest_step()) from None
    except KeyboardInterrupt as interrupt:
        saved = describe_saved(newest_step())
        raise KeyboardInterrupt(f"interrupted: {saved}") from interrupt


def _is_taken(number: int) -> bool:
    """Whether a signal is handled here: not one that is ignored, nor another's Ctrl-C."""
    handler = signal.getsignal(number)
    if number == signal.SIGINT:
        return handler is signal.default_int_handler
    return handler != signal.SIG_IGN


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
    taken = [number for number in SIGNALS if _is_taken(number)]
    before = {number: signal.signal(number, request.handle) for number in taken}
    try:
        with registered(request.check):
            yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
