"""Text of users, of a language model or of a server, made safe to show on a terminal."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import unicodedata
from collections.abc import Iterator
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


class OutputFailed(Exception):
    """Standard output takes no more, though somebody reads it: a file on a full disk."""


@contextlib.contextmanager
def naming_stdout() -> Iterator[None]:
    """Tells a failure to write the result from that of a file.

    Raises:
      OutputFailed: with the system's reason.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        reason = error.strerror or error
        raise OutputFailed(f"the output cannot be written: {reason}") from error


def discard_stdout() -> None:
    """Keeps Python from failing once more when it flushes stdout at its end."""
    with contextlib.suppress(OSError, ValueError):  # a stream without a file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def escape_unencodable() -> None:
    """Lets stdout and stderr escape characters that their encoding lacks, e.g. as `\\xe9`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def json_line(content: object) -> str:
    """A JSON text of one line that may go to a terminal: nothing hidden is in it as it is.

    What a reader of JSON gets is the same: hidden characters stand only within texts, and there as
    `\\u001b`, those beyond the first 65,536 as their pair of surrogates.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    text = json.dumps(content, ensure_ascii=not encoding.casefold().startswith("utf"))
    return "".join(
        c if unicodedata.category(c) not in _HIDDEN else json.dumps(c)[1:-1] for c in text
    )


_SHOWN = 200
_LONG = re.compile(rf"\S{{{2 * _SHOWN},}}")
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
