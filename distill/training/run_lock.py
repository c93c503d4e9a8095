"""One writer at a time in a run folder.

<run_dir>/lock    who writes: process, host and begin, as JSON; empty when nobody does

The kernel holds the lock and lets it go when its process ends, however it ends. On a disk that
several hosts share not every file system does that: a lock whose holder ran on another host counts
as held, until its file is deleted. Buckets have no such lock.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import socket

from etils import epath

from distill.common.atomic import is_local
from distill.common.disk import disk_errors
from distill.errors import UserError

LOCK = "lock"
_BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")


class RunLock:
    """The lock of a run folder; use as a context manager.

    It is taken at once if the folder is there, else by `take` once it has been made. In a bucket,
    and on all hosts of a run but the first, it does nothing.
    """

    def __init__(self, run_dir: epath.PathLike, writes: bool = True) -> None:
        """Names the folder.

        Args:
          run_dir: the run folder.
          writes: False on all hosts but the first.
        """
        self._folder = pathlib.Path(os.fspath(run_dir))
        self._wanted = writes and is_local(run_dir)
        self._descriptor: int | None = None

    def __enter__(self) -> RunLock:
        if self._folder.is_dir():
            self.take()
        return self

    def __exit__(self, *unused: object) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # a full disk: the kernel lets the lock go anyway
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def take(self) -> None:
        """Takes the lock if this process does not hold it yet; the folder has to be there.

        Raises:
          UserError: another process holds it; names process and host.
        """
        if not self._wanted or self._descriptor is not None:
            return
        path = self._folder / LOCK
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        with disk_errors(path, "a run has to be able to write to its folder"):
            descriptor = os.open(path, flags, 0o644)
        try:
            is_free = _take(descriptor)
            holder = _read_holder(descriptor)
            if not is_free or not _is_here(holder):
                raise _in_use(path, holder, is_gone=is_free)
            content = json.dumps(_describe_this_process()) + "\n"
            with disk_errors(path, "a run has to be able to write to its folder"):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, content.encode(), 0)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _describe_this_process() -> dict[str, object]:
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    boot = _BOOT_ID.read_text().strip() if _BOOT_ID.exists() else ""
    return {"pid": os.getpid(), "host": socket.gethostname(), "started": started, "boot": boot}


def _read_holder(descriptor: int) -> dict[str, object]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except (ValueError, RecursionError):
        return {}  # nobody, or half written by a process that was killed
    return holder if isinstance(holder, dict) else {}


def _is_here(holder: dict[str, object]) -> bool:
    """Whether the kernel of this machine would know a process that still holds the lock."""
    own = _describe_this_process()
    boot = own["boot"]
    return (
        not holder or holder.get("host") == own["host"] or bool(boot and holder.get("boot") == boot)
    )


def _in_use(path: pathlib.Path, holder: dict[str, object], is_gone: bool) -> UserError:
    who = "another process"
    if holder:
        who = f"process {holder.get('pid')} on {holder.get('host')} since {holder.get('started')}"
    fix = "wait for it, or choose another --run_dir"
    if is_gone:
        fix += f"; if that process has ended, delete {path}"
    return UserError(f"{path.parent} is in use by {who}: {fix}")
