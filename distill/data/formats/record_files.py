"""A file or folder of rows of any format, as records: what its name or content says it is."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from etils import epath

from distill.common.atomic import is_local
from distill.common.text_files import BOM, json_object
from distill.data.formats import arrow_rows, csv_rows, folders, json_array
from distill.data.formats.encodings import open_bytes, open_text
from distill.errors import UserError

FORMATS = {
    "csv": "CSV",
    "tsv": "TSV",
    "jsonl": "JSONL",
    "json": "a JSON array",
    "parquet": "Parquet",
}
_BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "parquet",
}
_MOST_COUNTED = 256_000_000  # bytes
DELIMITERS = {"csv": ",", "tsv": "\t"}
_NO_ROWS = {
    "csv": "expected a header line and one row per line",
    "tsv": "expected a header line and one row per line",
    "jsonl": "expected one JSON object per line",
    "json": "expected a JSON array of objects",
    "parquet": "expected at least one",
}

Numbered = Iterator[tuple[int, dict[str, object]]]


@dataclasses.dataclass(frozen=True)
class RecordFile:
    """Records, before they are rows.

    Attributes:
      path: the file or folder.
      kind: one of FORMATS.
      columns: names that every record has; None if records have fields of their own.
      schema_names: names of the classes of fields that are class labels.
      read: gives line or row number (from 1) and fields of each record, anew with each call.
      header: file and line of the column names, for error messages.
    """

    path: epath.Path
    kind: str
    columns: Sequence[str] | None
    schema_names: Mapping[str, Sequence[str]]
    read: Callable[[], Numbered]
    header: str = ""

    @property
    def stem(self) -> str:
        """The first part of the ids of its rows."""
        return stem_of(self.path)

    @property
    def unit(self) -> str:
        """What the numbers of records count."""
        return "row" if self.kind == "parquet" else "line"

    def where(self, number: int) -> str:
        """What error messages call a record."""
        between = ":" if self.unit == "line" else ": row "
        return f"{os.fspath(self.path)}{between}{number}"

    def no_rows(self) -> UserError:
        """The error for a file without rows."""
        return UserError(f"{self.path} has no rows; {_NO_ROWS[self.kind]}")


def stem_of(path: epath.PathLike) -> str:
    """The name of a file without its suffix, and without .gz."""
    path = epath.Path(path)
    return epath.Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def kind_of(path: epath.PathLike, otherwise: str | None = "jsonl") -> str | None:
    """The format of a file or folder: by the suffix of its name, .gz left out.

    A file that ends in .json is an array if it begins with `[`, and JSONL otherwise.

    Args:
      path: the file or folder.
      otherwise: the format of a file with another suffix.
    """
    path = epath.Path(path)
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] == ".gz":
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    if suffix not in _BY_SUFFIX and suffix != ".json" and path.is_dir():
        return "parquet"
    if suffix == ".json":
        with open_bytes(path) as file:
            return "json" if starts_array(file.read(1024)) else "jsonl"
    return _BY_SUFFIX.get(suffix, otherwise)


def starts_array(content: bytes) -> bool:
    """Whether a content of JSON begins with an array."""
    return content.removeprefix(BOM).lstrip()[:1] == b"["


def is_indexable(path: epath.PathLike, kind: str) -> bool:
    """Whether rows of a file can be read by their place in it: JSONL that is not compressed."""
    return kind == "jsonl" and epath.Path(path).suffix.lower() != ".gz"


def files_of(path: epath.PathLike, split: str) -> list[epath.Path]:
    """The files that are read for a split: the file itself, or those of a folder."""
    path = epath.Path(path)
    return folders.data_files(path, split) if path.is_dir() else [path]


def most_rows(path: epath.PathLike) -> int | None:
    """How many rows a file has at most: the number of lines of JSONL, without reading the rows.

    Args:
      path: a file that is there, or a folder.

    Returns:
      The number; None for other formats, and where counting could take seconds: in buckets, and in
      files of more than 256 MB.

    Raises:
      UserError: see `open_bytes`.
    """
    path = epath.Path(path)
    if not is_local(path) or path.is_dir() or kind_of(path) != "jsonl":
        return None
    if os.path.getsize(path) > _MOST_COUNTED:
        return None
    lines, last = 0, b"\n"
    with open_bytes(path) as file:
        while content := file.read(1 << 20):
            lines, last = lines + content.count(b"\n"), content[-1:]
    return lines + (last != b"\n")


def open_records(path: epath.PathLike, split: str, kind: str | None = None) -> RecordFile:
    """Opens a file or folder of rows.

    Args:
      path: a file, local or on gs://, or a folder of Parquet or Arrow files.
      split: which files of a folder are read.
      kind: one of FORMATS; None goes by the name (`kind_of`).

    Raises:
      UserError: a missing file; a bad header. Reading the records raises one for a bad record.
    """
    path = epath.Path(path)
    kind = kind or kind_of(path) or "jsonl"
    if kind == "parquet":
        return _arrow(path, split)
    if kind == "json":
        return RecordFile(path, kind, None, {}, lambda: _array(path))
    if kind == "jsonl":
        return RecordFile(path, kind, None, {}, lambda: _lines(path))
    with open_text(path) as file:
        line, header, _ = csv_rows.csv_records(os.fspath(path), file, DELIMITERS[kind])
    return RecordFile(path, kind, header, {}, lambda: _table(path, kind), f"{path}:{line}")


def _arrow(path: epath.Path, split: str) -> RecordFile:
    files = files_of(path, split)
    columns, names = arrow_rows.arrow_schema(files[0])
    for file in files[1:]:
        if sorted(arrow_rows.arrow_schema(file)[0]) != sorted(columns):
            raise UserError(
                f"{file} has other columns than {files[0]} ({', '.join(columns)}); give one file"
            )

    def read() -> Numbered:
        first = 1
        for file in files:
            for number, fields in arrow_rows.arrow_records(file, first):
                yield number, fields
                first = number + 1

    return RecordFile(path, "parquet", columns, names, read)


def _table(path: epath.Path, kind: str) -> Numbered:
    with open_text(path) as file:
        _, _, records = csv_rows.csv_records(os.fspath(path), file, DELIMITERS[kind])
        yield from empty_to_none(records)


def empty_to_none(records: Iterator[tuple[int, dict[str, str]]]) -> Numbered:
    """Rows of text cells, of which the empty ones are None."""
    for number, cells in records:
        yield number, {name: cell or None for name, cell in cells.items()}


def _array(path: epath.Path) -> Numbered:
    with open_text(path) as file:
        yield from json_array.array_records(os.fspath(path), file)


def _lines(path: epath.Path) -> Numbered:
    name = os.fspath(path)
    with open_bytes(path) as file:
        first = True
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(BOM)
            if line.strip():
                if first:
                    check_first_line(line, name, number)
                first = False
                yield number, json_object(line, f"{name}:{number}")


def check_first_line(line: bytes, name: str, number: int) -> None:
    """Refuses a first line that is not JSONL, of a file whose name may say no format.

    Args:
      line: the first line that is not blank.
      name: of the file.
      number: of the line.

    Raises:
      UserError: a JSON array; a file with an unknown ending that does not begin with an object.
    """
    check_no_array(line, f"{name}:{number}")
    endings = (*_BY_SUFFIX, ".json")
    known = name.lower().removesuffix(".gz").endswith(endings)
    if not known and not line.lstrip().startswith(b"{"):
        *others, last = (ending for ending in endings if ending not in (".jsonl", ".ndjson"))
        raise UserError(
            f"{name}:{number}: not JSON, expected JSONL (one JSON object per line); a file of "
            f"another format needs a name that ends in {', '.join(others)} or {last} (predict: "
            "--format)"
        )


def check_no_array(line: bytes, where: str) -> None:
    """Refuses the first line of JSONL that begins a JSON array.

    Raises:
      UserError: says how to read the array.
    """
    if line.lstrip().startswith(b"["):
        raise UserError(
            f"{where}: the file is a JSON array, expected JSONL (one JSON object per line); rename "
            "it to .json to read it as an array (predict: --format=json), or convert it with "
            "`jq -c '.[]'`"
        )
