"""records.jsonl: the records of a results folder, append-only.

A record is one line, written by one system call while the file is locked, and then flushed to the
disk: several processes may append at once. What a writer that was killed left of a line is removed
by the next writer, and left out by readers; both say so. pandas.read_json(lines=True) and duckdb's
read_json read the file as it is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from etils import epath

from distill.common.atomic import is_local, sync_directory
from distill.common.disk import disk_errors
from distill.common.progress import Say, to_stderr
from distill.common.text_files import check_file, json_object, parse_json, reading
from distill.errors import UserError
from distill.results.record import Record, from_json

RECORDS = "records.jsonl"
_BLOCK = 1 << 16  # bytes that are read at once from the end of the file
_FIX = "once that is fixed, the same command goes on"


def records_path(place: epath.PathLike) -> epath.Path:
    """The file of records of a results folder; a file is taken as it is.

    Raises:
      UserError: a folder in a bucket, which has no appends.
    """
    if not is_local(place):
        raise UserError(
            f"got {os.fspath(place)}, expected a local folder: buckets have no appends, so records "
            "cannot be kept there"
        )
    path = epath.Path(place).expanduser()
    return path if path.suffix == ".jsonl" else path / RECORDS


def append(folder: epath.PathLike, record: Record, say: Say = to_stderr) -> None:
    """Adds a record.

    Args:
      folder: the results folder; it is made if it is not there.
      record: the attempt that has ended.
      say: as of `append_line`.

    Raises:
      UserError: as of `append_line`.
    """
    append_line(records_path(folder), record.to_json(), say)


def append_line(path: epath.Path, content: Mapping[str, Any], say: Say = to_stderr) -> None:
    """Adds a JSON object to a file of lines.

    Args:
      path: the file; it is made if it is not there, with its folder.
      content: the object.
      say: takes a line about the remains of a writer that was killed.

    Raises:
      UserError: the file cannot be written; what was there before stays.
    """
    line = json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    with disk_errors(path, _FIX):
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _end_last_line(descriptor, path, say)
            size = os.fstat(descriptor).st_size
            try:
                if os.write(descriptor, line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(path))
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, size)
                raise
        finally:
            os.close(descriptor)  # ends the lock
        if is_new:
            sync_directory(path.parent)


def _end_last_line(descriptor: int, path: epath.Path, say: Say) -> None:
    """Completes or removes a last line without an end; the file is locked."""
    size = os.fstat(descriptor).st_size
    start, tail = size, b""
    while start and b"\n" not in tail:
        block = min(_BLOCK, start)
        start -= block
        tail = os.pread(descriptor, block, start) + tail
    tail = tail.rpartition(b"\n")[2]
    if not tail:
        return
    if _is_whole(tail):
        os.write(descriptor, b"\n")
        return
    say(f"{path}: the last line was cut off when its writer was killed: removing {tail[:80]!r}")
    os.ftruncate(descriptor, size - len(tail))


def _is_whole(line: bytes) -> bool:
    try:
        return isinstance(parse_json(line), dict)
    except ValueError:
        return False


def read_all(place: epath.PathLike, say: Say = to_stderr) -> list[Record]:
    """All records, also those that a later record of the same run replaces, in their order.

    Args:
      place: a results folder, or a file of records.
      say: takes a line about a last line that was cut off, which is left out.

    Raises:
      UserError: no such file; a folder of another kind, such as that of one run; a line that is no
        record, by file and line.
    """
    path = records_path(place)
    if path.parent.is_dir() and not path.exists() and path.name == RECORDS:
        from distill.results.places import check_is_no_other

        check_is_no_other(pathlib.Path(path.parent), RECORDS)
    check_file(path, "`distill sweep` writes it when a run ends")
    return [from_json(json_object(line, where), where) for where, line in lines(path, say)]


def lines(path: epath.Path, say: Say = to_stderr) -> Iterator[tuple[str, bytes]]:
    """The lines of a file that `append_line` writes, each with its file and number.

    Args:
      path: the file.
      say: takes a line about a last line that was cut off, which is left out.

    Raises:
      UserError: the file cannot be read.
    """
    with reading(path), path.open("rb") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file.fileno(), fcntl.LOCK_SH)  # no line is half written
        for number, line in enumerate(file, start=1):
            where = f"{path}:{number}"
            if not line.endswith(b"\n") and not _is_whole(line):
                say(f"{where}: cut off when its writer was killed: leaving the line out")
            elif line.strip():
                yield where, line


def read(place: epath.PathLike, say: Say = to_stderr) -> list[Record]:
    """The last record of each run, in the order in which the runs first appear.

    Args:
      place: as of `read_all`.
      say: as of `read_all`.

    Raises:
      UserError: as of `read_all`.
    """
    return list(newest(read_all(place, say)).values())


def newest(records: list[Record]) -> dict[str, Record]:
    """The last record of each run, by run, in the order in which the runs first appear."""
    return {record.run: record for record in records}


def by_run(folder: epath.PathLike, say: Say = to_stderr) -> dict[str, list[Record]]:
    """All records of each run, oldest first; {} where no record has been written.

    Args:
      folder: as of `read_all`.
      say: as of `read_all`.

    Raises:
      UserError: as of `read_all`.
    """
    runs: dict[str, list[Record]] = {}
    for record in read_all(folder, say) if records_path(folder).is_file() else ():
        runs.setdefault(record.run, []).append(record)
    return runs
