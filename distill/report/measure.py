"""Measures the latency of the students of a report, one after another."""

from __future__ import annotations

import datetime
import socket

import numpy as np
from etils import epath

from distill.common import machine
from distill.common.phrases import number_of
from distill.common.progress import Say, to_stderr
from distill.errors import UserError
from distill.report.groups import Groups
from distill.report.runs import Answers, Run, run_dir
from distill.results import latency
from distill.results.latency import Latency, machine_name
from distill.training import provenance

MOST_ROWS = 64  # that a student labels
LEAST_BUSY = 0.25  # cores of other processes from which on a measurement is doubted


def measure(folder: epath.PathLike, groups: Groups, say: Say = to_stderr) -> None:
    """Measures one student of each method and setting, and keeps the times in latency.jsonl.

    It is the first seed whose run folder can be loaded: seeds have the same network, and differ
    in the tokens that they write alone. What this machine has measured before is not repeated.

    Args:
      folder: the results folder.
      groups: its finished runs.
      say: takes a line for each student, and for each run that cannot be measured.

    Raises:
      UserError: no device; a file that cannot be written.
    """
    here = _this_machine()
    name = machine_name(here["device"], here["processor"], here["cores"], here["versions"])
    known, _ = latency.read(folder, lambda line: None)  # the report says what is wrong with it
    done = {each.run for each in known if each.machine == name}
    cells = [cell for cell in groups.cells if cell.mean is not None]
    left = [cell for cell in cells if not any(run.record.run in done for run in cell.runs)]
    before = f"; {len(cells) - len(left):,} measured before" if len(left) < len(cells) else ""
    say(f"measuring the latency of {number_of(len(left), 'student')} on {name}{before}")
    for number, cell in enumerate(left, start=1):
        for run in cell.runs:
            try:
                found = _measure(folder, run, here, f"({number:,} of {len(left):,})")
            except UserError as error:
                say(f"{run.record.run}: its latency is not measured: {error}")
                continue
            latency.append(folder, found)
            say(_line(found, f"{number:,} of {len(left):,}"))
            break


def is_busy(found: Latency) -> bool:
    """Whether other processes computed so much that the times are doubtful."""
    return found.other_cores is not None and found.other_cores >= LEAST_BUSY


def _line(found: Latency, place: str) -> str:
    text = (
        f"{found.run}: {found.median_ms:,.3g} ms a row ({found.p10_ms:,.3g} to "
        f"{found.p90_ms:,.3g}), {number_of(found.rows, 'row')}, {place}"
    )
    if is_busy(found):
        text += f"; warning: other processes used {found.other_cores:.1f} cores meanwhile"
    return text


def _this_machine() -> dict:
    """Fields of `Latency` that are the same for all students."""
    import jax

    from distill.common.devices import check_devices

    check_devices()
    return {
        "device": jax.local_devices()[0].device_kind,
        "processor": machine.processor(),
        "cores": machine.cores(),
        "host": socket.gethostname(),
        "versions": provenance.versions(),
    }


def _measure(folder: epath.PathLike, run: Run, here: dict, place: str) -> Latency:
    """The latency of a run.

    Raises:
      UserError: its run folder or its test rows cannot be used.
    """
    from distill.inference.latency import label_times_ms
    from distill.inference.load import load_run

    if run.answers is None:
        raise UserError("its test rows cannot be read; the report says why")
    student = run_dir(latency.latency_path(folder).parent, run.record)
    others = machine.OtherWork()
    rows = _test_rows(run.answers)
    times_N = label_times_ms(load_run(student), rows, f"timing {run.record.run} {place}")
    low, median, high = np.percentile(times_N, [10, 50, 90])
    busy = others.cores()
    return Latency(
        run=run.record.run,
        median_ms=round(float(median), 4),
        p10_ms=round(float(low), 4),
        p90_ms=round(float(high), 4),
        rows=len(times_N),
        other_cores=None if busy is None else round(busy, 2),
        measured=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        **here,
    )


def _test_rows(answers: Answers) -> list:
    """At most MOST_ROWS test rows, evenly from the whole test set."""
    from distill.data.examples import Example

    ids, inputs = answers.rows.ids, answers.rows.inputs
    count = min(MOST_ROWS, len(ids))
    places = np.linspace(0, len(ids) - 1, count).astype(int)
    return [Example(id=ids[place], input=inputs[place]) for place in places]
