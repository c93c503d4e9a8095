"""One writer at a time: a lock of the kernel, or an object that says who writes."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
import uuid

from etils import epath

from distill.common.text_files import parse_json
from distill.errors import UserError

_STALE_SECONDS = 900.0


class FileLock:
    """`flock` on `<folder>/lock`; the kernel lets it go when the process ends, however it ends.

    Raises:
      UserError: another process holds it.
    """

    def __init__(self, folder: epath.Path) -> None:
        self._fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.read(self._fd, 200).decode("utf-8", "replace").strip() or "another process"
            os.close(self._fd)
            raise UserError(
                f"{folder} is in use by {holder}; wait for it, or choose another --store"
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def release(self) -> None:
        """Lets the lock go."""
        os.close(self._fd)


class ObjectLock:
    """An object `<folder>/lock.json` with its owner and time; older than 15 minutes is stale.

    Object stores have no lock of the kernel's kind, and epath no conditional write: two
    processes that start within the same moment may both believe to be alone. Each reads
    its own name back, which leaves the time between writing and reading.

    Raises:
      UserError: another process holds it.
    """

    def __init__(self, folder: epath.Path) -> None:
        self._path, self._owner = folder / "lock.json", uuid.uuid4().hex
        self._refreshed = 0.0
        held = self._read()
        age = time.time() - held.get("time", 0)
        if held and age < _STALE_SECONDS:
            raise UserError(
                f"{folder} is in use by {held.get('who')} (last seen {age:.0f} s ago); wait for "
                f"it, choose another --store, or remove {self._path} if that process has ended"
            )
        self._write()
        if self._read().get("owner") != self._owner:
            raise UserError(f"{folder} was taken by another process at the same moment")

    def check(self) -> None:
        """Makes sure that this process still holds the lock.

        Raises:
          UserError: another process took it over.
        """
        if self._read().get("owner") != self._owner:
            raise UserError(f"another process took over {self._path}; this process stops")

    def refresh(self) -> None:
        """Says that the owner lives, once every 90 seconds; see `check`."""
        if time.time() - self._refreshed < _STALE_SECONDS / 10:
            return
        self.check()
        self._write()

    def release(self) -> None:
        """Removes the object, if it is still this process's."""
        if self._read().get("owner") == self._owner:
            self._path.unlink()

    def _read(self) -> dict:
        try:
            held = parse_json(self._path.read_bytes()) if self._path.exists() else {}
        except ValueError:  # half written
            return {}
        sound = isinstance(held, dict) and isinstance(held.get("time", 0), int | float)
        return held if sound else {}

    def _write(self) -> None:
        holder = f"process {os.getpid()} on {socket.gethostname()}"
        content = {"owner": self._owner, "who": holder, "time": time.time()}
        self._path.write_text(json.dumps(content))
        self._refreshed = time.time()
