"""What a report consists of, before it is HTML or Markdown."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from distill.report.plots import Plot


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
      text: the words.
      kind: "" for ordinary text, "note" for remarks, "warning" for what a reader must not miss.
    """

    text: str
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class Items:
    """A list of lines."""

    lines: Sequence[str]
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A cell of a table.

    Attributes:
      text: the value.
      details: small text below it.
      strong: whether it stands out.
      kind: "better", "worse" or "" for its color; `details` says the same in words.
    """

    text: str
    details: Sequence[str] = ()
    strong: bool = False
    kind: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
      caption: what it shows.
      header: name of each column.
      rows: cells, one a column.
      headings: number of columns, from the left, whose cells name the row.
      folded: whether it is opened by its caption.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str | Entry]]
    headings: int = 1
    folded: bool = False


@dataclasses.dataclass(frozen=True)
class Figures:
    """Plots.

    Attributes:
      plots: one a figure.
      omitted: how many more there are.
      name: start of the ids of these figures.
      numbers: a clause that says where the numbers of the plots are, as they may be in no table.
    """

    plots: Sequence[Plot]
    omitted: int
    name: str
    numbers: str


@dataclasses.dataclass(frozen=True)
class Browser:
    """Where the predictions are browsed."""


Block = Text | Items | Table | Figures | Browser


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
      name: its id.
      title: its heading.
      blocks: its contents.
    """

    name: str
    title: str
    blocks: Sequence[Block]
