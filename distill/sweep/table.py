"""Tables of a sweep: one that grows by a row as each run ends, and one of means over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from distill.common.progress import Say
from distill.common.table import render_columns
from distill.results.record import Record
from distill.results.table import cell
from distill.sweep.plan import Run

_MEASURED = {"accuracy": 8, "interval": 14, "seconds": 8}  # columns and their widths


class GrowingTable:
    """Prints a row as each run ends; all columns are known before, so rows stand in line."""

    def __init__(self, runs: Sequence[Run], say: Say) -> None:
        """Finds the widths.

        Args:
          runs: of the plan.
          say: takes the lines.
        """
        self._say, self._count, self._has_header = say, len(runs), False
        self._axes = list(runs[0].axes)
        texts = {name: [str(run.axes[name]) for run in runs] for name in self._axes}
        texts["seed"] = [str(run.seed) for run in runs]
        self._widths = {"run": 2 * len(str(self._count)) + 1}
        self._widths |= {name: max(map(len, (name, *values))) for name, values in texts.items()}
        self._widths |= _MEASURED

    def add(self, run: Run, record: Record, number: int) -> None:
        """Prints the row of a run.

        Args:
          run: that has ended.
          record: its record.
          number: of runs that have ended, this one included.
        """
        if not self._has_header:
            self._has_header = True
            self._say(self._line({name: name for name in self._widths}))
            self._say(self._line({name: "-" * width for name, width in self._widths.items()}))
        cells = {name: str(run.axes[name]) for name in self._axes}
        cells |= {"run": f"{number}/{self._count}", "seed": str(run.seed)}
        cells |= {name: cell(record, name) for name in _MEASURED}
        if not record.is_done:
            cells["accuracy"] = "failed"
        self._say(self._line(cells))
        if not record.is_done:
            self._say(f"  {record.error}")

    def _line(self, cells: dict[str, str]) -> str:
        right = ("run", "seed", "accuracy", "seconds")
        parts = [
            f"{cells[name]:>{width}}" if name in right else f"{cells[name]:<{width}}"
            for name, width in self._widths.items()
        ]
        return "  ".join(parts).rstrip()


def summary(runs: Sequence[Run], records: Sequence[Record]) -> str:
    """Mean accuracy and standard deviation over seeds, a row for each combination of axis values.

    Args:
      runs: of the plan.
      records: last record of each, in the same order.
    """
    groups: dict[tuple[str, ...], list[Record]] = {}
    for run, record in zip(runs, records, strict=True):
        groups.setdefault(tuple(map(str, run.axes.values())), []).append(record)
    header = [*runs[0].axes, "accuracy", "seeds", "steps", "parameters", "s per run"]
    rows = []
    for values, found in groups.items():
        done = [record for record in found if record.is_done]
        scored = [record.accuracy for record in done if record.accuracy is not None]
        mean = f"{statistics.fmean(scored):.3f}" if scored else ""
        spread = f" +- {statistics.stdev(scored):.3f}" if len(scored) > 1 else ""
        seeds = str(len(done)) if len(done) == len(found) else f"{len(done)} of {len(found)}"
        seconds = f"{statistics.fmean(r.seconds for r in done):.0f}" if done else ""
        first = found[0]
        parameters = next((r.parameters for r in done if r.parameters is not None), None)
        size = "" if parameters is None else f"{parameters:,}"
        rows.append((*values, mean + spread, seeds, f"{first.steps:,}", size, seconds))
    align = "<" * len(runs[0].axes) + "<>>>>"
    return render_columns(header, rows, align, rule=True)
