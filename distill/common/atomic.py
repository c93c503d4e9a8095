"""Files and folders that a reader sees whole or not at all, whenever the writer is killed.

A symbolic link is never followed: a link with the target's name is replaced by the new file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import IO

from etils import epath

from distill.common.disk import naming
from distill.errors import UserError

_BLOCK = 1 << 22  # bytes


def is_local(path: epath.PathLike) -> bool:
    """Whether a path is on this machine's file system, not in a bucket such as gs://."""
    return "://" not in os.fspath(path)


def absolute(path: epath.PathLike) -> epath.Path:
    """The path from the root; one in a bucket is that already.

    `epath.Path.resolve` would take gs://BUCKET for a local folder named `gs:`.
    """
    path = epath.Path(path)
    return path.resolve() if is_local(path) else path


@contextlib.contextmanager
def atomic_path(path: epath.PathLike) -> Iterator[epath.Path]:
    """Gives the name of a scratch file that replaces `path` when the block ends without an error.

    For writers that open a file by its name; others use `atomic_file`. A local file is flushed to
    the disk before it is renamed. An object of a bucket is made as a temporary local file and
    written at once: a bucket renames by a copy and a delete, and a writer that fails would leave
    half an object. The parent folder must exist.

    Args:
      path: the file to write, local or gs://.

    Yields:
      A free name, in the folder of `path` if that is local; the caller writes and closes that file.

    Raises:
      UserError: `path` is a folder, a pipe or a device, which must not be replaced by a file.
    """
    path = epath.Path(path)
    if not is_local(path):
        with tempfile.TemporaryDirectory() as folder:
            yield (scratch := epath.Path(folder) / "object")
            _upload(scratch, path)
        return
    _check_target(path)
    scratch = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}.tmp"
    try:
        with naming(path):
            yield scratch
            _sync(scratch)
            scratch.replace(path)
        sync_directory(path.parent)
    finally:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            scratch.unlink(missing_ok=True)


def _check_target(path: epath.Path) -> None:
    try:
        mode = os.lstat(path).st_mode
    except OSError:  # not there; or writing says what is wrong
        return
    if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise UserError(f"{path} is {kind}, expected a file or a path that does not exist")


@contextlib.contextmanager
def atomic_file(path: epath.PathLike, mode: str = "w") -> Iterator[IO]:
    """Opens a scratch file that replaces `path` when the block ends without an error.

    See `atomic_path`; a folder of that name, a pipe or a device is refused.

    Args:
      path: the file to write, local or gs://.
      mode: "w" for text (UTF-8) or "wb" for bytes.

    Yields:
      The open scratch file.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"got mode {mode!r}, expected 'w' or 'wb'")
    with atomic_path(path) as scratch, _create(scratch, mode) as file:
        yield file


def _create(scratch: epath.Path, mode: str) -> IO:
    # "x" fails on a link that somebody planted under the scratch file's name.
    exclusive = mode.replace("w", "x")
    return open(os.fspath(scratch), exclusive, encoding=None if "b" in mode else "utf-8")


def sync_directory(folder: epath.PathLike) -> None:
    """Makes the entries of a local folder durable: a rename in it survives a power cut."""
    with contextlib.suppress(OSError):  # file systems that cannot do this for folders
        _sync(folder)


def _sync(path: epath.PathLike) -> None:
    descriptor = os.open(os.fspath(path), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: epath.PathLike, text: str) -> None:
    """Writes a whole text file (UTF-8)."""
    with atomic_file(path) as file:
        file.write(text)


def write_bytes(path: epath.PathLike, content: bytes) -> None:
    """Writes a whole file of bytes."""
    with atomic_file(path, "wb") as file:
        file.write(content)


def write_json(path: epath.PathLike, content: Mapping[str, object]) -> None:
    """Writes one JSON object, indented."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_json_lines(path: epath.PathLike, records: Iterable[Mapping[str, object]]) -> None:
    """Writes one JSON object per line."""
    with atomic_file(path) as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def atomic_directory(folder: epath.PathLike, mark: str) -> Iterator[epath.Path]:
    """Opens a scratch folder that becomes `folder` when the block ends without an error.

    A local folder that is not there yet appears at once. Otherwise the files move to `folder`,
    `mark` last: a reader who sees `mark` sees all files. Writers of one folder must write the same
    bytes, so that files of two may be mixed. A writer that is killed while it moves files leaves a
    folder without the mark; the next writer completes it. For a folder in a bucket the scratch
    folder is a temporary local one ($TMPDIR), whose files are then written to the bucket.

    Args:
      folder: where readers look, local or gs://; subfolders move whole.
      mark: name of the file or subfolder that says the folder is complete; the caller writes it.

    Yields:
      The scratch folder, beside `folder` if that is local, which is removed in any case.
    """
    folder = epath.Path(folder)
    if not is_local(folder):
        with tempfile.TemporaryDirectory() as made:
            yield epath.Path(made)
            _upload_folder(made, folder, mark)
        return
    scratch = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.tmp"
    scratch.mkdir(parents=True)
    try:
        yield scratch
        if _rename_whole(scratch, folder):
            return
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(scratch.iterdir(), key=lambda path: path.name == mark):
            path.replace(folder / path.name)
    finally:
        scratch.rmtree(missing_ok=True)


def _upload_folder(made: str, folder: epath.Path, mark: str) -> None:
    """Writes the files of a local folder to a bucket, those of `mark` last."""
    names = [
        os.path.relpath(os.path.join(place, name), made)
        for place, _, files in os.walk(made)
        for name in files
    ]
    for name in sorted(names, key=lambda name: (name.split(os.sep)[0] == mark, name)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _upload(epath.Path(made) / name, folder / name)


def _upload(source: epath.Path, target: epath.Path) -> None:
    # TensorFlow's own copy stops all threads of Python until it is done.
    with source.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written, _BLOCK)
        written.write(b"")  # else an empty file would not be written


def _rename_whole(scratch: epath.Path, folder: epath.Path) -> bool:
    """Renames a local folder in one step; False if another one has the name."""
    try:
        os.rename(scratch, folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    sync_directory(folder.parent)
    return True
