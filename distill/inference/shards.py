"""JSONL files as parts of a fixed number of rows, which several processes answer on their own.

The parts depend on the files and on the rows a part alone. A process that counts the rows of the
same files finds the same parts, so processes need not talk to each other.
"""

from __future__ import annotations

import dataclasses
import glob
import hashlib
import os
from collections.abc import Iterator, Sequence

from etils import epath

from distill.common.progress import Stage
from distill.common.text_files import BOM, check_encoding, check_file, json_object
from distill.data.examples import Example, row_of
from distill.data.formats.record_files import check_no_array, is_indexable, kind_of, stem_of
from distill.data.mapping.record_mapper import RecordMapper
from distill.errors import UserError


@dataclasses.dataclass(frozen=True)
class Part:
    """Consecutive rows of one file.

    Attributes:
      name: of the file that takes their answers; sorted by it, parts are in the order of the rows.
      path: the file of the rows.
      first: index of the first row in its file, from 0.
      rows: how many there are.
      offset: where the first row's line begins, in bytes.
      line: number of that line, from 1.
    """

    name: str
    path: epath.Path
    first: int
    rows: int
    offset: int
    line: int


@dataclasses.dataclass(frozen=True)
class Shards:
    """Files of rows, cut into parts.

    Attributes:
      files: {file, sha256, rows} of each file, in their order.
      parts: all parts, in the order of the rows.
    """

    files: list[dict[str, object]]
    parts: list[Part]

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(part.rows for part in self.parts)


def find_files(patterns: Sequence[str]) -> list[epath.Path]:
    """The files that paths and patterns name: those of a pattern sorted by their names.

    Args:
      patterns: paths, or patterns with `*`, `?` or `[...]`, local or gs://.

    Raises:
      UserError: a pattern that matches no file; a file that is missing, that two of them name, or
        that is not uncompressed JSONL.
    """
    files: list[epath.Path] = []
    for pattern in patterns:
        path = epath.Path(pattern)
        if path.exists() or not is_pattern(pattern):
            found = [path]
        else:
            # The folder of a pattern has to be a plain name: epath globs below a folder.
            place, name = path.parent, path.name
            if is_pattern(os.fspath(place)):
                raise UserError(
                    f"--input={pattern}: expected `*`, `?` and `[...]` only in the name of the "
                    "file, not in that of its folder"
                )
            found = sorted(place.glob(name)) if place.is_dir() else []
            if not found:
                raise UserError(f"--input={pattern} matches no file in {place}")
        for file in found:
            check_file(file)
            if not is_indexable(file, kind_of(file, None) or ""):
                raise UserError(
                    f"{file}: --output_dir reads uncompressed JSONL files (*.jsonl) only, because "
                    "processes start to read in the middle of a file; convert the rows to JSONL, "
                    "or use --output, which reads all formats in one process"
                )
            if file in files:
                raise UserError(f"--input names {file} twice: its rows would be answered twice")
            files.append(file)
    return files


def is_pattern(path: str) -> bool:
    """Whether a path has characters that stand for others."""
    return glob.has_magic(path)


def cut(files: Sequence[epath.Path], part_rows: int) -> Shards:
    """Counts the rows of files and cuts each file into parts. Memory is that of the parts.

    Args:
      files: as from `find_files`.
      part_rows: rows of each part; the last part of a file may have fewer.

    Raises:
      UserError: a file without rows, of another encoding, or that holds a JSON array.
    """
    described: list[dict[str, object]] = []
    starts: list[tuple[epath.Path, int, int, int, int]] = []
    for number, path in enumerate(files, start=1):
        with Stage(f"counting the rows of file {number} of {len(files)}, {path.name}"):
            digest, total, places = _scan(path, part_rows)
        described.append({"file": path.name, "sha256": digest, "rows": total})
        for index, (offset, line) in enumerate(places):
            first = index * part_rows
            starts.append((path, first, min(part_rows, total - first), offset, line))
    parts = [
        Part(f"part-{number:05d}-of-{len(starts):05d}.jsonl", *start)
        for number, start in enumerate(starts)
    ]
    return Shards(described, parts)


def _scan(path: epath.Path, part_rows: int) -> tuple[str, int, list[tuple[int, int]]]:
    """Digest and number of rows of a file, and byte and line where each part begins."""
    digest, position, rows = hashlib.sha256(), 0, 0
    places: list[tuple[int, int]] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            digest.update(line)
            if number == 1:
                check_encoding(path, line[:4])
            if (line.removeprefix(BOM) if number == 1 else line).strip():
                if not rows:
                    check_no_array(line.removeprefix(BOM), f"{path}:{number}")
                if rows % part_rows == 0:
                    places.append((position, number))
                rows += 1
            position += len(line)
    if not rows:
        raise UserError(f"{path} has no rows; expected one JSON object per line")
    return digest.hexdigest(), rows, places


def read_part(part: Part, mapper: RecordMapper | None = None) -> Iterator[Example]:
    """The rows of a part, one after the other; they are those that `predict --output` reads.

    Args:
      part: which rows.
      mapper: makes the fields of a row from those of a line; None where they are that already.

    Raises:
      UserError: a bad row, named by `file:line`; a file that has changed since it was counted.
    """
    prefix, index, number = f"{stem_of(part.path)}/test", part.first, part.line
    with part.path.open("rb") as file:
        file.seek(part.offset)
        while index < part.first + part.rows:
            line = file.readline()
            if not line:
                raise UserError(f"{part.path} has become shorter while it was read")
            if number == 1:
                line = line.removeprefix(BOM)
            if line.strip():
                where = f"{os.fspath(part.path)}:{number}"
                fields = json_object(line, where)
                if mapper is not None:
                    fields = mapper(fields, where)
                yield row_of(fields, where, f"{prefix}/{index}", "test", ())
                index += 1
            number += 1
