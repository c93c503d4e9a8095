"""The demonstration: does distilling step-by-step beat fine-tuning on `tickets`?

  distill sweep gin/sweeps/demo.toml --out=DIR
  python -m distill.sweep.demo DIR

Reads the records of gin/sweeps/smoke.toml, demo.toml or demo_full.toml and prints a table, what it
says, and a student's answer to a ticket; report.html and figure.svg in DIR show the same.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from distill.common.progress import PERIOD, Stage, to_stderr
from distill.errors import UserError
from distill.results import store
from distill.results.record import Record
from distill.sweep import charts, report
from distill.sweep.findings import findings
from distill.sweep.results import Group, group, results_table

TICKET = "my fan seems burnt . i bought it in march ."
NOISY = ", noisy teacher"
_METHODS = tuple(charts.COLORS)  # in the order of the table
_POLICIES = ("natural", "hard")


def name_of(record: Record) -> str:
    """What the table calls the students of a record: the method, and whether the teacher errs.

    Raises:
      UserError: a record of another sweep.
    """
    if "method" not in record.axes:
        raise UserError(
            f"the record of {record.run} has no axis `method`: expected the results of "
            "gin/sweeps/smoke.toml, demo.toml or demo_full.toml"
        )
    noisy = record.axes.get("teacher") == "noisy"
    return f"{record.axes['method']}{NOISY if noisy else ''}"


def policy_of(record: Record, out: Path) -> str:
    """The returns policy of the tickets of a run."""
    from distill.training.run_folder import read_config

    return str(read_config(out / record.folder).data.option("policy"))


def read_groups(out: Path) -> list[tuple[Group, list[Record]]]:
    """The rows of the table, each with its records by seed.

    Args:
      out: the results folder.

    Raises:
      UserError: no records; a run that failed.
    """
    found: dict[tuple[str, str, int], list[Record]] = {}
    for record in store.read(out):
        if not record.is_done:
            raise UserError(f"{record.run} failed: {record.error}; run the sweep again")
        key = policy_of(record, out), name_of(record), int(record.labels or 0)
        found.setdefault(key, []).append(record)

    def rank(key: tuple[str, str, int]) -> tuple[bool, int, int, int]:
        policy, name, labels = key
        method = name.removesuffix(NOISY)
        place = _METHODS.index(method) if method in _METHODS else len(_METHODS)
        if name.endswith(NOISY):
            place = ("distill_labels", "step_by_step").index(method)
        return name.endswith(NOISY), _POLICIES.index(policy), labels, place

    rows = []
    for key in sorted(found, key=rank):
        records = sorted(found[key], key=lambda record: record.seed)
        rows.append((group(key[1], key[0], records), records))
    return rows


def teacher_accuracy(rows: Sequence[tuple[Group, list[Record]]]) -> float | None:
    """Mean accuracy of the noisy teacher over the seeds; None where no student learns from it."""
    for row, records in rows:
        if row.name == f"step_by_step{NOISY}":
            known = [r.teacher_accuracy for r in records if r.teacher_accuracy is not None]
            return sum(known) / len(known) if known else None
    return None


def answer_ticket(row: Group, run_dir: Path) -> report.Worked:
    """The student's rationale and answer for TICKET.

    Args:
      row: of the table, whose policy gives the right answer.
      run_dir: the student's run folder.
    """
    from distill.data.examples import Example
    from distill.inference.predictor import Predictor
    from distill.tickets import generator

    (answer,) = Predictor(run_dir, rationale=True)([Example(id="ticket", input=TICKET)])
    return report.Worked(
        TICKET,
        f"{row.name} trained on {row.labels:,} labels",
        str(answer.rationale),
        answer.prediction,
        generator.policy(row.policy)[generator.parse_ticket(TICKET)],
    )


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
    rows = read_groups(out)
    groups = [row for row, _ in rows]
    teacher = teacher_accuracy(rows)
    student, records = next((r for r in reversed(rows) if r[0].name == "step_by_step"), rows[-1])
    student_dir = out / records[0].folder

    from distill.inference import load

    with Stage("timing the student's answers"):
        latency_ms = load.label_latency_ms(student_dir, TICKET)
    sentences = findings(groups, teacher, latency_ms)
    worked = answer_ticket(student, student_dir)
    page = report.page("Distilling step-by-step on tickets", groups, sentences, worked, teacher)
    (out / "report.html").write_text(page)
    (out / "figure.svg").write_text(charts.figure(charts.make_charts(groups, teacher)))
    print(f"\n{results_table(groups)}\n")
    print("\n".join(sentences))
    print(f"\nResults: {out / store.RECORDS}   Report: {out / 'report.html'}")
    print(f'\n$ distill predict --run_dir={student_dir} "{TICKET}"', flush=True)
    command = [sys.executable, "-m", "distill.cli", "predict", f"--run_dir={student_dir}", TICKET]
    return subprocess.run(command).returncode


if __name__ == "__main__":
    sys.exit(main())
