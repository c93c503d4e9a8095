"""The report as one HTML page, without scripts and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from distill.common.phrases import number_of
from distill.common.terminal import printable
from distill.data.check.report import SPLIT_NAMES, LengthRecord, Report

MARK = "<!-- distill data check -->"  # says that `distill data check` wrote the page
_BINS = 40  # bars of a chart of lengths
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; color: #222;
  padding: 0 1rem; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; vertical-align: top; padding: .35rem .6rem;
  border-bottom: 1px solid #ddd; }
.problem { color: #a40000; font-weight: 600; } .warning { color: #8a5300; font-weight: 600; }
.note, .rows { color: #555; } .rows, code { font-size: .9em; }
svg text { font: 12px system-ui, sans-serif; fill: #333; } svg rect { fill: #4a78a8; }
"""


def render_page(report: Report) -> str:
    """The page.

    Args:
      report: of `check_rows`.
    """
    name = _text(report["name"])
    rows = ", ".join(
        number_of(count, f"{_text(SPLIT_NAMES.get(split, split))} row")
        for split, count in report["rows"].items()
    )
    parts = [
        "<!DOCTYPE html>",
        MARK,
        '<html lang="en"><head><meta charset="utf-8">',
        f"<title>Data check: {name}</title><style>{_STYLE}</style></head><body>",
        f"<h1>Data check: {name}</h1><p>{rows}</p>",
        "<h2>Findings</h2>",
        _findings(report),
    ]
    if report["classes"]:
        bars = _bars(report["classes"].items())
        parts += ["<h2>Classes</h2><p>Training rows of each class.</p>", bars]
    for field, counts in report["tokens"].items():
        parts += [f"<h2>Tokens of the {_text(field)}s</h2>", _lengths(counts)]
    return "\n".join([*parts, "</body></html>", ""])


def _findings(report: Report) -> str:
    lines = ["<table><tr><th>level</th><th>finding</th><th>check</th></tr>"]
    for finding in report["findings"]:
        level = _text(finding["level"])
        rows = ""
        if finding["rows"]:
            rows = f'<div class="rows">rows {_text(", ".join(finding["rows"]))}</div>'
        lines.append(
            f'<tr><td class="{level}">{level}</td><td>{_text(finding["text"])}{rows}</td>'
            f"<td><code>{_text(finding['check'])}</code></td></tr>"
        )
    return "\n".join([*lines, "</table>"])


def _lengths(counts: LengthRecord) -> str:
    text = (
        f"<p>{number_of(counts['texts'], 'text')}; 95% have at most "
        f"{counts['percentile_95']:,} tokens, the longest has {counts['longest']:,}. "
    )
    if counts["unknown"]:
        shown = ", ".join(f"{char!r} {n:,}" for char, n in counts["characters"].items())
        text += f"{counts['unknown']:,} unknown tokens: {_text(shown)}. "
    width = -(-counts["longest"] // _BINS)
    bins = dict.fromkeys(range(1, counts["longest"] + 1, width), 0)
    for length, number in counts["lengths"]:
        bins[1 + (length - 1) // width * width] += number
    named = ((f"{start} to {start + width - 1}", number) for start, number in bins.items())
    single = ((str(start), number) for start, number in bins.items())
    return f"{text}</p>\n{_bars(named if width > 1 else single)}"


def _bars(pairs: Iterable[tuple[str, int]]) -> str:
    """A bar chart as SVG: names, bars, numbers."""
    rows: Sequence[tuple[str, int]] = list(pairs)
    most = max((count for _, count in rows), default=0) or 1
    lines = [f'<svg width="100%" viewBox="0 0 800 {18 * len(rows) + 4}" role="img">']
    for index, (name, count) in enumerate(rows):
        y, width = 18 * index, 400 * count / most
        lines.append(
            f'<text x="0" y="{y + 13}">{_text(name[:30])}</text>'
            f'<rect x="230" y="{y + 2}" width="{width:.1f}" height="13"/>'
            f'<text x="{236 + width:.1f}" y="{y + 13}">{count:,}</text>'
        )
    return "\n".join([*lines, "</svg>"])


def _text(text: str) -> str:
    return escape(printable(text, keep=""))
