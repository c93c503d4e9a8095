"""The configuration of a run folder: macros as data, written and read without running anything.

A stored configuration is text of three kinds of lines: blank ones, comments, and `NAME = literal`
with a Python literal on the right. It is also a gin file, so that `--gin_file=RUN/config.gin`
repeats a run. Reading it never imports a module and never calls gin.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping

from distill.errors import UserError

_LINE = re.compile(r"([A-Z][A-Z0-9_]*) = (.+)")
_MAX_BYTES = 1 << 20
_MOST = 2**63 - 1  # of a whole number; no setting is larger
_SCALARS = (str, int, float, bool, type(None))


def dump(values: Mapping[str, object], notes: Iterable[str] = ()) -> str:
    """The text of a configuration.

    Args:
      values: macros by name.
      notes: lines for the record, written as comments and never read again.

    Raises:
      UserError: a value that is no literal (an infinite number, an object), naming its macro.
    """
    lines = ["# The macros of this run. Read as data: NAME = literal, nothing else."]
    for name, value in sorted(values.items()):
        line = f"{name} = {value!r}"
        if not _is_literal(value) or _parse(name, repr(value), name) != value:
            raise UserError(
                f"got {_not_literal(name, value)}, expected a string, a finite number, True, "
                "False, None, or a list, tuple or dict of these"
            )
        lines.append(line)
    lines += [f"# {note}" for text in notes for note in text.splitlines()]
    return "\n".join(lines) + "\n"


def _not_literal(name: str, value: object) -> str:
    """The macro as it was set, or, of a dict, the first entry that is no literal."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if isinstance(key, str) and not _is_literal(entry):
                return _not_literal(f"{name}[{key!r}]", entry)
    return f"{name} = {value!r}"


def load_stored(content: bytes, where: str) -> dict[str, object]:
    """The macros that `dump` wrote.

    Args:
      content: of the file.
      where: the file's name, for errors.

    Raises:
      UserError: a line of any other form, with file and line; no line at all.
    """
    if len(content) > _MAX_BYTES:
        raise UserError(f"{where}: got {len(content):,} bytes, expected at most {_MAX_BYTES:,}")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 ({error.reason})") from None
    values: dict[str, object] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        place, match = f"{where}:{number}", _LINE.fullmatch(line.rstrip())
        if match is None:
            raise UserError(
                f"{place}: got {line[:80]!r}, expected NAME = literal: a run folder holds data, "
                "not gin code"
            )
        if match[1] in values:
            raise UserError(f"{place}: {match[1]} is set twice")
        values[match[1]] = _parse(match[1], match[2], place)
    if not values:
        raise UserError(f"{where} is damaged: it sets no macro; copy the run folder again")
    return values


def _parse(name: str, text: str, where: str) -> object:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        value = object()
    if not _is_literal(value):
        raise UserError(
            f"{where}: got {name} = {text[:80]}, expected a literal: a string, a number, True, "
            "False, None, or a list, tuple or dict of these"
        )
    return value


def _is_literal(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_literal, value))
    if isinstance(value, dict):
        return all(
            isinstance(key, str | int) and _is_literal(key) and _is_literal(item)
            for key, item in value.items()
        )
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) <= _MOST
    if isinstance(value, str):
        return value.encode("utf-8", "ignore").decode() == value  # no half of a surrogate pair
    return isinstance(value, _SCALARS)
