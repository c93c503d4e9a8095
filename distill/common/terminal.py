"""Text of a language model, or of a server, made safe to show on a terminal."""

from __future__ import annotations

import unicodedata


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


_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
