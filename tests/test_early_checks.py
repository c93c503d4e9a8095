"""Bad rows and a small VOCAB_SIZE are refused before jax and TensorFlow are imported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CHECK = """
import json, sys
from distill import cli
for argv in json.loads(sys.argv[1]):
    assert cli.main(argv) == 2, argv
    heavy = {"jax", "orbax", "tensorflow", "seqio", "tensorflow_datasets"} & set(sys.modules)
    assert not heavy, (argv[0], heavy)
"""
LINES = ['{"input": "a", "label": "yes", "teacher_label": "yes", "rationale": "r"}'] * 8


@pytest.fixture
def rows(tmp_path):
    (tmp_path / "good.jsonl").write_text("\n".join(LINES))
    (tmp_path / "bad.jsonl").write_text("\n".join([*LINES, '{"input": 5}']))
    (tmp_path / "twice.jsonl").write_text("\n".join([*LINES, '{"input": "a", "input": "b"}']))
    (tmp_path / "bad.csv").write_text("input,label\na,yes\nb\n")
    return tmp_path


def _configured(command, rows, name, *more):
    settings = (f"TRAIN_FILE={rows}/{name}", f"TEST_FILE={rows}/good.jsonl", "LABELS=('yes','no')")
    return [
        *(command, "--gin_file=jsonl_step_by_step"),
        *(f"--gin.{setting}" for setting in settings),
        *more,
    ]


def test_nothing_heavy_is_imported_first(rows, run_dir, tmp_path):
    commands = [
        _configured("train", rows, "bad.jsonl", f"--run_dir={tmp_path / 'run'}"),
        _configured("train", rows, "bad.csv", f"--run_dir={tmp_path / 'run'}"),
        _configured("train", rows, "twice.jsonl", f"--run_dir={tmp_path / 'run'}"),
        _configured("loss-weights", rows, "bad.jsonl"),
        ["evaluate", f"--run_dir={run_dir}", f"--input={rows}/bad.jsonl"],
        ["evaluate", f"--run_dir={run_dir}", f"--input={rows}/bad.csv"],
        ["predict", f"--run_dir={run_dir}", f"--input={rows}/bad.csv"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", CHECK, json.dumps(commands)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("distill: ")]
    names = ["bad.jsonl", "bad.csv", "twice.jsonl", "bad.jsonl", "bad.jsonl", "bad.csv", "bad.csv"]
    places = [f"{name}:{3 if name == 'bad.csv' else 9}" for name in names]
    assert len(told) == len(commands)
    assert all(f"{rows}/{place}: " in line for place, line in zip(places, told, strict=True))
    assert not (tmp_path / "run").exists()


SWEEP = """
seeds = [1]
gin_files = ["tickets_step_by_step"]
macros = {VOCAB_SIZE = 20}
[axes.rate]
macro = "LEARNING_RATE"
values = [0.1, 0.2]
"""


def test_so_is_a_vocab_size_that_is_too_small(rows, tmp_path):
    (tmp_path / "sweep.toml").write_text(SWEEP)
    tickets = ["--gin_file=tickets_step_by_step", "--gin.VOCAB_SIZE=20"]
    own = ["--gin.VOCABULARY='bytes'", "--gin.VOCAB_SIZE=258"]
    commands = [
        ["train", *tickets, f"--run_dir={tmp_path / 'run'}"],
        ["loss-weights", *tickets],
        ["preflight", *tickets, "--topology=v5e:2x2", "--estimate"],
        ["sweep", f"{tmp_path}/sweep.toml", f"--out={tmp_path / 'sweep'}"],
        _configured("train", rows, "good.jsonl", *own, f"--run_dir={tmp_path / 'run'}"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", CHECK, json.dumps(commands)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("distill: ")]
    assert len(told) == len(commands)
    assert all("set VOCAB_SIZE = 216" in line for line in told[:4])
    assert "has 259 ids: set VOCAB_SIZE = 264" in told[4]
    assert not (tmp_path / "run").exists()
