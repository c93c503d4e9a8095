"""Errors of a disk (full, read only, not permitted), told as what they are."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import uuid
from collections.abc import Iterable, Iterator

from etils import epath

from distill.common.paths import is_bucket, nearest_folder
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
# Those of a disk, quota or file that is full; `write` and `fsync` do not say whose it is.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PROBE = 65536  # bytes that a folder must take
_SHOWN = 200  # characters of a reason
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


@contextlib.contextmanager
def naming(path: epath.PathLike) -> Iterator[None]:
    """Gives a file's name to errors of its temporary file, and to a "disk full" without a name.

    Args:
      path: the file that the block writes, by the name that a user knows it by.
    """
    try:
        yield
    except OSError as error:
        found, name = error.filename, os.path.basename(os.fspath(path))
        scratch = os.path.basename(found) if isinstance(found, str) else ""
        is_scratch = scratch.startswith(f".{name}.") and scratch.endswith(".tmp")
        if is_scratch or (found is None and error.errno in _FULL):
            error.filename = os.fspath(path)
        raise


def check_writable(folder: epath.PathLike, where: str) -> None:
    """Writes a file to a folder, or to the nearest that exists above it, and removes it again.

    Nothing is tried in a bucket.

    Args:
      folder: where files will be written; it may be absent.
      where: the flag that gave it, `--flag=value`.

    Raises:
      UserError: no file can be written there, or a file has the name of a folder.
    """
    if is_bucket(os.fspath(folder)):
        return
    place = nearest_folder(os.fspath(folder), where)
    probe = os.path.join(place, f".{uuid.uuid4().hex}.tmp")
    try:
        with open(probe, "xb") as file:
            file.write(bytes(_PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        room = ", or free some space" if error.errno in _FULL else ""
        raise UserError(
            f"{place} cannot be written: {error.strerror}; choose another "
            f"{where.partition('=')[0]}{room}"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(probe)


def find_disk_error(error: BaseException | None) -> tuple[str | None, str] | None:
    """The file, where it is known, and the reason of a failure of the disk; None for others."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in _ERRNOS:
            path = None if error.filename is None else os.fsdecode(error.filename)
            return path, _reason(error)
        if isinstance(error, OSError | ValueError | RuntimeError):
            for text in _TEXTS:
                if text in str(error):
                    return None, text
        error = error.__cause__ or error.__context__
    return None


def describe_failure(error: BaseException, given: Iterable[str]) -> str | None:
    """A message for a failure of the storage that reached the command line.

    Args:
      error: what was raised.
      given: values of the command line, among which a path in a bucket may be.

    Returns:
      The message; None for an error that does not come from the disk or from a bucket.
    """
    if isinstance(error, OSError):
        is_named = error.filename is not None
        if is_named or error.errno in (*_ERRNOS, errno.EINVAL):
            path = os.fsdecode(error.filename) if is_named else "a file"
            if error.errno in _FULL:
                return (
                    f"{path} cannot be written: {os.strerror(error.errno)}; free some space, or "
                    "choose another place, and repeat the command"
                )
            return f"{path} cannot be read or written: {_reason(error)}"
    places = [text for text in given if is_bucket(text)]
    if not places or not _is_of_bucket(error):
        return None
    reason = str(getattr(error, "message", None) or error).strip().partition("\n")[0]
    return (
        f"{' or '.join(places)} cannot be read or written: {reason[:_SHOWN]}; check the name, the "
        "network and your credentials, or use a local path"
    )


def _reason(error: OSError) -> str:
    """The system's text; where a file has the name of a folder, which file."""
    if error.errno in (errno.ENOTDIR, errno.EEXIST) and error.filename is not None:
        path = place = os.fsdecode(error.filename)
        while place and not os.path.lexists(place):
            place = os.path.dirname(place)
        if os.path.isfile(place):
            return f"{'it' if place == path else place} is a file, expected a folder"
    return os.strerror(error.errno or 0)


def _is_of_bucket(error: BaseException) -> bool:
    """Whether an error is of the kinds that are raised for a bucket, by any library."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and isinstance(error, tensorflow.errors.OpError):
        return True
    if isinstance(error, ValueError) and "http_response_code" in str(error):  # of TensorStore
        return True
    return isinstance(error, ImportError) or (isinstance(error, OSError) and error.errno is None)
