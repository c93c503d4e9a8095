"""Content digests of files."""

from __future__ import annotations

import functools
import hashlib
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import BinaryIO

from etils import epath

from distill.common.atomic import is_local

_BLOCK = 1 << 22  # bytes


def sha256(path: epath.PathLike) -> str:
    """Hex SHA-256 of a file's content, local or gs://."""
    return _file_digest(epath.Path(path), hashlib.sha256)


def git_blob(path: epath.PathLike) -> str:
    """The name that git gives to a file's content.

    That is the SHA-1 of `blob <size>`, a zero byte, and the content. Source: Pro Git, 2nd
    edition, chapter 10.2, "Git Objects".
    """
    path = epath.Path(path)
    header = f"blob {path.stat().length}\0".encode()
    return _file_digest(path, lambda: hashlib.sha1(header, usedforsecurity=False))


def sha256_files(folder: epath.PathLike, paths: Iterable[epath.PathLike]) -> str:
    """Hex SHA-256 of several files in their order: their names, sizes and contents.

    Args:
      folder: names are relative to it.
      paths: the files, in `folder` or elsewhere.
    """
    digest = hashlib.sha256()
    for path in map(epath.Path, paths):
        name = str(path).removeprefix(f"{folder}/")
        digest.update(f"{len(name)}:{name}:{path.stat().length}:".encode())
        _file_digest(path, lambda: digest)
    return digest.hexdigest()


def sha256_text(*texts: str) -> str:
    """Hex SHA-256 of texts, joined by spaces."""
    return hashlib.sha256(" ".join(texts).encode()).hexdigest()


def describe_files(folder: epath.PathLike, names: Iterable[str]) -> dict[str, dict[str, object]]:
    """Size and digest of files, as `find_damage` compares them.

    Args:
      folder: names are relative to it.
      names: the files.

    Returns:
      {"bytes", "sha256"} by name.
    """
    folder = epath.Path(folder)
    return {
        name: {"bytes": (folder / name).stat().length, "sha256": sha256(folder / name)}
        for name in names
    }


def find_damage(
    folder: epath.PathLike, described: object, contents: bool | None = None
) -> str | None:
    """Says which file is not as it was described.

    Args:
      folder: where the files are.
      described: as from `describe_files`; a value of another form counts as damage.
      contents: whether digests are compared too, not sizes alone; None compares those of local
        files.

    Returns:
      The first file that differs and how; None if all are as described.
    """
    folder = epath.Path(folder)
    if contents is None:
        contents = is_local(folder)
    if not isinstance(described, Mapping):
        return "its list of files cannot be parsed"
    for name, expected in described.items():
        try:
            size, digest = int(expected["bytes"]), str(expected["sha256"])
        except (KeyError, TypeError, ValueError, OverflowError):
            return "its list of files cannot be parsed"
        parts = pathlib.PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\0" in name:
            return f"its list of files names {name!r}, which is outside the folder"
        path = folder / name
        if not path.is_file():
            return f"file {name} is missing"
        if path.stat().length != size:
            return f"file {name} has {path.stat().length:,} bytes, expected {size:,}"
        if contents and sha256(path) != digest:
            return f"the content of file {name} has changed"
    return None


def _file_digest(path: epath.Path, start: Callable[[], hashlib._Hash]) -> str:
    """Hex digest of what `start` gives, continued with the file's content."""
    with path.open("rb") as file:
        if is_local(path):
            return hashlib.file_digest(file, start).hexdigest()
        return _stream_digest(file, start())


def _stream_digest(file: BinaryIO, digest: hashlib._Hash) -> str:
    """As `hashlib.file_digest`, for files of a bucket, which have no `readinto`."""
    for block in iter(functools.partial(file.read, _BLOCK), b""):
        digest.update(block)
    return digest.hexdigest()
