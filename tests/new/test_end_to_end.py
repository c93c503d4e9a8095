"""A file of rows becomes a trained student with five commands and no edit."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from distill import cli
from distill.teacher.rehearsal import RATIONALE

TINY = (
    *("EMBED_DIM=16", "MLP_DIM=16", "NUM_HEADS=2", "HEAD_DIM=8", "NUM_ENCODER_LAYERS=1"),
    *("NUM_DECODER_LAYERS=1", "TRAIN_STEPS=2", "BATCH_SIZE=4", "LOG_PERIOD=2", "NUM_LABELS=20"),
    *("EVAL_BATCH_SIZE=16", "TARGET_LENGTH=64", "WARMUP_STEPS=1"),
    *("EVAL_PERIOD=0", "SAVE_PERIOD=2", "LAYOUT=packed"),
)
TARGETS = ("check", "annotate", "train", "evaluate", "predict")


@pytest.mark.slow
def test_the_five_commands_run_on_questions(files, new, commands, capsys):
    """Within this process, with two steps of training."""
    _, folder = new(files / "questions.parquet")
    flags = " ".join(f"--gin.{text}" for text in TINY)
    said = {}
    for target in TARGETS:
        for arguments in commands(folder, target, f"TRAIN_FLAGS={flags}"):
            assert cli.main(arguments) == 0, capsys.readouterr().err
        said[target] = capsys.readouterr().out
    rows = [json.loads(line) for line in (folder / "rehearsal.jsonl").read_text().splitlines()]
    assert rows and all(row["rationale"] == RATIONALE for row in rows)
    assert all(row["teacher_label"] == row["label"] for row in rows)
    answers = (folder / "runs/rehearsal-predictions.jsonl").read_text().splitlines()
    test = (folder / "test.jsonl").read_text().splitlines()
    assert len(answers) == len(test) and f"n {len(test)}" in said["evaluate"]
    assert (folder / "check.html").is_file()


def make(folder: pathlib.Path, *arguments: str) -> str:
    """Output of `make` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).resolve().parents[2])}
    command = ["make", *arguments, f"DISTILL={sys.executable} -m distill.cli"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("tickets.csv", {"label_names": "billing,shipping,repair"}),
        ("reviews.jsonl", {}),
        ("questions.parquet", {}),
    ],
)
def test_make_trains_a_student_of_each_file(files, new, name, flags):
    """With the settings of the folder: the student has learned the rehearsed rationale."""
    created, folder = new(files / name, **flags)
    shutil.copy(files / name, folder.parent)
    make(folder, *created["commands"])
    make(folder, "predict", f"INPUT=../{name}")
    path = folder / f"runs/rehearsal-predictions-{pathlib.Path(name).stem}.jsonl"
    answers = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(answers) == sum(created["rows"].values())
    metrics = (folder / "runs/rehearsal/metrics.jsonl").read_text().splitlines()
    losses = [row["loss"] for row in map(json.loads, metrics) if "loss" in row]
    # A student that only knew how often each of 264 bytes occurs would not come so far.
    assert losses[-1] < 0.2 * losses[0]
