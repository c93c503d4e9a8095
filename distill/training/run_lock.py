"""One writer at a time in a run folder.

<run_dir>/lock    who writes: process, host and begin, as JSON; empty or absent when nobody does

On a disk the kernel holds the lock and lets it go when its process ends, however it ends. On a disk
that several hosts share not every file system does that: a lock whose holder ran on another host
counts as held, until its file is deleted. In a bucket the object is the lock
(`distill.common.object_lock`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib

from etils import epath

from distill.common.atomic import is_local
from distill.common.disk import disk_errors
from distill.common.holders import describe_this_process, name_holder
from distill.common.object_lock import ObjectLock
from distill.common.paths import check_bucket_package
from distill.common.safe_points import registered
from distill.errors import UserError

LOCK = "lock"
_FIX = "wait for it, or choose another --run_dir"


class InUse(UserError):
    """Another process writes to the run folder."""


class RunLock:
    """The lock of a run folder; use as a context manager.

    It is taken at once if the folder is there, else by `take` once it has been made. On all hosts
    of a run but the first, it does nothing. A process that lost the lock of a folder on gs:// stops
    at the next safe point.
    """

    def __init__(self, run_dir: epath.PathLike, writes: bool = True) -> None:
        """Names the folder.

        Args:
          run_dir: the run folder.
          writes: False on all hosts but the first.

        Raises:
          UserError: on gs:// without the package that Orbax needs there.
        """
        check_bucket_package(run_dir)
        self._run_dir = epath.Path(run_dir)
        self._folder = pathlib.Path(os.fspath(run_dir))
        self._wanted = writes and is_local(run_dir)
        self._descriptor: int | None = None
        in_bucket = writes and os.fspath(run_dir).startswith("gs://")
        self._object = ObjectLock(self._run_dir / LOCK, _FIX) if in_bucket else None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> RunLock:
        if (self._wanted or self._object) and self._run_dir.is_dir():
            self.take()
        return self

    def __exit__(self, *unused: object) -> None:
        self._stack.close()
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # a full disk: the kernel lets the lock go anyway
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None

    def take(self) -> None:
        """Takes the lock if this process does not hold it yet; the folder has to be there.

        Raises:
          InUse: another process holds it; names process and host.
        """
        if self._object is not None and not self._object.is_held:
            self._object.take()
            self._stack.callback(self._object.release)
            self._stack.enter_context(registered(self._object.check))
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
            content = json.dumps(describe_this_process()) + "\n"
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


def _read_holder(descriptor: int) -> dict[str, object]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except (ValueError, RecursionError):
        return {}  # nobody, or half written by a process that was killed
    return holder if isinstance(holder, dict) else {}


def _is_here(holder: dict[str, object]) -> bool:
    """Whether the kernel of this machine would know a process that still holds the lock."""
    own = describe_this_process()
    boot = own["boot"]
    return (
        not holder or holder.get("host") == own["host"] or bool(boot and holder.get("boot") == boot)
    )


def _in_use(path: pathlib.Path, holder: dict[str, object], is_gone: bool) -> InUse:
    fix = _FIX
    if is_gone:
        fix += f"; if that process has ended, delete {path}"
    return InUse(f"{path.parent} is in use by {name_holder(holder)}: {fix}")
