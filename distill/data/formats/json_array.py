"""Records of a file that holds one JSON array, read without the whole array in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from distill.common.text_files import FieldTwice, in_our_words, unique_fields
from distill.errors import UserError

_CHUNK = 1 << 16  # characters
_LARGEST = 1 << 26  # characters of a record
_SPACE = " \t\r\n"


def array_records(name: str, file: TextIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number (from 1) and fields of each object of an array.

    Args:
      name: what error messages call the file.
      file: its text, from the beginning.

    Raises:
      UserError: text that is not an array of objects, by `file:line`.
    """
    reader = _Reader(name, file)
    if reader.next_character() != "[":
        raise reader.error("expected a JSON array of objects")
    reader.skip(1)
    if reader.next_character() == "]":
        reader.skip(1)
    else:
        while True:
            reader.next_character()
            line = reader.line
            fields = reader.value()
            if not isinstance(fields, dict):
                raise UserError(
                    f"{name}:{line}: got a JSON {type(fields).__name__} in the array, expected an "
                    "object"
                )
            yield line, fields
            sign = reader.next_character()
            if sign not in (",", "]") or not sign:
                raise reader.error("expected a comma or ] after the object")
            reader.skip(1)
            if sign == "]":
                break
    if reader.next_character():
        raise reader.error("expected nothing after the array")


class _Reader:
    """The text of a file, of which only what is not read yet is kept."""

    def __init__(self, name: str, file: TextIO) -> None:
        self._name, self._file = name, file
        self._text, self._place, self.line = "", 0, 1
        self._decoder = json.JSONDecoder(object_pairs_hook=unique_fields)

    def error(self, expected: str) -> UserError:
        """The error for what stands at this place."""
        return UserError(f"{self._name}:{self.line}: not JSON ({expected})")

    def skip(self, count: int) -> None:
        """Goes on by some characters."""
        self.line += self._text.count("\n", self._place, self._place + count)
        self._place += count

    def next_character(self) -> str:
        """The next character that is not a blank, at which it stops; "" at the end."""
        while True:
            text, place = self._text, self._place
            while place < len(text) and text[place] in _SPACE:
                place += 1
            self.skip(place - self._place)
            if place < len(text):
                return text[place]
            if not self._read_on(_CHUNK):
                return ""

    def value(self) -> Any:
        """The value that begins here."""
        size = _CHUNK
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._place)
            except FieldTwice as error:
                raise UserError(f"{self._name}:{self.line}: {error}") from None
            except RecursionError:
                raise self.error("lists or objects nested too deeply") from None
            except ValueError as error:
                if len(self._text) - self._place < _LARGEST and self._read_on(size):
                    size *= 2
                    continue
                if isinstance(error, json.JSONDecodeError):
                    self.line += self._text.count("\n", self._place, error.pos)
                    raise self.error(f"{error.msg}, column {error.colno}") from None
                raise self.error(str(in_our_words(error))) from None
            # A number goes on where the text that is read so far ends.
            if end == len(self._text) and self._read_on(size):
                continue
            self.skip(end - self._place)
            return value

    def _read_on(self, size: int) -> bool:
        more = self._file.read(size)
        self._text, self._place = self._text[self._place :] + more, 0
        return bool(more)
