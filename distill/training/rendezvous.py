"""The processes of a run find each other, before jax starts.

Process 0 waits for the others on the port that jax will take, and names those that are missing. jax
itself would abort after its timeout without naming them.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Mapping

from distill.common.progress import format_duration
from distill.errors import HostMissing, UserError
from distill.training.links import Link

PERIOD = 10.0  # seconds between two lines about missing processes
_FIRST = 3.0  # seconds until the first of them
_SHOWN = 8  # missing processes that a line names

Say = Callable[[str], None]


def meet(
    address: tuple[str, int],
    count: int,
    index: int,
    timeout: float,
    say: Say,
    names: Mapping[int, str] | None = None,
) -> list[Link]:
    """Waits until all processes of a run are there.

    Args:
      address: host and port of process 0.
      count: the number of processes.
      index: which of them this is.
      timeout: seconds to wait.
      say: takes lines about those that are missing.
      names: of their hosts, by process, as far as they are known.

    Returns:
      The connections to all others on process 0, and to process 0 on the others.

    Raises:
      HostMissing: some did not come; names them.
      UserError: they contradict each other, or the port is not free.
    """
    deadline = time.monotonic() + timeout
    if index:
        return [_join(address, count, index, deadline, timeout, say)]
    return _Meeting(count, timeout, say, names or {}).hold(address[1], deadline)


def _join(
    address: tuple[str, int], count: int, index: int, deadline: float, timeout: float, say: Say
) -> Link:
    """The connection to process 0, once all are there."""
    where = f"process 0 at {address[0]}:{address[1]}"
    told = time.monotonic() - PERIOD + _FIRST
    reason = ""
    while time.monotonic() < deadline:
        try:
            link = Link(socket.create_connection(address, timeout=5))
        except OSError as error:
            reason = str(error)
            if time.monotonic() > told + PERIOD:
                told = time.monotonic()
                say(f"waiting for {where} ({reason}) ... {_passed(deadline, timeout)}")
            time.sleep(0.2)
            continue
        link.name = where
        link.send(process=index, count=count, host=socket.gethostname())
        if _is_told_to_go(link, deadline, timeout, say):
            return link
        link.close()
        reason = "it has closed the connection"
        time.sleep(0.2)
    raise HostMissing(
        f"could not connect the hosts of the run: {where} did not answer within "
        f"{format_duration(timeout)} ({reason}): see whether it runs and whether a firewall lets "
        "the port through (--coordinator_port sets it, --start_timeout sets the time to wait)"
    )


def _is_told_to_go(link: Link, deadline: float, timeout: float, say: Say) -> bool:
    """Waits for process 0 to let this process go on; False if it has gone instead."""
    link.socket.settimeout(None)
    with selectors.DefaultSelector() as selector:
        selector.register(link.socket, selectors.EVENT_READ)
        # Process 0 may have begun to wait later; it says when it gives up.
        while time.monotonic() < deadline + timeout:
            if not selector.select(timeout=1):
                continue
            messages = link.receive()
            if messages is None:
                return False
            for message in messages:
                if "refused" in message:
                    kind = HostMissing if message.get("missing") else UserError
                    raise kind(str(message["refused"]))
                if "waiting" in message:
                    say(str(message["waiting"]))
                if "go" in message:
                    return True
    return False


class _Meeting:
    """Process 0 while it waits for the others."""

    def __init__(self, count: int, timeout: float, say: Say, names: Mapping[int, str]) -> None:
        self._count, self._timeout, self._say, self._names = count, timeout, say, names
        self._present: dict[int, Link] = {}
        self._strangers: list[Link] = []

    def hold(self, port: int, deadline: float) -> list[Link]:
        """The connections to all others."""
        try:
            with _listen(port) as listener, selectors.DefaultSelector() as selector:
                selector.register(listener, selectors.EVENT_READ)
                self._wait(listener, selector, deadline)
        except UserError as error:
            missing = isinstance(error, HostMissing)
            for link in (*self._present.values(), *self._strangers):
                link.send(refused=str(error), missing=missing)
                link.close()
            raise
        for link in self._strangers:
            link.close()
        links = list(self._present.values())
        for link in links:
            link.send(go=True)
        return links

    def _wait(
        self, listener: socket.socket, selector: selectors.BaseSelector, deadline: float
    ) -> None:
        due = time.monotonic() + _FIRST
        while len(self._present) < self._count - 1:
            now = time.monotonic()
            if now > deadline:
                raise HostMissing(
                    f"could not connect the hosts of the run: {self._missing()} did not connect "
                    f"within {format_duration(self._timeout)}: see whether distill runs there "
                    "(--start_timeout sets the time to wait)"
                )
            if now > due:
                due = now + PERIOD
                line = f"waiting for {self._missing()} ... {_passed(deadline, self._timeout)}"
                self._say(line)
                for link in self._present.values():
                    link.send(waiting=line)
            for key, _ in selector.select(timeout=0.2):
                if key.fileobj is listener:
                    link = Link(listener.accept()[0])
                    self._strangers.append(link)
                    selector.register(link.socket, selectors.EVENT_READ, link)
                else:
                    self._read(key.data, selector)

    def _read(self, link: Link, selector: selectors.BaseSelector) -> None:
        messages = link.receive()
        if messages is None:
            selector.unregister(link.socket)
            link.close()
            self._present = {i: each for i, each in self._present.items() if each is not link}
            self._strangers = [each for each in self._strangers if each is not link]
            return
        for message in messages:
            process, count = message.get("process"), message.get("count")
            if not isinstance(process, int) or link not in self._strangers:
                continue
            link.name = f"process {process} on {message.get('host')}"
            if count != self._count:
                raise UserError(
                    f"{link.name} was started with --num_processes={count}, process 0 with "
                    f"{self._count}: give every process the same number"
                )
            if not 0 < process < self._count or process in self._present:
                taken = self._present[process].name if process in self._present else "process 0"
                raise UserError(
                    f"two processes have --process_id={process} ({link.name}; {taken}): give "
                    f"each its own, from 0 to {self._count - 1}"
                )
            self._strangers.remove(link)
            self._present[process] = link

    def _missing(self) -> str:
        missing = [i for i in range(1, self._count) if i not in self._present]
        shown = ", ".join(
            f"{i} ({self._names[i]})" if i in self._names else str(i) for i in missing[:_SHOWN]
        )
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        noun = "process" if len(missing) == 1 else f"{len(missing)} of {self._count} processes:"
        return f"{noun} {shown}{more}"


def _listen(port: int) -> socket.socket:
    try:
        if socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024
            )
        return socket.create_server(("", port), backlog=1024)
    except OSError as error:
        raise UserError(
            f"process 0 cannot listen on port {port} ({error.strerror}): another program uses it; "
            "end it, or set another port on all hosts with --coordinator_port"
        ) from error


def _passed(deadline: float, timeout: float) -> str:
    passed = max(timeout - (deadline - time.monotonic()), 0.0)
    return f"{passed:.0f} s of {format_duration(timeout)}"
