"""A connection between two processes of a run; messages are JSON objects, one a line."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

_LONGEST = 1 << 16  # of a message


class Link:
    """A connection that carries messages."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket, self._buffer = connection, b""
        self.name = ""  # of the process at the other end, for messages
        self.ended: int | None = None  # exit code that it has announced
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, option):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def send(self, **message: object) -> None:
        """Sends a message; nothing happens if the other end is gone."""
        with contextlib.suppress(OSError):
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]] | None:
        """The messages that have arrived, once there is something to read; None at the end."""
        try:
            content = self.socket.recv(_LONGEST)
        except OSError:
            return None
        self._buffer += content
        if not content or len(self._buffer) > _LONGEST:
            return None
        *lines, self._buffer = self._buffer.split(b"\n")
        try:
            messages = [json.loads(line) for line in lines]
        except (ValueError, RecursionError):
            return None
        return messages if all(isinstance(each, dict) for each in messages) else None

    def close(self) -> None:
        """Closes it; the other end receives None."""
        self.socket.close()
