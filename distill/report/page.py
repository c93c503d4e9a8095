"""The report as one HTML file that opens without a network; every text in it is escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import re
from collections.abc import Callable, Sequence

from distill.common.phrases import number_of
from distill.common.terminal import printable
from distill.report import plots
from distill.report.blocks import Block, Entry, Figures, Items, Section, Table, Text
from distill.report.browser import Predictions

MARK = "<!-- distill report -->"  # says that `distill report` wrote the page
MOST_BYTES = 30_000_000
# Stands for the number of rows that are left out, which is known when all else is; texts that are
# escaped have no such comment.
_NOTE, _NOTE_BYTES = "<!--rows left out-->", 300


class Markup(str):
    """Text that is HTML already."""


def element(name: str, *children: str, **attributes: str | None) -> Markup:
    """An element; children and values of attributes are escaped unless they are Markup.

    Args:
      name: of the element.
      children: texts and elements.
      attributes: by name; `_` stands for `-` and a `_` at the end is dropped. None leaves one out.
    """
    words = [name]
    for key, value in attributes.items():
        if value is not None:
            words.append(f'{key.rstrip("_").replace("_", "-")}="{escape(value)}"')
    body = "".join(child if isinstance(child, Markup) else escape(child) for child in children)
    return Markup(f"<{' '.join(words)}>{body}</{name}>")


def escape(text: str) -> str:
    """The text for HTML, control characters and invisible direction marks as their codes."""
    return html.escape(printable(text, keep="\n\t"), quote=True)


def render(
    title: str,
    sections: Sequence[Section],
    predictions: Callable[[int], Predictions | None],
    most_bytes: int = MOST_BYTES,
) -> tuple[str, Predictions | None]:
    """The page, and the predictions in it.

    Args:
      title: its heading.
      sections: in their order.
      predictions: gives those that fit in a number of bytes; None if there are none.
      most_bytes: of the page.
    """
    script = _asset("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    values = {
        "mark": MARK,
        "policy": (
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; "
            f"form-action 'none'; script-src 'sha256-{digest}'"
        ),
        "title": escape(title),
        "style": plots.theme() + _asset("report.css"),
        "links": "".join(
            element("li", element("a", each.title, href=f"#{each.name}")) for each in sections
        ),
        "sections": "\n".join(map(_section, sections)),
        "script": script,
    }
    template, used = _asset("report.html"), sum(len(text.encode()) for text in values.values())
    found = predictions(most_bytes - used - len(template.encode()) - _NOTE_BYTES)
    note = ""
    if found is not None and found.omitted:
        note = (
            f"{number_of(found.omitted, 'test row')} left out, so that the page stays within "
            f"{most_bytes / 1e6:g} MB; rows on which methods disagree are kept first."
        )
    values["predictions"] = found.text if found is not None else "null"
    return _fill(template, values).replace(_NOTE, escape(note), 1), found


def _asset(name: str) -> str:
    return (importlib.resources.files("distill.report") / "assets" / name).read_text("utf-8")


def _fill(template: str, values: dict[str, str]) -> str:
    """The template with its `{{names}}` replaced in one pass, so that values are not searched."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: values[match[1]], template)


def _section(section: Section) -> Markup:
    heading = f"{section.name}-heading"
    return element(
        "section",
        element("h2", section.title, id=heading),
        *map(_block, section.blocks),
        id=section.name,
        aria_labelledby=heading,
    )


def _block(block: Block) -> Markup:
    if isinstance(block, Text):
        return element("p", block.text, class_=block.kind or None)
    if isinstance(block, Items):
        return element("ul", *(element("li", line) for line in block.lines), class_=block.kind)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Figures):
        return _figures(block)
    return Markup(_fill(_asset("browser.html"), {"note": _NOTE}))


def _table(table: Table) -> Markup:
    head = element("tr", *(element("th", name, scope="col") for name in table.header))
    rows = (
        element("tr", *(_cell(cell, place < table.headings) for place, cell in enumerate(row)))
        for row in table.rows
    )
    parts = [element("thead", head), element("tbody", *rows)]
    if not table.folded:
        caption = element("caption", table.caption)
        return _scrolled(element("table", caption, *parts), table.caption)
    content = _scrolled(element("table", *parts, aria_label=table.caption), table.caption)
    return element("details", element("summary", table.caption), content)


def _scrolled(content: Markup, name: str) -> Markup:
    """A region that scrolls sideways, by keyboard too."""
    return element("div", content, class_="scroll", role="region", aria_label=name, tabindex="0")


def _cell(cell: str | Entry, is_heading: bool) -> Markup:
    entry = Entry(cell) if isinstance(cell, str) else cell
    text = element("strong", entry.text) if entry.strong else Markup(escape(entry.text))
    details = (element("small", each) for each in entry.details)
    if is_heading:
        return element("th", text, *details, scope="row")
    is_number = re.fullmatch(r"[-+]?[\d,.]+(e-?\d+)?%?", entry.text)
    kinds = " ".join(filter(None, (entry.kind, "number" if is_number else "")))
    return element("td", text, *details, class_=kinds or None)


def _figures(figures: Figures) -> Markup:
    drawn = []
    for place, plot in enumerate(figures.plots):
        described = f"{plot.title}. {_describe(plot)}"
        svg = Markup(plots.draw([plot], described, f"{figures.name}-{place}"))
        drawn.append(element("figure", svg))
    parts = [element("div", *drawn, class_="figures")]
    if figures.omitted:
        text = f"{number_of(figures.omitted, 'more plot')} left out: {figures.numbers}."
        parts.append(element("p", text, class_="note"))
    return element("div", *parts)


def _describe(plot: plots.Plot) -> str:
    """A plot in words: each line's first and last point."""
    lines = [
        f"{each.name}: {each.y[0]:.3g} at {each.x[0]:,.6g} to {each.y[-1]:.3g} at {each.x[-1]:,.6g}"
        for each in plot.series
    ]
    lines += [name for name, _ in plot.levels]
    return f"{plot.y_label} over {plot.x_label}. {'; '.join(lines)}."
