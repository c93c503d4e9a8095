"""Rows of a JSONL file that stay on disk: one offset a row in memory, a row read when asked for.

A million rows as Python objects take more than a gigabyte; their offsets take eight megabytes.
"""

from __future__ import annotations

import functools
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, overload

import numpy as np
from etils import epath

from distill.common.hashing import digest64
from distill.common.text_files import BOM, check_encoding, check_file, json_object
from distill.data.examples import Example, row_of, same_id, to_line, with_rationale
from distill.data.formats.record_files import check_first_line
from distill.data.mapping.record_mapper import RecordMapper
from distill.errors import UserError

_OFFSETS = ".offsets"  # of `<rows>.jsonl`, raw little-endian int64


class RowFile(Sequence[Example]):
    """The rows of a JSONL file, or some of them in an order of their own.

    A local row is read by its offset. A file that is not local (gs://) is read once, whole,
    when the first of its rows is wanted.
    """

    def __init__(
        self,
        path: epath.PathLike,
        offsets: np.ndarray,
        parse: Callable[[bytes, int], Example],
        indices: np.ndarray | None = None,
        rationales: np.ndarray | None = None,
    ) -> None:
        """Names the rows.

        Args:
          path: the file.
          offsets: where each of its N rows begins and the last one ends, in bytes [N + 1].
          parse: the bytes of a row and its number (from 0) -> the row.
          indices: which rows, in which order; None for all.
          rationales: which rationale each of these rows has; None leaves all in the row.
        """
        self._path, self._offsets, self._parse = epath.Path(path), offsets, parse
        self._indices, self._rationales = indices, rationales

    def __len__(self) -> int:
        return len(self._offsets) - 1 if self._indices is None else len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> RowFile: ...

    def __getitem__(self, index: int | slice) -> Example | RowFile:
        """The row at `index`; a slice gives rows that stay on disk."""
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        number = index % len(self)
        if self._indices is not None:
            number = int(self._indices[number])
        begin, end = int(self._offsets[number]), int(self._offsets[number + 1])
        row = self._parse(self._read(begin, end), number)
        if self._rationales is None:
            return row
        return with_rationale(row, int(self._rationales[index]))

    def __iter__(self) -> Iterator[Example]:
        return (self[index] for index in range(len(self)))

    def take(self, indices: np.ndarray) -> RowFile:
        """The rows of these indices, in their order."""
        chosen = indices if self._indices is None else self._indices[indices]
        rationales = None if self._rationales is None else self._rationales[indices]
        return RowFile(self._path, self._offsets, self._parse, chosen, rationales)

    def one_rationale_each(self, counts: np.ndarray) -> RowFile:
        """The rows, one for each rationale of a row; `counts` has their numbers."""
        ends = np.cumsum(counts, dtype=np.int64)
        numbers = np.arange(counts.sum()) - np.repeat(ends - counts, counts)
        repeated = self.take(np.repeat(np.arange(len(self)), counts))
        return RowFile(self._path, self._offsets, self._parse, repeated._indices, numbers)

    def _read(self, begin: int, end: int) -> bytes:
        content = self._content
        if isinstance(content, bytes):
            return content[begin:end]
        return os.pread(content.fileno(), end - begin, begin)

    @functools.cached_property
    def _content(self) -> BinaryIO | bytes:
        if is_local(self._path):
            return open(os.fspath(self._path), "rb")
        return self._path.read_bytes()


def is_local(path: epath.Path) -> bool:
    """Whether a path is of this machine's file system, so that it can be mapped and read in
    part."""
    return "://" not in os.fspath(path)


def take(rows: Sequence[Example], indices: np.ndarray) -> Sequence[Example]:
    """Rows [N] of these indices [M], in their order; those of a file stay on disk."""
    return rows.take(indices) if isinstance(rows, RowFile) else [rows[index] for index in indices]


def one_rationale_each(rows: Sequence[Example], counts: np.ndarray) -> Sequence[Example]:
    """The rows, one for each rationale of a row; those of a file stay on disk.

    Args:
      rows: S rows.
      counts: of `distill.data.several.count_rationales` [S].
    """
    if isinstance(rows, RowFile):
        return rows.one_rationale_each(counts)
    return [
        with_rationale(row, number)
        for row, count in zip(rows, counts, strict=True)
        for number in range(count)
    ]


