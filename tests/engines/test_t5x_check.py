"""What the t5x engine refuses, and what it says, before T5X starts."""

from __future__ import annotations

import importlib.util
import pathlib
import re
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from test_t5x import cache_dir, run  # noqa: F401  (a fixture of this file too)

from distill.engines.t5x import train as engine
from distill.engines.t5x.check import check_t5x_run
from distill.errors import UserError


def test_without_t5x_the_message_says_how_to_install_it(monkeypatch, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "t5x" else found(name)
    )
    with pytest.raises(
        UserError,
        match=r"t5x.* cannot be imported.*requirements/t5x\.txt.*docs/t5x\.md.*--engine=native",
    ):
        engine.train(run(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_bucket_without_gcloud_is_refused_before_the_first_step(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "require_t5x", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"gs://bucket/run is in a bucket, and T5X .*gcloud is not"):
        engine.train(run(), "gs://bucket/run")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["CONTINUE_FROM=/nowhere/checkpoint_1"], "CONTINUE_FROM = .*which does not exist"),
        (["CONTINUE_FROM=1"], "CONTINUE_FROM = 1, expected a string"),
        (
            ["WEIGHTING=paired_batches", "NORMALIZATION=per_token_batch"],
            "'per_token_batch' with the t5x",
        ),
        (["PACK=yes"], "PACK = 'yes', expected True or False"),
        (["MODEL_PARALLEL_SUBMESH=2"], "MODEL_PARALLEL_SUBMESH = 2, expected None"),
        (["PARAMETER_PARTITIONING_DIMS=3"], "PARAMETER_PARTITIONING_DIMS = 3, expected 1 or 2"),
        (["LOSS_NORMALIZING_FACTOR=AVERAGE"], "unknown divisor 'AVERAGE'"),
        (["LOSS_NORMALIZING_FACTOR=0"], "expected more than 0"),
        (
            ["LOSS_NORMALIZING_FACTOR=AVERAGE_PER_SEQUENCE", "WEIGHTING=paired_batches"],
            "with WEIGHTING = 'paired_batches', which puts the task weights on the tokens",
        ),
        (
            ["LOSS_NORMALIZING_FACTOR=AVERAGE_PER_SEQUENCE", "METHOD=answer_first"],
            "with METHOD = 'answer_first', which puts the loss weights on the tokens of one",
        ),
        (
            ["LOSS_NORMALIZING_FACTOR=NUM_REAL_TARGET_TOKENS"],
            "with NORMALIZATION = 'per_sequence', whose mixture rates",
        ),
        (
            ["LOSS_NORMALIZING_FACTOR=AVERAGE_PER_SEQUENCE", "NORMALIZATION=per_token"],
            "with NORMALIZATION = 'per_token', whose mixture rates",
        ),
        (
            ["LOSS_NORMALIZING_FACTOR=AVERAGE_PER_SEQUENCE", "MICROBATCHES=2"],
            "adds them up, which is not the gradient of the batch",
        ),
        (["LOSS_NORMALIZING_FACTOR=NUM_TOTAL_TARGET_TOKENS"], "count padding in the divisor"),
    ],
)
def test_what_t5x_would_not_do_is_refused(overrides, message, monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "require_t5x", lambda: None)
    with pytest.raises(UserError, match=message):
        engine.train(run(*overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_host_of_several_is_told_t5xs_own_command(monkeypatch, tmp_path):
    monkeypatch.setattr(engine, "require_t5x", lambda: None)
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "a,b")
    monkeypatch.setenv("TPU_WORKER_ID", "1")
    with pytest.raises(
        UserError, match=r"one of 2 hosts.*python -m t5x\.train .*--gin\.MODEL_DIR="
    ):
        engine.train(run(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["WEIGHTING=paired_batches", "PACK=True", "MICROBATCHES=2"], None),
        (["LOSS_NORMALIZING_FACTOR=AVERAGE_PER_SEQUENCE"], "exactly the configured loss"),
        (["LOSS_NORMALIZING_FACTOR=AVERAGE_PER_SEQUENCE", "PACK=True"], r"\.2%"),
        (
            ["LOSS_NORMALIZING_FACTOR=NUM_REAL_TARGET_TOKENS", "NORMALIZATION=per_token"],
            "biases the gradient",
        ),
        (["LOSS_NORMALIZING_FACTOR=64"], "divided by 64, which scales it"),
    ],
)
def test_what_a_setting_means_is_said_in_one_line(overrides, said):
    resolved = run(*overrides)
    lines = check_t5x_run(resolved.run, resolved.macros)
    assert len(lines) == (said is not None)
    assert said is None or re.search(said, lines[0])
