"""Runs that start from the tiny Hugging Face folder of tests/golden/make_hf_loss.py."""

from __future__ import annotations

import json
import pathlib

from distill.config.resolve import Resolved, resolve
from distill.convert.sizes import adopt_for
from distill.engines import native

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "hf_loss"
LOSS = json.loads((GOLDEN / "loss.json").read_text())
SETTINGS = (
    f"TRAIN_FILE={GOLDEN / 'rows.jsonl'}",
    f"TEST_FILE={GOLDEN / 'rows.jsonl'}",
    *("NUM_LABELS=0", "VALIDATION_FRACTION=0.0", "NORMALIZATION=per_sequence"),
    *("BATCH_SIZE=6", "DROPOUT_RATE=0.0", "LEARNING_RATE=0.01", "SCHEDULE=constant"),
    *("TRAIN_STEPS=4", "SAVE_PERIOD=2", "LOG_PERIOD=1", "EVAL_PERIOD=0"),
    *("INPUT_LENGTH=64", "TARGET_LENGTH=32"),
)


def configure(folder, run_dir, *overrides: str, engine: str = "native") -> Resolved:
    """A run that starts from `folder`."""
    settings = (*SETTINGS, f"INIT_FROM={folder}", *overrides)
    return resolve(["jsonl_pretrained"], settings, engine, adopt_for(run_dir))


def train(folder, run_dir, *overrides: str, say=lambda line: None) -> list[dict]:
    """Trains natively, or resumes; the lines of metrics.jsonl."""
    native.train(configure(folder, run_dir, *overrides), run_dir, say)
    return metrics(run_dir)


def metrics(run_dir) -> list[dict]:
    lines = (pathlib.Path(run_dir) / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]