def index_jsonl(
    path: epath.PathLike,
    split: str,
    labels: Sequence[str] | None = None,
    mapper: RecordMapper | None = None,
) -> RowFile:
    """Checks a JSONL file of examples line by line and keeps where its rows are.

    The rows and the errors are those of `distill.data.examples.read_jsonl`; the memory is 16
    bytes a row.

    Args:
      path: the file, local or on gs://.
      split: the split its rows belong to.
      labels: closed label set of the whole file; None for free-text labels.
      mapper: makes the fields of a row from those of a line; None where they are that already.

    Raises:
      UserError: a missing or empty file, or a bad row, named by `file:line`.
    """
    path = epath.Path(path)
    check_file(path)
    starts, ids, position, lines = array("q"), array("Q"), 0, array("q")
    closed = list(labels or ())
    name, stem = os.fspath(path), path.stem

    def parse(line: bytes, number: int, where: str = "") -> Example:
        where = where or f"{name}: row {number + 1}"
        fields = json_object(line.removeprefix(BOM), where)
        if mapper is not None:
            fields = mapper(fields, where)
        return row_of(fields, where, f"{stem}/{split}/{number}", split, closed)

    with path.open("rb") as file:
        for count, line in enumerate(file, start=1):
            if count == 1:
                check_encoding(path, line[:4])
            if line.removeprefix(BOM if count == 1 else b"").strip():
                if not starts:
                    check_first_line(line.removeprefix(BOM), name, count)
                row = parse(line, len(starts), f"{name}:{count}")
                ids.append(digest64(row.id))
                starts.append(position)
                lines.append(count)
            position += len(line)
    if not starts:
        raise UserError(f"{path} has no rows; expected one JSON object per line")
    if mapper is not None:
        mapper.check_seen()
    starts.append(position)
    rows = RowFile(path, np.frombuffer(starts, np.int64), parse)
    _check_ids(rows, np.frombuffer(ids, np.uint64), lines)
    return rows


def _check_ids(rows: RowFile, hashes: np.ndarray, lines: Sequence[int]) -> None:
    """Raises UserError where an id stands twice; equal hashes [N] say where to look."""
    order = np.argsort(hashes, kind="stable")
    for place in np.flatnonzero(np.diff(hashes[order]) == 0):
        first, second = order[place], order[place + 1]
        if rows[first].id == rows[second].id:
            where = f"{rows._path}:{lines[second]}"
            raise same_id(where, rows[second].id, lines[first])


def write_row_file(path: epath.Path, rows: Iterable[Example]) -> None:
    """Writes rows as JSONL, one after the other, and their offsets beside them.

    Args:
      path: a file that nobody reads yet; `<path>.offsets` is written too.
      rows: the rows.
    """
    offsets = array("q", [0])
    with path.open("wb") as file:
        for row in rows:
            line = to_line(row).encode("ascii")
            file.write(line)
            offsets.append(offsets[-1] + len(line))
    (path.parent / (path.name + _OFFSETS)).write_bytes(np.array(offsets, "<i8").tobytes())


def open_row_file(path: epath.Path) -> RowFile:
    """The rows that `write_row_file` wrote; only their offsets are read (mapped where local)."""
    offsets = open_array(path.parent / (path.name + _OFFSETS), "<i8")
    name = os.fspath(path)

    def parse(line: bytes, number: int) -> Example:
        where = f"{name}:{number + 1}"
        return Example.from_dict(json_object(line, where), where)

    return RowFile(path, offsets, parse)


def open_array(path: epath.Path, kind: str) -> np.ndarray:
    """A file of raw numbers [N], mapped into memory where it is local, else read whole."""
    if is_local(path) and path.stat().length:
        return np.asarray(np.memmap(os.fspath(path), np.dtype(kind), "r"))
    return np.frombuffer(path.read_bytes(), np.dtype(kind))
