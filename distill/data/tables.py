"""A user's rows from CSV or JSONL; the name of the file decides."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence

from etils import epath

from distill.common.text_files import parse_json, read_bytes
from distill.data.examples import FIELDS, Example, assemble, check_name, read_jsonl
from distill.data.row_file import index_jsonl
from distill.errors import UserError

_NAME = re.compile(r"[\w-]+( [\w-]+)?")
_PLAIN_NAME = re.compile(r"[^\W\d][\w-]*")  # one word that starts with a letter
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_LONGEST = 200  # characters of a first line that an error shows
# What people call the columns of such tables, besides the names of our fields
_USUAL_COLUMNS = (
    *("text", "sentence", "question", "premise", "hypothesis", "prompt", "source"),
    *("gold", "target", "answer", "output", "class", "category"),
)


def read_table(
    path: epath.PathLike, split: str, labels: Sequence[str] | None = None
) -> list[Example]:
    """Rows of a file: CSV if its name ends in `.csv`, else JSONL.

    Args:
      path: the file, local or on gs://.
      split: the split its rows belong to.
      labels: closed label set of the whole file; None for free-text labels.

    Raises:
      UserError: see `read_csv` and `distill.data.examples.read_jsonl`.
    """
    is_csv = epath.Path(path).suffix.lower() == ".csv"
    return (read_csv if is_csv else read_jsonl)(path, split, labels)


def open_table(
    path: epath.PathLike, split: str, labels: Sequence[str] | None = None
) -> Sequence[Example]:
    """Rows of a file like `read_table`, but those of JSONL are checked and stay on disk."""
    is_csv = epath.Path(path).suffix.lower() == ".csv"
    return (read_csv if is_csv else index_jsonl)(path, split, labels)


def read_csv(
    path: epath.PathLike, split: str, labels: Sequence[str] | None = None
) -> list[Example]:
    """Reads a CSV file (RFC 4180: commas, double quotes, UTF-8) with a header line.

    The columns are named like the fields of a JSONL row, in any order, with others among them
    (`Example.extra`); an empty cell is an absent field and `choices` is a JSON list of texts.
    Cells may hold line breaks; an error names the line on which its row starts. Ids, splits and
    labels are those of `distill.data.examples.read_jsonl`.

    Args:
      path: the file, local or on gs://.
      split: the split its rows belong to.
      labels: closed label set of the whole file; None for free-text labels.

    Raises:
      UserError: a missing file, a bad header or a bad row, named by `file:line`.
    """
    path = epath.Path(path)
    examples = assemble(path, csv_records(str(path), read_bytes(path)), split, labels)
    if not examples:
        raise UserError(f"{path} has no rows; expected a header line and one row per line")
    return examples


def csv_records(path: str, content: bytes) -> Iterator[tuple[int, dict[str, object]]]:
    """Line number (from 1) and fields of each row below the header.

    Args:
      path: what error messages call the file.
      content: of the file.

    Raises:
      UserError: a bad header or line, named by `file:line`.
    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not UTF-8; save the file as UTF-8") from error
    header: list[str] = []
    for line, cells in _lines(path, text):
        where = f"{path}:{line}"
        if not header:
            header = _header(cells, where)
            continue
        if len(cells) != len(header):
            raise UserError(
                f"{where}: got {len(cells)} cells, expected {len(header)} ({', '.join(header)}); "
                "put cells that contain commas in double quotes"
            )
        fields: dict[str, object] = {n: c for n, c in zip(header, cells, strict=True) if c}
        if "choices" in fields:
            fields["choices"] = _list(cells[header.index("choices")], where)
        yield line, fields


def _lines(path: str, text: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row that is not blank, the header among them."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise UserError(
                f"{path}:{line}: not CSV ({error}); close every double quote, and double those "
                "inside a cell"
            ) from error
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


def is_header(line: bytes) -> bool:
    """Whether a line is the header of a CSV file of rows: names with commas, `input` among them."""
    try:
        cells = next(csv.reader([line.decode("utf-8")], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return False
    names = [cell.strip() for cell in cells]
    return "input" in names and all(_NAME.fullmatch(name) for name in names)


def looks_like_header(line: bytes, following: Sequence[bytes] = ()) -> str:
    """Why a line seems to be the header of a table that `is_header` does not take; "" if not.

    That is a line of names with commas, semicolons, tabs or vertical bars between them, if one of
    them is usual for a column or contains an underscore, or if all are single words, without
    spaces, and all `following` lines have as many cells.

    Args:
      line: the first line.
      following: some of the lines after it that are not blank.
    """
    for separator, plural in _SEPARATORS.items():
        names = _cells(line, separator)
        if len(names) < 2 or not all(_NAME.fullmatch(name.strip()) for name in names):
            continue
        shown = ", ".join(name.strip() for name in names)
        if any(is_column(name.strip()) for name in names):
            if separator == ",":
                return f"names columns ({shown}), but no column `input`"
            return f"names columns separated by {plural} ({shown}), expected commas"
        counts = {len(_cells(other, separator)) for other in following}
        if counts == {len(names)} and all(_PLAIN_NAME.fullmatch(name) for name in names):
            expected = "no column `input`" if separator == "," else "expected commas"
            return (
                f"seems to name columns ({shown}), as all lines have {len(names)} cells "
                f"separated by {plural}, but {expected}"
            )
    return ""


def is_column(text: str) -> bool:
    """Whether a text is a usual name of a column, or a name that contains an underscore."""
    usual = {*FIELDS, *_USUAL_COLUMNS}
    return text.casefold() in usual or bool("_" in text and _PLAIN_NAME.fullmatch(text))


def _cells(line: bytes, separator: str) -> list[str]:
    """The cells of a line; none if it is not one."""
    try:
        return next(csv.reader([line.decode("utf-8").strip("\r\n")], delimiter=separator), [])
    except (UnicodeDecodeError, csv.Error):
        return []


def _header(cells: list[str], where: str) -> list[str]:
    """The names of the columns."""
    names = [cell.strip() for cell in cells]
    for number, name in enumerate(names, start=1):
        check_name(name, where, "column")
        if not name:
            raise UserError(f"{where}: column {number} has no name; name it in the first line")
        if names.count(name) > 1:
            raise UserError(f"{where}: duplicate column {name!r}; remove one")
    if "input" not in names:
        got = ", ".join(map(repr, names))
        got = f"{got[:_LONGEST]}..." if len(got) > _LONGEST else got
        raise UserError(
            f"{where}: no column `input`; the first line must name the columns, separated by "
            f"commas, and has {got}"
        )
    return names


def _list(cell: str, where: str) -> object:
    """The JSON value of a cell of `choices`."""
    try:
        return parse_json(cell)
    except ValueError as error:
        raise UserError(
            f"{where}: got {cell!r} for `choices`, expected a JSON list of strings such as "
            '["yes", "no"]'
        ) from error
