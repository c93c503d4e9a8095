"""Errors of a disk (full, read only, not permitted), told as what they are."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from etils import epath

from distill.errors import UserError

_ERRNOS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.EMFILE,
    errno.ENFILE,
    errno.ESTALE,
)
_TEXTS = tuple(os.strerror(number) for number in _ERRNOS)


@contextlib.contextmanager
def disk_errors(place: epath.PathLike, fix: str) -> Iterator[None]:
    """Turns a failure of the disk within its block into a UserError; others go through.

    TensorStore writes in C++, and its errors are texts: they count if they hold the system's text
    for such a failure.

    Args:
      place: what is written; named if the error does not name a file.
      fix: the end of the message: what to do.

    Raises:
      UserError: the disk is full, read only, not permitted, broken, or the path is of another kind.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        found = find_disk_error(error)
        if found is None:
            raise
        path, reason = found
        raise UserError(f"{path or place} cannot be written: {reason}; {fix}") from error


def find_disk_error(error: BaseException | None) -> tuple[str | None, str] | None:
    """The file, where it is known, and the reason of a failure of the disk; None for others."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _ERRNOS:
            path = None if error.filename is None else os.fsdecode(error.filename)
            return path, os.strerror(error.errno)
        if isinstance(error, OSError | ValueError | RuntimeError):
            for text in _TEXTS:
                if text in str(error):
                    return None, text
        error = error.__cause__ or error.__context__
    return None
