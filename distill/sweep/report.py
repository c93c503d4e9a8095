"""A self-contained HTML page for a sweep: a worked ticket, charts, what they say, the table."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Sequence

from distill.sweep import charts
from distill.sweep.results import Group

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; overflow-wrap: anywhere; }
h1 { line-height: 1.2; } h2 { margin-top: 2rem; font-size: 1.2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
th, td { padding: .25rem .5rem; text-align: right; border-bottom: 1px solid #ddd; }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left; }
dl { margin: 0; padding: .75rem 1rem; border-left: 4px solid #b8500a; background: #f6f5f3; }
dt { font-size: .875rem; color: #555; } dd { margin: 0 0 .5rem; } dd:last-child { margin: 0; }
@media (prefers-color-scheme: dark) {
  body { background: #191919; color: #ddd; } th, td { border-color: #444; }
  dl { background: #242424; border-color: #f5a25d; } dt { color: #aaa; }
}
"""


@dataclasses.dataclass(frozen=True)
class Worked:
    """A student's answer to one ticket.

    Attributes:
      text: the ticket.
      student: what the table calls the student, and its labels.
      rationale: that it writes.
      label: that it answers.
      gold: the right answer.
    """

    text: str
    student: str
    rationale: str
    label: str
    gold: str


def page(
    title: str,
    groups: Sequence[Group],
    remarks: Sequence[str],
    worked: Worked | None = None,
    teacher: float | None = None,
) -> str:
    """The page as one HTML text, without scripts or anything to load.

    Args:
      title: heading.
      groups: rows of the table and the charts (`charts.make_charts`).
      remarks: paragraphs between charts and table.
      worked: a ticket with its answer.
      teacher: accuracy of the noisy teacher, None without one.
    """
    drawn = "".join(
        f"<h2>{html.escape(chart.title)}</h2>{chart.svg()}"
        for chart in charts.make_charts(groups, teacher)
    )
    seeds = max(len(g.accuracies) for g in groups)
    shown = (
        f"means over {seeds} seeds; the bar through each mean shows the standard deviation"
        if seeds > 1
        else "one seed"
    )
    body = "".join(f"<p>{html.escape(remark)}</p>" for remark in remarks)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<meta name=color-scheme content='light dark'><style>{STYLE}{charts.STYLE}</style>"
        f"<h1>{html.escape(title)}</h1>{_worked(worked) if worked else ''}{drawn}"
        f"<p>Accuracy on test tickets, {shown}.</p><h2>Findings</h2>{body}"
        f"<h2>All runs</h2><div class=scroll>{_table(groups)}</div></html>\n"
    )


def _worked(worked: Worked) -> str:
    verdict = (
        "correct" if worked.label == worked.gold else f"wrong: the gold label is {worked.gold}"
    )
    terms = (
        ("a new ticket", worked.text),
        ("[rationale] the reason, which the student was also trained to write", worked.rationale),
        ("[label] the answer; prediction decodes only this", f"{worked.label} ({verdict})"),
    )
    listed = "".join(f"<dt>{html.escape(t)}</dt><dd>{html.escape(d)}</dd>" for t, d in terms)
    return f"<h2>One ticket, answered by {html.escape(worked.student)}</h2><dl>{listed}</dl>"


def _table(groups: Sequence[Group]) -> str:
    head = (
        "policy",
        "labels",
        "method",
        "accuracy",
        "each seed",
        "steps",
        "parameters",
        "s per run",
    )
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
