"""Records of CSV and TSV files (RFC 4180: double quotes, UTF-8, a header line)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence

from distill.common.phrases import number_of
from distill.common.text_files import not_utf8
from distill.errors import UserError

LARGEST_CELL = 131_072  # characters; the limit of Python's csv module
_LONGEST = 200  # characters of a first line that an error shows
_NAMES = {",": "CSV", "\t": "TSV"}
_SEPARATED_BY = {",": "commas", "\t": "tabs"}
_OTHERS = {";": "semicolons", "|": "vertical bars"} | _SEPARATED_BY


def csv_records(
    name: str, lines: Iterable[str], delimiter: str = ","
) -> tuple[int, Sequence[str], Iterator[tuple[int, dict[str, str]]]]:
    """The line of the header, the names of the columns, and the rows below them.

    A row is its line number (from 1) and its cells by column.

    Cells may hold line breaks; a row is numbered by its first line. Blank lines are skipped.

    Args:
      name: what error messages call the file.
      lines: its text, line by line, with the line ends as they are.
      delimiter: "," or a tab.

    Returns:
      No columns for a file without lines.

    Raises:
      UserError: a bad header, and while the rows are read a bad line, named by `file:line`.
    """
    rows = _rows(name, lines, delimiter)
    for line, cells in rows:
        header = _header(cells, f"{name}:{line}", delimiter)
        return line, header, _records(name, header, rows, delimiter)
    return 1, (), iter(())


def decoded(name: str, lines: Iterable[bytes]) -> Iterator[str]:
    """Lines of UTF-8 as text.

    Raises:
      UserError: a line that is not UTF-8, by its number (from 1).
    """
    for number, line in enumerate(lines, start=1):
        try:
            yield line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise not_utf8(f"{name}:{number}", line) from error


def check_input(columns: Sequence[str], where: str, delimiter: str | None) -> None:
    """Refuses columns without `input`.

    Args:
      columns: the names in the header.
      where: file and line of the header.
      delimiter: of the file; None if its columns are not named in a line of text.

    Raises:
      UserError: says what the header has.
    """
    if "input" in columns or not columns:
        return
    got = ", ".join(map(repr, columns))
    got = f"{got[:_LONGEST]}..." if len(got) > _LONGEST else got
    fix = (
        "map the columns with --field input=COLUMN --field label=COLUMN or, in a configuration, "
        "--gin.FIELDS=\"{'input': 'COLUMN', 'label': 'COLUMN'}\""
    )
    if delimiter is None:
        raise UserError(f"{where}: no column `input`, only {got}; {fix}")
    raise UserError(
        f"{where}: no column `input`; {fix}. The first line must name the columns, separated by "
        f"{_SEPARATED_BY[delimiter]}, and has {got}"
    )


def _records(
    name: str, header: Sequence[str], rows: Iterator[tuple[int, list[str]]], delimiter: str
) -> Iterator[tuple[int, dict[str, str]]]:
    for line, cells in rows:
        if len(cells) != len(header):
            raise UserError(
                f"{name}:{line}: got {number_of(len(cells), 'cell')}, expected {len(header)} "
                f"({', '.join(header)}); put cells that contain {_SEPARATED_BY[delimiter]} in "
                "double quotes"
            )
        yield line, dict(zip(header, cells, strict=True))


def _rows(name: str, lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row that is not blank, the header among them."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise _unreadable(f"{name}:{line}", error, delimiter) from error
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


def _unreadable(where: str, error: csv.Error, delimiter: str) -> UserError:
    kind = _NAMES[delimiter]
    if "field larger" in str(error):
        return UserError(
            f"{where}: a cell of this row has more than {LARGEST_CELL:,} characters, the limit of "
            f"{kind} files. Mostly a double quote at the beginning of a cell is not closed: close "
            "it, and double those inside a cell. For rows that are that long, use JSONL"
        )
    return UserError(
        f"{where}: not {kind} ({error}); close every double quote, and double those inside a cell"
    )


def _header(cells: list[str], where: str, delimiter: str) -> list[str]:
    """The names of the columns."""
    names = [cell.strip() for cell in cells]
    for separator, plural in _OTHERS.items():
        if len(names) == 1 and separator in names[0] and separator != delimiter:
            kind = _NAMES.get(separator)
            fix = f"rename it to .{kind.lower()}" if kind else "save the file with these"
            raise UserError(
                f"{where}: the columns ({names[0][:_LONGEST]}) seem to be separated by {plural}; "
                f"expected {_SEPARATED_BY[delimiter]}: {fix}"
            )
    for number, name in enumerate(names, start=1):
        if not name:
            raise UserError(f"{where}: column {number} has no name; name it in the first line")
        if names.count(name) > 1:
            raise UserError(f"{where}: duplicate column {name!r}; remove one")
    return names
