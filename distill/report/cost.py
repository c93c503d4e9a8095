"""The section on accuracy and cost: training FLOPs, and latency where it was measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from etils import epath

from distill.common.phrases import number_of, shortened
from distill.report import charts
from distill.report.blocks import Block, Entry, Figures, Items, Section, Table, Text
from distill.report.groups import Cell, Groups, show
from distill.report.measure import is_busy
from distill.results import latency
from distill.results.latency import LATENCY, Latency
from distill.results.record import Record

_LONGEST = 2000  # characters of a message
_POINTS = "Each point is a method in a setting, as the mean over its seeds."
_MEASURED = (
    "Latency is the time in which a student decodes the label of one test row by itself. It "
    "includes tokenizing, but neither compiling nor the probabilities of a closed set of labels. "
    "One seed of each method and setting is measured."
)
_LATENCIES = "the tables have the latencies; "
_FLOPS = "no table has the FLOPs, which are train_flops in records.jsonl"
_FIRST = "Students of single_task decode the rationale before the label."
_HOW = (
    "Latency is not measured: distill report FOLDER --output=FILE --measure_latency measures it; "
    "run it while nothing else runs on the machine."
)


@dataclasses.dataclass(frozen=True)
class Latencies:
    """Measurements of a results folder.

    Attributes:
      by_machine: the last measurement of each run, by machine.
      problems: lines of the file that cannot be used, and why.
    """

    by_machine: Mapping[str, Mapping[str, Latency]]
    problems: Sequence[str] = ()


def read_latencies(folder: epath.PathLike, records: Sequence[Record]) -> Latencies:
    """The measurements of a results folder.

    Args:
      folder: the results folder, or its file of records.
      records: the last record of each run; measurements of other runs are problems.

    Raises:
      UserError: the file cannot be read.
    """
    found, problems = latency.read(folder)
    runs = {record.run for record in records}
    by_machine: dict[str, dict[str, Latency]] = {}
    for each in found:
        if each.run in runs:
            by_machine.setdefault(each.machine, {})[each.run] = each
    unknown = dict.fromkeys(each.run for each in found if each.run not in runs)
    problems += [f"{LATENCY}: the run {run!r} has no record" for run in unknown]
    return Latencies(by_machine, problems)


def section(groups: Groups, latencies: Latencies) -> Section:
    """Plots of accuracy against FLOPs and latency, and a table of the latency."""
    flops = charts.costs(groups)
    machines = [
        (machine, by_run)
        for machine, by_run in latencies.by_machine.items()
        if any(_measured(cell, by_run) for cell in groups.cells if cell.mean is not None)
    ]
    found = [*flops.plots, *(_plot(groups, *each, len(machines) > 1) for each in machines)]
    blocks: list[Block] = []
    if found:
        blocks.append(Text(f"{_POINTS} {_measured_how(groups)}" if machines else _POINTS))
        left_out = max(0, len(found) - charts.MOST)
        numbers = f"{_LATENCIES if machines else ''}{_FLOPS}"
        blocks.append(Figures(found[: charts.MOST], left_out, "cost", numbers))
    blocks += [_table(groups, *each) for each in machines]
    if warnings := _warnings(machines):
        blocks.append(Items(warnings, "warning"))
    if problems := latencies.problems:
        blocks.append(Text(f"Lines of {LATENCY} that cannot be used:", "warning"))
        blocks.append(Items([shortened(text, _LONGEST) for text in problems], "warning"))
    if not machines and any(cell.mean is not None for cell in groups.cells):
        blocks.append(Text(_HOW, "note"))
    return Section("cost", "Accuracy and cost", blocks)


def _measured_how(groups: Groups) -> str:
    methods = {run.record.method for cell in groups.cells for run in cell.runs}
    return f"{_MEASURED} {_FIRST}" if "single_task" in methods else _MEASURED


def _measured(cell: Cell, by_run: Mapping[str, Latency]) -> Latency | None:
    """The measurement of the first seed that has one."""
    found = (by_run.get(run.record.run) for run in cell.runs)
    return next((each for each in found if each is not None), None)


def _plot(
    groups: Groups, machine: str, by_run: Mapping[str, Latency], several: bool
) -> charts.Plot:
    def median(cell: Cell) -> float | None:
        found = _measured(cell, by_run)
        return found.median_ms if found else None

    title = f"Accuracy by latency: {machine}" if several else "Accuracy by latency"
    plot = charts.against(groups, title, "milliseconds to decode a label", median)
    assert plot is not None  # a cell with an accuracy is measured
    return plot


def _table(groups: Groups, machine: str, by_run: Mapping[str, Latency]) -> Table:
    rows: list[list[str | Entry]] = []
    for cell in groups.cells:
        if cell.mean is None:
            continue
        row: list[str | Entry] = [*([show(value) for value in cell.setting] or ["all runs"])]
        row += [cell.method, f"{cell.mean.mean:.3f}"]
        if (found := _measured(cell, by_run)) is None:
            rows.append([*row, "not measured", "", "", "", ""])
            continue
        times = (found.median_ms, found.p10_ms, found.p90_ms)
        rows.append([*row, *map(_milliseconds, times), f"{found.rows:,}", found.run])
    header = [*(groups.axes or ["runs"]), groups.compared, "test accuracy", "median ms"]
    header += ["10th percentile", "90th percentile", "test rows", "run"]
    headings = max(1, len(groups.axes)) + 1
    caption = f"Milliseconds to decode the label of a row, on {machine}"
    return Table(caption, header, rows, headings, folded=len(rows) > 30)


def _milliseconds(value: float) -> str:
    """Three digits, as a plain number."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _warnings(machines: Sequence[tuple[str, Mapping[str, Latency]]]) -> list[str]:
    lines = []
    for machine, by_run in machines:
        busy = [each for each in by_run.values() if is_busy(each)]
        if busy:
            most = max(each.other_cores or 0.0 for each in busy)
            lines.append(
                f"{machine}: other processes used up to {most:.1f} cores while "
                f"{number_of(len(busy), 'student')} of {len(by_run):,} were measured: these times "
                f"may be too long, and their order wrong. Delete {LATENCY} and measure again."
            )
        if any(each.other_cores is None for each in by_run.values()):
            lines.append(f"{machine}: it is not known whether other processes were running.")
    return lines
