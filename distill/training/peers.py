"""Connections between process 0 of a run and the others, from before jax starts to the end.

When a process dies, the kernel closes its connection, and all others end at once with exit code
TRY_AGAIN; they would wait in a collective for it. A machine that is gone without a word is noticed
by TCP keepalive after 30 seconds.

A signal has to stop all processes at the same point. They count the points at which they could
stop. For a signal, process 0 asks the others how far they have counted, which stops them from
counting further, and answers with the next point that none of them has passed.

Messages: end (exit code), lost (text), wanted (signal), freeze, asked (points), stop_at (point).
"""

from __future__ import annotations

import atexit
import contextlib
import os
import selectors
import sys
import threading
import time
from typing import Any

from distill.common import process_exit, terminal
from distill.errors import TRY_AGAIN
from distill.training.links import Link

_GRACE = 10.0  # seconds that a process has to end in after another one has failed
_RESUME = "repeat the command on all hosts to resume"
_watched: list[Peers] = []


class Peers:
    """The connections of a process, watched by a thread until `leave`."""

    def __init__(self, links: list[Link], relays: bool) -> None:
        """Starts the thread.

        Args:
          links: to all others, on process 0; to process 0, on the others.
          relays: whether this is process 0, which tells the others what one of them has said.
        """
        self._links, self._relays, self._is_leaving = links, relays, False
        self._failed: tuple[float, str] | None = None  # when another has failed, and the message
        self._changed = threading.Condition()  # of what follows
        self._points, self._frozen = 0, False
        self._wanted: int | None = None  # the signal to stop for
        self._stop_at: int | None = None
        self._told_wanted = False
        self._answers: dict[Link | None, int] = {}  # points of each process, on process 0
        _watched.append(self)
        self._thread = threading.Thread(target=self._watch, name="peers", daemon=True)
        self._thread.start()
        atexit.register(self._at_exit)

    def want_stop(self, number: int) -> None:
        """A signal has come: all processes stop at one of their next points.

        Takes no lock, so that a signal handler may call it.
        """
        self._wanted = number

    def pass_point(self) -> int | None:
        """All processes call it at the same points; the signal to stop for, or None to go on."""
        with self._changed:
            while self._frozen and self._stop_at is None:
                self._changed.wait()
            self._points += 1
            return self._wanted if self._points == self._stop_at else None

    def leave(self, code: int = 0) -> None:
        """Tells the others that this process ends, or goes on without them.

        Args:
          code: with which it ends.
        """
        if not self._is_leaving:
            self._is_leaving = True
            _watched.remove(self)
            for link in self._links:
                link.send(end=code)

    def _at_exit(self) -> None:
        code = process_exit.code()
        if code is None:  # no command: Python itself has shown the error, if there was one
            code = int(hasattr(sys, "last_value"))
        self.leave(code)
        if code:
            self._quit(code)

    def _quit(self, code: int) -> None:
        """Ends the process after a failure, when jax would wait for all to end well.

        Process 0 ends last: jax aborts the others once it is gone.
        """
        deadline = time.monotonic() + _GRACE + 5
        for link in self._links if self._relays else ():
            link.socket.settimeout(max(deadline - time.monotonic(), 0.01))
            while time.monotonic() < deadline and link.receive() is not None:
                pass
        process_exit.leave(code)

    def _watch(self) -> None:
        with selectors.DefaultSelector() as selector:
            for each in self._links:
                selector.register(each.socket, selectors.EVENT_READ, each)
            while selector.get_map() and not self._is_leaving:
                for key, _ in selector.select(timeout=0.2):
                    link: Link = key.data
                    messages = link.receive()
                    for message in messages or ():
                        self._take(link, message)
                    if messages is None:
                        selector.unregister(link.socket)
                        if link.ended is None:
                            self._end(f"{link.name} has died; this process stops too: {_RESUME}")
                if self._wanted is not None and not self._told_wanted:
                    self._told_wanted = True
                    self._begin_stop(self._wanted)
                if self._failed is not None and time.monotonic() > self._failed[0] + _GRACE:
                    self._end(self._failed[1])

    def _take(self, link: Link, message: dict[str, Any]) -> None:
        if "lost" in message:
            self._end(str(message["lost"]))
        elif "end" in message:
            link.ended = int(message["end"])
            stops = self._stop_at is not None and self._points >= self._stop_at
            if link.ended and not stops and self._failed is None:
                text = (
                    f"{link.name} has ended (exit code {link.ended}); its output says why. This "
                    f"process stops too: {_RESUME}"
                )
                self._failed = time.monotonic(), text
            self._decide()
        elif "wanted" in message and self._wanted is None:
            self.want_stop(int(message["wanted"]))
        elif "freeze" in message:
            self._wanted, self._told_wanted = int(message["freeze"]), True
            link.send(asked=self._freeze())
        elif "asked" in message:
            self._answers[link] = int(message["asked"])
            self._decide()
        elif "stop_at" in message:
            self._set_stop(int(message["stop_at"]))

    def _begin_stop(self, number: int) -> None:
        """Passes the wish on to process 0, which asks all others."""
        if not self._relays:
            self._links[0].send(wanted=number)
            return
        self._answers[None] = self._freeze()
        for link in self._links:
            link.send(freeze=number)
        self._decide()

    def _freeze(self) -> int:
        with self._changed:
            self._frozen = True
            return self._points

    def _decide(self) -> None:
        """On process 0: names the point, once all that have not ended have answered."""
        waits = any(link.ended is None and link not in self._answers for link in self._links)
        if not self._answers or waits or self._stop_at is not None:
            return
        point = max(self._answers.values()) + 1
        for link in self._links:
            link.send(stop_at=point)
        self._set_stop(point)

    def _set_stop(self, point: int) -> None:
        with self._changed:
            self._stop_at = point
            self._changed.notify_all()

    def _end(self, text: str) -> None:
        """Ends the process: its main thread may wait for the lost one, and would do so forever."""
        if self._is_leaving:
            return
        if self._relays:
            for link in self._links:
                link.send(lost=text)
            time.sleep(0.5)  # jax aborts the others once this process is gone
        end_process(text)


def await_end(seconds: float = 2.0) -> None:
    """Lets the thread end the process, if the error that the caller has is of a lost connection."""
    if _watched:
        time.sleep(seconds)


def end_process(text: str) -> None:
    """Ends the process at once with exit code TRY_AGAIN, whatever its main thread waits for."""
    with contextlib.suppress(OSError, ValueError):
        print(f"distill: {terminal.message(text)}", file=sys.stderr, flush=True)
    os._exit(TRY_AGAIN)
