"""Opens text files, compressed or not, and reports those that are not UTF-8."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from etils import epath

from distill.common.text_files import BOM, check_encoding, check_file, not_utf8, reading
from distill.errors import UserError

_GZIP, _ZIP = b"\x1f\x8b", b"PK\x03\x04"


@contextlib.contextmanager
def open_bytes(path: epath.PathLike) -> Iterator[BinaryIO]:
    """Opens a file of text for reading; one that gzip compressed, whatever its name, is unpacked.

    Args:
      path: the file, local or on gs://.

    Raises:
      UserError: a missing file; text in UTF-16 or UTF-32; an Excel workbook; a compressed file that
        is damaged (also while it is read).
    """
    path = epath.Path(path)
    check_file(path)
    with reading(path), path.open("rb") as raw:
        first = raw.read(4)
        raw.seek(0)
        if first.startswith(_ZIP):
            raise UserError(
                f"{path} is a ZIP archive or an Excel workbook, expected a file of rows: save the "
                "sheet as CSV, or unpack the archive"
            )
        if not first.startswith(_GZIP):
            check_encoding(path, first)
            yield cast(BinaryIO, raw)
            return
        try:
            with gzip.GzipFile(fileobj=raw) as unpacked, io.BufferedReader(unpacked) as file:
                check_encoding(path, file.peek(4)[:4])
                yield cast(BinaryIO, file)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(
                f"{path} is damaged: it cannot be unpacked ({error}); copy or compress it again"
            ) from error


@contextlib.contextmanager
def open_text(path: epath.PathLike) -> Iterator[io.TextIOWrapper]:
    """Opens a file as UTF-8 text without translating its line ends; see `open_bytes`.

    Raises:
      UserError: also while it is read: a line that is not UTF-8, by its number.
    """
    with open_bytes(path) as file:
        if file.read(len(BOM)) != BOM:
            file.seek(0)
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        try:
            yield text
        except UnicodeDecodeError as error:
            raise _first_bad_line(path) from error
        finally:
            with contextlib.suppress(ValueError):
                text.detach()


def _first_bad_line(path: epath.PathLike) -> UserError:
    with open_bytes(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                return not_utf8(f"{os.fspath(path)}:{number}", line)
    return UserError(f"{os.fspath(path)}: not UTF-8; save the file as UTF-8")
