"""Files that one process at a time holds; the kernel lets them go when it ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from etils import epath


def try_claim(path: epath.PathLike) -> int | None:
    """Takes the lock of a file, which is made if it is not there.

    Args:
      path: the file, local.

    Returns:
      A descriptor to append to the file, which `release` closes; None if another process has it.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(os.fspath(path), flags, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def release(descriptor: int) -> None:
    """Lets a file go, also where a child process still has it open."""
    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def is_claimed(path: epath.PathLike) -> bool:
    """Whether a process holds a file; False if there is no such file."""
    if not os.path.exists(path):
        return False
    descriptor = try_claim(path)
    if descriptor is None:
        return True
    release(descriptor)
    return False


@contextlib.contextmanager
def turn(path: epath.PathLike) -> Iterator[None]:
    """Within its block no other process is within the block of the same file; waits for it."""
    name = os.fspath(path)
    os.makedirs(os.path.dirname(name), exist_ok=True)
    while True:
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(name)):
                break
        os.close(descriptor)  # of a file that its holder has removed meanwhile
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)
        release(descriptor)
