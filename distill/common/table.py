"""Rows of cells as aligned text: the one way that tables are printed."""

from __future__ import annotations

from collections.abc import Sequence

from distill.common.terminal import printable


def render_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], align: str = "", rule: bool = False
) -> str:
    """A table as text; columns are as wide as their widest cell.

    Args:
      header: names of C columns; () for a table without a header.
      rows: cells, C a row; control characters in them are escaped.
      align: "<" or ">" for each column; columns without a sign align left.
      rule: whether a line of dashes follows the header.

    Returns:
      Lines without trailing blanks, joined by line breaks.
    """
    lines = [header, *rows] if header else list(rows)
    lines = [[printable(cell, keep="") for cell in line] for line in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    signs = align.ljust(len(widths), "<")
    if rule:
        lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "  ".join(
            f"{cell:{sign}{width}}" for cell, sign, width in zip(line, signs, widths, strict=True)
        ).rstrip()
        for line in lines
    )
