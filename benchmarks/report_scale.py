"""The report of a large results folder: time to build it, its size, and time to open it.

  python benchmarks/report_scale.py --runs 200 --rows 1000

The runs are invented: 5 methods with 10 settings and 4 seeds, which answer the same test rows.
Opening is timed in headless Chromium, if there is one: from the start of the navigation to the
`load` event and the first list of predictions.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from distill.common.accuracy import wilson_interval
from distill.common.atomic import write_json, write_json_lines
from distill.results import store
from distill.results.record import Record
from distill.training.run_folder import METRICS, PREDICTIONS

METHODS = ("finetune", "distill_labels", "step_by_step", "single_task", "answer_first")
LABELS = ("replace", "repair", "refund", "refuse")
_STUDENT = {  # student.json of a run with open answers
    "format": 1,
    "vocabulary": {"kind": "bytes"},
    "labels": [],
    "eos_mark": "",
}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run")
FLAGS += ("--disable-background-networking", "--disable-component-update", "--disable-sync")


def find_chromium() -> str | None:
    """The program, if it is installed."""
    return next((path for name in CHROMIUM if (path := shutil.which(name))), None)


def record(run: str, **changes: Any) -> Record:
    """An invented record."""
    fields: dict[str, Any] = {
        "run": run,
        "sweep": "invented",
        "status": "done",
        "attempt": 1,
        "axes": {},
        "seed": 1,
        "gin_files": ("gin/experiments/tickets_finetune.gin",),
        "overrides": (),
        "config_digest": "0" * 64,
        "method": "finetune",
        "dataset": "tickets",
        "labels": 500,
        "train_rows": 450,
        "label_weight": 0.5,
        "steps": 1000,
        "batch_size": 32,
        "parameters": 132_160,
        "seconds": 60.0,
        "started": "2026-01-01T00:00:00+00:00",
        "ended": "2026-01-01T00:01:00+00:00",
        "host": "h",
        "versions": {"distill": "0"},
        "folder": f"runs/{run}",
    }
    return Record(**{**fields, **changes})


def write_run(
    folder: Path,
    name: str,
    correct: Sequence[bool],
    texts: Sequence[str] = (),
    probabilities: Sequence[float] = (),
    extra: dict[str, object] | None = None,
    golds: Sequence[str] = (),
    teacher: Sequence[str | None] = (),
    rule: str = "exact_match",
    **changes: Any,
) -> Record:
    """Writes an invented run and its record.

    Args:
      folder: the results folder.
      name: of the run.
      correct: whether each of its N test rows is answered correctly.
      texts: inputs of the rows; () for invented ones.
      probabilities: of the answers; () for a run without.
      extra: further fields of each row.
      golds: labels of the rows; () for invented ones.
      teacher: its label of each row, None for a row without; () for none.
      rule: how answers are compared with gold labels.
      changes: fields of the record.

    Returns:
      The record.
    """
    rows = []
    for place, right in enumerate(correct):
        gold, other = LABELS[place % 4], LABELS[(place + 1) % 4]
        gold = golds[place] if golds else gold
        label = gold if right else other
        text = (
            texts[place] if texts else f"my fan number {place} seems burnt . i bought it in may ."
        )
        row = {"id": f"returns/test/{place}", "input": text, "gold": gold, "prediction": label}
        row |= {"correct": bool(right), "ranked_label": label, **(extra or {})}
        if len(probabilities):
            row["probability"] = float(probabilities[place])
        if teacher and teacher[place] is not None:
            row["teacher_label"] = teacher[place]
        rows.append(row)
    run = folder / "runs" / name
    run.mkdir(parents=True)
    write_json_lines(run / PREDICTIONS, rows)
    write_json(run / "student.json", {**_STUDENT, "answer_rule": rule})
    lines: list[dict[str, object]] = [
        {"step": step, "loss": 3.0 / (1 + step / 100), "grad_norm": 1.0}
        for step in range(50, 1001, 50)
    ]
    lines += [{"step": step, "validation_accuracy": step / 1250} for step in range(250, 1001, 250)]
    write_json_lines(run / METRICS, lines)
    hits = int(np.sum(correct))
    found = record(
        name,
        **{
            "accuracy": hits / len(rows),
            "interval": wilson_interval(hits, len(rows)),
            "n_test": len(rows),
            "checkpoint_step": 1000,
            **changes,
        },
    )
    store.append(folder, found)
    return found


def write_results(folder: Path, runs: int, rows: int) -> None:
    """Writes an invented results folder.

    Args:
      folder: to write.
      runs: their number, a multiple of 20.
      rows: test rows of each.
    """
    rng = np.random.default_rng(0)
    hard = rng.normal(size=rows)
    seeds, settings = 4, runs // (4 * len(METHODS))
    for setting in range(settings):
        labels = 125 * (setting + 1)
        for method, name in enumerate(METHODS):
            for seed in range(seeds):
                scores = hard + rng.normal(0, 1, rows) + rng.normal(0, 0.1)
                scores += 0.1 * setting + 0.2 * method
                write_run(
                    folder,
                    f"{name}-{labels}-seed{seed}",
                    scores > 0,
                    probabilities=1 / (1 + np.exp(-np.abs(scores))),
                    axes={"method": name, "labels": labels},
                    method=name,
                    labels=labels,
                    seed=seed,
                    train_flops=1e12 * (1 + setting) * (1 + method),
                    teacher_accuracy=0.865,
                )


def open_page(program: str, page: Path, folder: Path) -> dict[str, float]:
    """Milliseconds until the page has loaded, and until its first list is there.

    Args:
      program: Chromium.
      page: the HTML file.
      folder: for the profile of the browser and a copy of the page that reports its times.
    """
    probe = (
        "<script>addEventListener('load',()=>setTimeout(()=>{const [n]=performance."
        "getEntriesByType('navigation');document.title=JSON.stringify({load:n.loadEventEnd,"
        "rows:document.querySelectorAll('#rows > li').length})},0))</script>"
    )
    # The policy of the page allows its own script alone.
    text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text(), count=1)
    copy = folder / "timed.html"
    copy.write_text(text.replace("</body>", f"{probe}</body>"))
    command = [program, *FLAGS, f"--user-data-dir={folder / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [*command, "--virtual-time-budget=20000", copy.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r"<title>(\{.*?\})</title>", done.stdout)
    if found is None:
        raise SystemExit(f"the page did not load: {done.stderr[-2000:]}")
    return json.loads(found[1])


def main() -> None:
    """Prints the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="a multiple of 20")
    parser.add_argument("--rows", type=int, default=1000, help="test rows of each run")
    parser.add_argument("--keep", type=Path, help="a new folder that keeps the page")
    options = parser.parse_args()
    from distill.report.build import build

    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch) / "results"
        write_results(folder, options.runs, options.rows)
        page, began = folder / "report.html", time.monotonic()
        built = build(folder, str(page), str(folder / "report.md"))
        print(
            f"{options.runs:,} runs with {options.rows:,} predictions: built in "
            f"{time.monotonic() - began:.1f} s, {built['bytes'] / 1e6:.1f} MB, "
            f"{built['omitted_rows']:,} rows left out"
        )
        program = find_chromium()
        if program is None:
            print("Chromium is not installed: the page was not opened")
            return
        found = open_page(program, page, Path(scratch))
        print(f"opened in {found['load'] / 1000:.2f} s, with {found['rows']:.0f} rows shown")


if __name__ == "__main__":
    main()
