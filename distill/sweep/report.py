"""A self-contained HTML page for a sweep: the curve of accuracy over labels, and the table."""

from __future__ import annotations

import html
from collections.abc import Sequence

from distill.sweep.results import Group

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 360, 56, 200, 24, 44
COLORS = ("#0b6e99", "#d9730d", "#6940a5", "#4d6461")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #ddd; }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left; }
svg { max-width: 100%; height: auto; }
@media (prefers-color-scheme: dark) {
  body { background: #191919; color: #ddd; } th, td { border-color: #444; }
  svg text { fill: #ddd; } svg .axis { stroke: #888; }
}
"""


def page(title: str, groups: Sequence[Group], remarks: Sequence[str]) -> str:
    """The page as one HTML text, without scripts or anything to load.

    Args:
      title: heading.
      groups: rows of the table; those of the natural policy with gold labels and at
        least two budgets make the curve.
      remarks: paragraphs between curve and table.
    """
    body = "".join(f"<p>{html.escape(remark)}</p>" for remark in remarks)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>{''.join(_curves(groups))}{body}{_table(groups)}</html>\n"
    )


def _table(groups: Sequence[Group]) -> str:
    head = ("policy", "labels", "method", "accuracy", "each seed", "steps", "parameters", "s a run")
    rows = [
        (
            g.policy,
            f"{g.labels:,}",
            g.name,
            f"{g.mean:.3f} ± {g.spread:.3f}",
            ", ".join(f"{a:.3f}" for a in g.accuracies),
            f"{g.steps:,}",
            f"{g.parameters:,}",
            f"{g.seconds:.0f}",
        )
        for g in groups
    ]
    cells = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return "<table><tr>" + "".join(f"<th>{h}</th>" for h in head) + f"</tr>{cells}</table>"


def _curves(groups: Sequence[Group]) -> list[str]:
    """One chart for each policy with at least two budgets."""
    charts = []
    for policy in dict.fromkeys(g.policy for g in groups):
        lines: dict[str, list[Group]] = {}
        for g in groups:
            if g.policy == policy:
                lines.setdefault(g.name, []).append(g)
        lines = {name: sorted(line, key=lambda g: g.labels) for name, line in lines.items()}
        lines = {name: line for name, line in lines.items() if len(line) > 1}
        if lines:
            charts.append(f"<h2>Policy {html.escape(policy)}</h2>{_chart(lines)}")
    return charts


def _chart(lines: dict[str, list[Group]]) -> str:
    budgets = sorted({g.labels for line in lines.values() for g in line})
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(labels: int) -> float:
        return LEFT + across * (budgets.index(labels) + 0.25) / (len(budgets) - 0.5)

    def y(accuracy: float) -> float:
        return TOP + down * (1 - accuracy)

    parts = [f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' width={WIDTH} role=img>"]
    for tick in (0, 0.2, 0.4, 0.6, 0.8, 1):
        parts.append(
            f"<line class=axis x1={LEFT} x2={WIDTH - RIGHT} y1={y(tick):.1f} y2={y(tick):.1f} "
            f"stroke='#bbb' stroke-width='.5'/>"
            f"<text x={LEFT - 8} y={y(tick) + 4:.1f} font-size=12 text-anchor=end>{tick:g}</text>"
        )
    for labels in budgets:
        parts.append(
            f"<text x={x(labels):.1f} y={HEIGHT - BOTTOM + 18} font-size=12 "
            f"text-anchor=middle>{labels:,}</text>"
        )
    parts.append(
        f"<text x={LEFT + across / 2} y={HEIGHT - 8} font-size=12 text-anchor=middle>labels "
        "(test accuracy, mean and standard deviation over seeds)</text>"
    )
    for index, (name, line) in enumerate(lines.items()):
        parts.append(_line(name, line, COLORS[index % len(COLORS)], x, y))
    return "".join([*parts, "</svg>"])


def _line(name: str, line: Sequence[Group], color: str, x: object, y: object) -> str:
    points = " ".join(f"{x(g.labels):.1f},{y(g.mean):.1f}" for g in line)
    parts = [f"<polyline points='{points}' fill=none stroke='{color}' stroke-width=2 />"]
    for g in line:
        high, low = y(min(1, g.mean + g.spread)), y(max(0, g.mean - g.spread))
        center = f"{x(g.labels):.1f}"
        parts.append(
            f"<line x1={center} x2={center} y1={high:.1f} y2={low:.1f} stroke='{color}'/>"
            f"<circle cx={center} cy={y(g.mean):.1f} r=4 fill='{color}'>"
            f"<title>{html.escape(name)}, {g.labels} labels: {g.mean:.3f}</title></circle>"
        )
    last = line[-1]
    parts.append(
        f"<text x={x(last.labels) + 10:.1f} y={y(last.mean) + 4:.1f} font-size=12 "
        f"fill='{color}'>{html.escape(name)} {last.mean:.2f}</text>"
    )
    return "".join(parts)
