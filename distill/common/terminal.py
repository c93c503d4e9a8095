"""Text of users, of a language model or of a server, made safe to show on a terminal."""

from __future__ import annotations

import io
import json
import re
import unicodedata
from typing import TextIO


def printable(text: str, keep: str = "\n\t") -> str:
    r"""The text with control characters and invisible direction marks as `\x1b`, `\u202e`.

    A completion may hold escape sequences that move the cursor, change the title of the
    window or reorder what is read.

    Args:
      text: any text.
      keep: control characters that stay.
    """
    return "".join(
        c if c in keep or unicodedata.category(c) not in _HIDDEN else _escaped(c) for c in text
    )


def message(text: str) -> str:
    """A message of an error, printable, with what is too long to read cut out of it."""
    return printable(_LONG.sub(lambda m: f"{m[0][:_SHOWN]}... ({len(m[0]):,} characters)", text))


class PrintableStream(io.TextIOBase):
    """A stream of text that escapes control characters on the way to another one."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes the text, escaped."""
        self._stream.write(printable(text))
        return len(text)

    def flush(self) -> None:
        """Flushes the other stream."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Whether the other stream is a terminal."""
        return self._stream.isatty()


def json_line(content: object) -> str:
    """A JSON text of one line that may go to a terminal: nothing hidden is in it as it is.

    What a reader of JSON gets is the same: hidden characters stand only within texts, and there as
    `\\u001b`, those beyond the first 65,536 as their pair of surrogates.
    """
    text = json.dumps(content, ensure_ascii=False)
    return "".join(
        c if unicodedata.category(c) not in _HIDDEN else json.dumps(c)[1:-1] for c in text
    )


_SHOWN = 200
_LONG = re.compile(rf"\S{{{2 * _SHOWN},}}")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
