"""Test rows of one's own files: held out with TEST_FRACTION, refused, or not needed."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tasks  # registers the datasets  # noqa: F401
from distill.config.data import DataSpec
from distill.data import cache as caches
from distill.data import datasets
from distill.data.budget import hold_out
from distill.data.examples import Example
from distill.errors import UserError


def spec_of(tmp_path, rows, options=None, **settings):
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"train_file": str(path), **(options or {})}
    settings = {"method": "step_by_step", "vocabulary": "bytes", "num_labels": 0} | settings
    return DataSpec("jsonl", dataset_options=options, **settings)


def test_held_out_rows_are_a_function_of_their_input(tmp_path):
    rows = [Example(id=str(i), input=f"row {i % 100}", label="a") for i in range(200)]
    train, test = hold_out(rows, 0.2, 0)
    assert not {row.input for row in train} & {row.input for row in test}
    assert len(train) + len(test) == 200 and 20 <= len(test) <= 60
    again = hold_out(rows[::-1], 0.2, 0)[1]
    assert {row.id for row in again} == {row.id for row in test}
    assert {row.id for row in hold_out(rows, 0.2, 1)[1]} != {row.id for row in test}
    options = {"test_fraction": 0.2}
    spec = spec_of(tmp_path, [row.to_dict() for row in rows], options=options, data_seed=3)
    splits = datasets.load_splits(spec)
    assert [row.id for row in splits.test] == [row.id for row in test]


@pytest.mark.parametrize(
    ("options", "source", "message"),
    [
        ({}, "gold", r"TEST_FILE is not set.*--gin.TEST_FRACTION=0.2.*LABEL_SOURCE = 'teacher'"),
        ({"test_fraction": 0.2, "test_file": "x"}, "gold", "expected only one of them"),
        ({"test_fraction": 1}, "gold", "got TEST_FRACTION = 1.0, expected a number > 0 and < 1"),
        ({"test_fraction": "few"}, "gold", "got TEST_FRACTION = 'few', expected a number"),
        ({"test_fraction": 1e-9}, "gold", "gave 0 test rows"),
        ({"test_fraction": 2}, "teacher", "got TEST_FRACTION = 2.0, expected a number > 0 and < 1"),
        (
            {"test_fraction": 1e-9},
            "teacher",
            r"needs rows with a gold label .* none of the 20 rows has one\. To train on",
        ),
        (
            {"test_fraction": 0.5},
            "teacher",
            r"none of them has a gold label .*without a test, set --gin.TEST_FRACTION=0\. To get",
        ),
    ],
)
def test_a_test_that_cannot_be_made_is_refused(options, source, message, tmp_path):
    label = "label" if source == "gold" else "teacher_label"
    rows = [{"input": f"row {i}", label: "a"} for i in range(20)]
    with pytest.raises(UserError, match=message):
        datasets.load_splits(spec_of(tmp_path, rows, options=options, label_source=source))


def test_no_test_is_needed_to_train_on_the_teacher(tmp_path):
    rows = [{"input": f"row {i}", "teacher_label": "ab"[i % 2]} for i in range(20)]
    spec = spec_of(tmp_path, rows, label_source="teacher", method="distill_labels")
    splits = datasets.load_splits(spec)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (18, 2, 0)
    tokens = caches.load_cache(spec)
    assert len(tokens.tokens["test", "label", "inputs"]) == 0
    assert np.all(tokens.tokens["train", "label", "targets"].lengths > 0)
