"""The demonstration: does distilling step-by-step beat fine-tuning on `tickets`?

  distill sweep gin/sweeps/demo.toml --out=DIR
  python -m distill.sweep.demo DIR

Reads the records of gin/sweeps/smoke.toml, demo.toml or demo_full.toml and prints what they say
and a student's answer to a ticket. DIR/report.html is their `distill report` with both;
DIR/figure.svg has its curves.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill.common.progress import PERIOD, Stage, to_stderr
from distill.errors import UserError
from distill.report.blocks import Section, Table, Text
from distill.report.build import build, write_figure
from distill.report.groups import Cell, Groups, Planned, make_groups
from distill.report.runs import read_runs
from distill.results import store
from distill.sweep.findings import STEP_BY_STEP, findings, has_noisy_teacher
from distill.sweep.planned import planned_runs

if TYPE_CHECKING:
    from distill.inference.evaluator import Prediction

TICKET = "my fan seems burnt . i bought it in march ."


def read_groups(out: Path, planned: Sequence[Planned] | None = None) -> Groups:
    """The runs of a sweep of the demo, by method and setting.

    Args:
      out: the results folder.
      planned: the runs of its sweep file.

    Raises:
      UserError: no records; a run that failed; the records of another sweep.
    """
    records = store.read(out)
    if not records:
        raise UserError(f"{store.records_path(out)} has no records: no run has ended yet")
    for record in records:
        if not record.is_done:
            raise UserError(f"{record.run} failed: {record.error}; run the sweep again")
        if "method" not in record.axes:
            raise UserError(
                f"the record of {record.run} has no axis `method`: expected the results of "
                "gin/sweeps/smoke.toml, demo.toml or demo_full.toml"
            )
    return make_groups(read_runs(out, records), planned=planned or ())


def shown_student(groups: Groups) -> Cell:
    """The students that answer the ticket: of step_by_step and a teacher without errors."""
    clean = [cell for cell in groups.cells if not has_noisy_teacher(cell)]
    ours = [cell for cell in clean if cell.method == STEP_BY_STEP]
    return (ours or clean or list(groups.cells))[-1]


def ticket_section(student: str, answer: Prediction, gold: str) -> Section:
    """The student's rationale and answer for TICKET.

    Args:
      student: what the page calls it.
      answer: with its rationale, if the student writes any.
      gold: the right answer.
    """
    verdict = "correct" if answer.prediction == gold else f"wrong: the gold label is {gold}"
    rows = [
        ["a new ticket", TICKET],
        ["[label] the answer; prediction decodes only this", f"{answer.prediction} ({verdict})"],
    ]
    if answer.rationale is not None:
        name = "[rationale] the reason, which the student was also trained to write"
        rows.insert(1, [name, answer.rationale])
    table = Table(f"Answered by {student}", ["what", "text"], rows)
    return Section("ticket", "One ticket", [table])


def main(argv: Sequence[str] | None = None) -> int:
    """Shows the results; returns the exit code."""
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="the results folder of the sweep")
    options = parser.parse_args(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with Stage("showing the demonstration", delay=PERIOD):
            return _show(options.out)
    except UserError as error:
        to_stderr(f"distill: {error}")
        return 2
    except KeyboardInterrupt:
        return 130


def _show(out: Path) -> int:
    from distill.data.examples import Example
    from distill.inference.latency import label_latency_ms
    from distill.inference.predictor import Predictor
    from distill.tickets import generator
    from distill.training.run_folder import read_config

    planned, reason = planned_runs(out)
    groups = read_groups(out, planned)
    student = shown_student(groups)
    run_dir = out / student.runs[0].record.folder
    data = read_config(run_dir).data
    with Stage("timing the student's answers"):
        latency_ms = label_latency_ms(run_dir, TICKET)
    predictor = Predictor(run_dir, rationale="rationale" in data.tasks)
    (answer,) = predictor([Example(id="ticket", input=TICKET)])
    gold = generator.policy(str(data.option("policy")))[generator.parse_ticket(TICKET)]
    sentences = findings(groups, latency_ms)
    name = f"{student.method}, {data.num_labels:,} labels"
    first = [
        ticket_section(name, answer, gold),
        Section("findings", "Findings", [Text(sentence) for sentence in sentences]),
    ]
    page, title = out / "report.html", "Distilling step-by-step on tickets"
    build(out, str(page), None, planned, title=title, not_planned=reason, first=first)
    write_figure(out, out / "figure.svg", planned)
    print("\n".join(["", *sentences]))
    print(f"\nResults: {out / store.RECORDS}   Report: {page}")
    print(f'\n$ distill predict --run_dir={run_dir} "{TICKET}"', flush=True)
    command = [sys.executable, "-m", "distill.cli", "predict", f"--run_dir={run_dir}", TICKET]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
