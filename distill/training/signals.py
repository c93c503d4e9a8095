"""SIGTERM, SIGHUP and Ctrl-C: a run saves its state, then ends.

During training steps a signal is kept until the step's end, where `fit` saves and stops; a second
Ctrl-C stops at once. A validation is interrupted, and `fit` saves the state that it was about. In
other phases (preparing, the test) a signal stops at once, and what is saved stays. Where Python
drops the exception of the handler (see `distill.common.safe_points`), the run stops at the next
batch that it decodes, the next row that it prepares, or the next phase.

Several hosts have to stop after the same step, or the same batch that they decode. A signal to any
of them is kept until the point that they agree on (see `distill.training.peers`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

from distill.common.safe_points import registered
from distill.errors import Stopped, describe_saved, stopped_by
from distill.training import hosts

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_KEPT = b"\nCtrl-C: stopping after this step; press it again to stop without saving\n"


class StopRequest:
    """Whether a signal came while it was held back."""

    def __init__(self) -> None:
        self.number: int | None = None  # on several hosts only once they have agreed on the point
        self._received: int | None = None
        self._holds = self._in_step = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Within its block a signal is only kept: whoever trains asks for `number`.

        Raises:
          Stopped: a signal came before.
        """
        self.check()
        before = self._holds, self._in_step
        self._holds = self._in_step = True
        try:
            yield
        finally:
            self._holds, self._in_step = before

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Within a block of `held`: a signal, one that was kept too, stops the run at once.

        Raises:
          Stopped: there is a signal.
        """
        before = self._holds, self._in_step
        self._holds, self._in_step = False, True
        together = hosts.connections() is not None
        try:
            self.check()
            # All hosts decode the same batches, so they pass the same points.
            with registered(self._ask_and_check) if together else contextlib.nullcontext():
                yield
            self.check()
        finally:
            self._holds, self._in_step = before

    def check(self) -> None:
        """Stops the run if there is a signal that is not held back.

        Raises:
          Stopped: there is.
        """
        if self.number is not None and not self._holds:
            raise stopped_by(self.number)

    def ask(self) -> int | None:
        """The signal to stop for; None to go on. All hosts ask at the same points."""
        if peers := hosts.connections():
            self.number = peers.pass_point()
        return self.number

    def _ask_and_check(self) -> None:
        self.ask()
        self.check()

    def handle(self, number: int, frame: object) -> None:
        """Keeps the signal, and stops at once unless it is held back.

        Raises:
          Stopped: it is not held back.
          KeyboardInterrupt: Ctrl-C, for the second time.
        """
        del frame
        if number == signal.SIGINT and self._received == number:
            raise KeyboardInterrupt
        self._received = number
        peers = hosts.connections()
        if peers is not None and self._in_step:
            peers.want_stop(number)
        else:
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


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Within its block the signals are handled; before and after they have their usual effect.

    In threads other than the main one nothing changes.

    Yields:
      What `fit` asks.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
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
