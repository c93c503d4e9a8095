"""Tables of Markdown pages."""

from __future__ import annotations

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table without the columns that are empty in every row.

    Args:
      header: names of C columns.
      rows: cells, C per row.
    """
    kept = [i for i in range(len(header)) if any(row[i] for row in rows)]
    lines = [[header[i] for i in kept], ["---"] * len(kept)]
    lines += [[" ".join(row[i].split()).replace("|", r"\|") for i in kept] for row in rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def code(text: object) -> str:
    """`text` as code; an empty text stays empty."""
    return f"`{text}`" if str(text) else ""


def plain(text: str) -> str:
    """`text` on one line, with Markdown's signs outside of code escaped."""
    parts = " ".join(text.split()).split("`")
    for index in range(0, len(parts), 2):
        parts[index] = parts[index].replace("<", "&lt;").replace("*", r"\*")
    return "`".join(parts)


def sentence(text: str) -> str:
    """`plain(text)` with a capital letter and a full stop."""
    first, *rest = text.split()
    if first.rstrip(",;:").islower() and first.rstrip(",;:").isalpha():
        first = first[0].upper() + first[1:]
    text = plain(" ".join([first, *rest]))
    return text if text.endswith(".") else text + "."
