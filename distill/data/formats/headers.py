"""Whether the first line of a file or stream names the columns of a table."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence

from distill.data.examples import FIELDS

_NAME = re.compile(r"[\w-]+( [\w-]+)?")
_PLAIN_NAME = re.compile(r"[^\W\d][\w-]*")  # one word that starts with a letter
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# What people call the columns of such tables, besides the names of our fields
_USUAL_COLUMNS = (
    *("text", "sentence", "question", "premise", "hypothesis", "prompt", "source"),
    *("gold", "target", "answer", "output", "class", "category"),
)


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
