"""`distill report`: a results folder as a page with tables, tests, plots and predictions."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from distill.commands import arguments
from distill.common.paths import check_path
from distill.common.phrases import number_of

if TYPE_CHECKING:
    from distill.report.build import Built

EPILOG = """\
  distill report runs/sweep --output=report.html --markdown=report.md

The page opens from a file and loads nothing. Plots need matplotlib: pip install
"distill-step-by-step[report]".
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command `report`."""
    text = "write the results of `distill sweep` as an HTML page: tables, tests, plots, predictions"
    command = arguments.add(commands, "report", text, configured=False)
    command.epilog = EPILOG
    command.add_argument("folder", help="the folder of distill sweep --out, or a records.jsonl")
    command.add_argument("--output", required=True, metavar="FILE", help="the HTML page to write")
    command.add_argument("--markdown", metavar="FILE", help="also write the tables as Markdown")
    command.add_argument(
        "--compare",
        default="method",
        metavar="AXIS",
        help="axis whose values are compared; method is the macro METHOD if no axis has that name",
    )
    command.add_argument(
        "--baseline",
        metavar="VALUE",
        help="value of that axis that the others are compared with; default: finetune, or the "
        "first one of the sweep",
    )
    command.add_argument(
        "--title",
        help="heading of the page; default: the title of the sweep file, or the names of several "
        "sweeps",
    )
    command.add_argument(
        "--measure_latency",
        action="store_true",
        help="first measure how long one student of each method and setting takes to decode a "
        "label; run it when nothing else runs on this machine. Later reports show the times",
    )
    command.set_defaults(run=run, show=show, output_files=("output", "markdown"))


def run(options: argparse.Namespace) -> Built:
    """Builds the report."""
    from distill.report.build import build, check_outputs
    from distill.sweep.planned import planned_runs, title_of

    check_path(options.folder, "folder")
    check_outputs(options.output, options.markdown)
    planned, reason = planned_runs(options.folder)
    return build(
        options.folder,
        options.output,
        options.markdown,
        planned,
        options.compare,
        options.baseline,
        options.title or title_of(options.folder),
        not_planned=reason,
        measure_latency=options.measure_latency,
    )


def show(built: Built) -> None:
    """Prints what was written."""
    missing = "" if built["missing"] is None else f", {built['missing']:,} missing"
    print(f"{number_of(built['done'], 'run')} finished, {built['failed']:,} failed{missing}")
    if count := built["runs_with_problems"]:
        print(f"files of {number_of(count, 'run')} cannot be used: see the start of the page")
    for problem in built["latency_problems"]:
        print(f"left out: {problem}")
    left_out = ""
    if built["omitted_rows"]:
        left_out = f"; {number_of(built['omitted_rows'], 'test row')} left out of the predictions"
    print(f"{built['output']}: {built['bytes'] / 1e6:.1f} MB{left_out}")
    if built["markdown"]:
        print(built["markdown"])
