"""Rows that lack what a run trains on are refused before they are tokenized."""

from __future__ import annotations

import dataclasses
import json

import pytest

import tasks  # registers the datasets  # noqa: F401
from distill.config.data import DataSpec
from distill.data.checked_rows import read_rows
from distill.errors import UserError


def test_labels_that_are_too_long_are_told_with_the_length_that_holds_all(tmp_path):
    train = [{"input": f"row {i}", "label": "x" * (1 + i % 7)} for i in range(1, 20)]
    test = [{"input": "new", "label": "y" * 20}]
    for name, rows in (("train", train), ("test", test)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    options = {f"{name}_file": f"{tmp_path}/{name}.jsonl" for name in ("train", "test")}
    spec = DataSpec(
        "jsonl", "finetune", vocabulary="bytes", target_length=6, dataset_options=options
    )
    message = r"6 of 20 labels .* TARGET_LENGTH = 6 .*has [78] tokens.*= 21 would fit all"
    with pytest.raises(UserError, match=message):
        read_rows(spec)
    assert read_rows(dataclasses.replace(spec, target_length=21))
    message = r"INPUT_LENGTH = 9, expected more than 9: the prefix '\[label\] ' alone has 9 tokens"
    with pytest.raises(UserError, match=message):
        read_rows(dataclasses.replace(spec, target_length=21, input_length=9))
    assert read_rows(dataclasses.replace(spec, target_length=21, input_length=10))
    message = (
        r"none of the 18 training rows has a rationale, .* with --gin_file=gin/methods/finetune.gin"
    )
    with pytest.raises(UserError, match=message):
        read_rows(dataclasses.replace(spec, target_length=21, method="step_by_step"))
