"""One writer at a time in a store on a disk: a lock of the kernel."""

from __future__ import annotations

import fcntl
import os
import socket

from etils import epath

from distill.errors import UserError


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
