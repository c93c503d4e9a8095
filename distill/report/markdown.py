"""The report as Markdown: the tables of the page, without plots and without its predictions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from distill.common.phrases import number_of
from distill.common.terminal import printable
from distill.report.blocks import Block, Entry, Figures, Items, Section, Table, Text
from distill.report.page import MARK

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


def render(title: str, sections: Sequence[Section]) -> str:
    """The text.

    Args:
      title: its heading.
      sections: as of the page.
    """
    parts = [MARK, "", f"# {escape(title)}"]
    for section in sections:
        parts += ["", f"## {escape(section.title)}"]
        for block in section.blocks:
            parts += ["", *_block(block)]
    return "\n".join([*parts, ""])


def escape(text: str) -> str:
    """The text on one line, with a backslash before each character that Markdown may read."""
    line = " ".join(printable(text, keep="\n\t").split())
    return _SPECIAL.sub(r"\\\1", line)


def _block(block: Block) -> list[str]:
    if isinstance(block, Text):
        text = escape(block.text)
        return [f"**{text}**" if block.kind == "warning" else text]
    if isinstance(block, Items):
        return [f"- {escape(line)}" for line in block.lines]
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figures):
        left_out = f" and leaves out {block.omitted:,} more" if block.omitted else ""
        count = number_of(len(block.plots), "plot")
        return [escape(f"The HTML page has {count} here{left_out}: {block.numbers}.")]
    return ["The HTML page shows the predictions of each test row here."]


def _table(table: Table) -> list[str]:
    lines = [f"{escape(table.caption)}:", ""]
    lines.append(_row(table.header))
    lines.append("|" + " --- |" * len(table.header))
    return lines + [_row(row) for row in table.rows]


def _row(cells: Sequence[str | Entry]) -> str:
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(cell: str | Entry) -> str:
    if isinstance(cell, str):
        return escape(cell)
    text = f"**{escape(cell.text)}**" if cell.strong else escape(cell.text)
    return "<br>".join([text, *map(escape, cell.details)])
