"""Builds the report of a results folder: reads, compares, writes the page and its Markdown twin."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypedDict

from etils import epath

from distill.common.atomic import write_text
from distill.common.own_files import check_content
from distill.common.progress import Stage
from distill.errors import UserError
from distill.report import browser, charts, markdown, page, plots
from distill.report.blocks import Section
from distill.report.comparisons import compare_all
from distill.report.cost import read_latencies
from distill.report.groups import METHOD, Planned, make_groups
from distill.report.measure import measure
from distill.report.runs import read_runs
from distill.report.sections import Content, make_sections
from distill.results import store
from distill.results.record import Record

COMMAND = "distill report"


class Built(TypedDict):
    """What the command gives."""

    output: str
    markdown: str | None
    bytes: int
    done: int
    failed: int
    missing: int | None
    comparisons: int
    rows: int
    omitted_rows: int
    runs_with_problems: int
    latency_problems: list[str]


def check_outputs(output: str, markdown_output: str | None) -> None:
    """Refuses to start where the report could not be written, or would replace another file.

    Raises:
      UserError: matplotlib is not installed; a page whose name is that of Markdown; a file that
        `distill report` did not write.
    """
    plots.check_installed()
    if output.endswith(".md"):
        raise UserError(
            f"got --output={output}, expected the name of an HTML page, such as "
            f"{output.removesuffix('.md')}.html; --markdown={output} also writes the tables as "
            "Markdown"
        )
    for path, flag in ((output, "--output"), (markdown_output, "--markdown")):
        if path:
            check_content(path, flag, COMMAND, lambda text: page.MARK.encode() in text[:200])


def build(
    folder: epath.PathLike,
    output: str,
    markdown_output: str | None = None,
    planned: Sequence[Planned] | None = None,
    compare: str = METHOD,
    baseline: str | None = None,
    title: str | None = None,
    most_bytes: int = page.MOST_BYTES,
    not_planned: str = "the folder has no sweep file",
    first: Sequence[Section] = (),
    measure_latency: bool = False,
) -> Built:
    """Writes the report.

    Args:
      folder: a results folder, or its file of records.
      output: the HTML file.
      markdown_output: the Markdown file; None writes none.
      planned: runs of the sweep files; None if there are no such files.
      compare, baseline: as of `groups.make_groups`.
      title: heading; None names the sweeps.
      most_bytes: of the HTML file.
      not_planned: why `planned` is None.
      first: further sections, which stand before the others.
      measure_latency: whether to measure the latency of students (`measure.measure`) before.

    Returns:
      The files, and counts of what is in them.

    Raises:
      UserError: no records; axes or methods that are not there; files that cannot be written.
    """
    check_outputs(output, markdown_output)
    records = store.read(folder)
    if not records:
        raise UserError(f"{store.records_path(folder)} has no records: no run has ended yet")
    with Stage("reading predictions"):
        runs = read_runs(store.records_path(folder).parent, records)
    if runs:
        groups = make_groups(runs, compare, baseline, planned or ())
        comparisons = compare_all(groups)
        if measure_latency:
            measure(folder, groups)
    else:
        groups, comparisons = None, None
    heading = title or _title(records)
    latencies = read_latencies(folder, records)
    content = Content(heading, records, runs, planned, not_planned, groups, comparisons, latencies)
    with Stage("drawing plots"):
        sections = [*first, *make_sections(content)]
        text, shown = page.render(
            content.title,
            sections,
            lambda room: browser.make_predictions(groups, room) if groups is not None else None,
            most_bytes,
        )
    _write(output, text)
    if markdown_output:
        _write(markdown_output, markdown.render(content.title, sections))
    return {
        "output": output,
        "markdown": markdown_output,
        "bytes": len(text.encode()),
        "done": len(runs),
        "failed": len(content.failed),
        "missing": None if planned is None else len(content.missing),
        "comparisons": comparisons.number if comparisons else 0,
        "rows": shown.rows if shown else 0,
        "omitted_rows": shown.omitted if shown else 0,
        "runs_with_problems": sum(bool(run.problems) for run in runs),
        "latency_problems": list(latencies.problems),
    }


def write_figure(
    folder: epath.PathLike, path: epath.PathLike, planned: Sequence[Planned] | None = None
) -> None:
    """Writes the plots of accuracy of a results folder as one SVG file.

    Args:
      folder: a results folder, or its file of records.
      path: the file; it is replaced.
      planned: runs of the sweep files, which give the order of methods.

    Raises:
      UserError: matplotlib is not installed; no finished run.
    """
    records = store.read(folder)
    runs = read_runs(store.records_path(folder).parent, records)
    if not runs:
        raise UserError(f"{store.records_path(folder)} has no finished run to plot")
    found = charts.accuracy(make_groups(runs, planned=planned or ()))
    if not found.plots:
        raise UserError(f"{store.records_path(folder)} has no test accuracy to plot")
    described = "; ".join(plot.title for plot in found.plots)
    write_text(path, plots.draw_file(found.plots, described))


def _write(path: str, text: str) -> None:
    place = epath.Path(os.path.expanduser(path))
    place.parent.mkdir(parents=True, exist_ok=True)
    write_text(place, text)


def _title(records: Sequence[Record]) -> str:
    return f"Results of {', '.join(dict.fromkeys(record.sweep for record in records))}"
