"""The command line: a fast start; what it writes and refuses (see also test_bad_input.py)."""

import dataclasses
import json
import resource
import subprocess
import sys

import tasks  # registers the datasets  # noqa: F401
from distill import cli
from distill.data import datasets

TICKETS = "--gin_file=tickets_step_by_step"


def test_help_and_import_load_no_framework():
    code = (
        "import sys, distill, distill.cli\n"
        "heavy = {'jax', 'tensorflow', 'flax', 'seqio', 'orbax'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    began = _children_seconds()
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    middle = _children_seconds()
    done = subprocess.run([sys.executable, "-m", "distill.cli", "--help"], capture_output=True)
    assert done.returncode == 0 and b"step-by-step" in done.stdout
    assert middle - began < 1 and _children_seconds() - middle < 1


def _children_seconds() -> float:
    """Processor seconds of finished child processes: other work on the machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_words_that_do_not_cover_the_data(tmp_path, capsys, monkeypatch):
    known = datasets.get("tickets")
    smaller = dataclasses.replace(
        known, words=lambda spec: [w for w in known.words(spec) if w != "refuse"]
    )
    monkeypatch.setitem(datasets._DATASETS, "tickets", smaller)
    argv = [
        "train",
        TICKETS,
        "--gin.NUM_ROWS=100",
        "--gin.NUM_LABELS=100",
        f"--run_dir={tmp_path}/r",
    ]
    assert cli.main(argv) == 2
    assert "does not cover 'refuse' in label" in capsys.readouterr().err


def test_annotate_writes_what_training_reads(tmp_path, capsys):
    """The tickets of a JSONL file are those of a run with the same seed and settings."""
    from distill.config import resolve
    from distill.data import datasets
    from distill.data.examples import read_jsonl

    path = tmp_path / "tickets.jsonl"
    argv = [
        "annotate",
        "--policy=hard",
        "--rows=50",
        "--teacher_accuracy=.8",
        "--seed=4",
        f"--output={path}",
        "--json",
    ]
    assert cli.main(argv) == 0
    said = json.loads(capsys.readouterr().out)
    overrides = ("POLICY=hard", "NUM_ROWS=50", "NUM_LABELS=50", "TEACHER_ACCURACY=.8", "SEED=4")
    run = resolve.resolve(["tickets_noisy_step_by_step"], overrides).run
    rows, _ = datasets.get("tickets").load(run.data)
    assert read_jsonl(path, "train") == rows
    assert said["rows"] == 50 and 0.5 < said["teacher_accuracy"] < 1
