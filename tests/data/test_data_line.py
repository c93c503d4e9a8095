"""What a user is told of their data, on files whose faults are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tasks  # registers the datasets  # noqa: F401
from distill.config.data import DataSpec
from distill.data import cache as caches
from distill.data import datasets
from distill.data.budget import hold_out
from distill.data.data_line import data_lines, summarize_data
from distill.data.examples import Example
from distill.data.survey import RowSurvey
from distill.errors import UserError


def _write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _spec(tmp_path, train, test=(), **settings):
    options = {"train_file": _write(tmp_path / "train.jsonl", train)}
    options |= {"test_file": _write(tmp_path / "test.jsonl", test)} if test else {}
    options |= settings.pop("options", {})
    settings = {"method": "step_by_step", "vocabulary": "bytes", "num_labels": 0} | settings
    return DataSpec("jsonl", dataset_options=options, **settings)


def _told(spec):
    summary = summarize_data(spec, caches.load_cache(spec).meta)
    return summary, data_lines(spec, summary)


def test_every_fault_is_told_with_its_numbers(tmp_path):
    """40 rows: 8 without teacher label, half without rationale, 4 of 32 inputs too long."""
    train = [
        {
            "input": f"row {i:02}" + ("x" * 100 if i < 4 else ""),
            "teacher_label": "yes" if i % 3 else "no",
            "rationale": "because" if i % 2 else "",
        }
        for i in range(32)
    ]
    train += [{"input": f"more {i}", "failure": "no_answer"} for i in range(6)]
    train += [{"input": f"more {i}"} for i in range(6, 8)]
    test = [{"input": "row 05", "label": "no"}, {"input": "new", "label": "no"}, {"input": "?"}]
    spec = _spec(tmp_path, train, test, label_source="teacher", input_length=64)
    summary, (line, *warnings) = _told(spec)
    # "[rationale] row 00" and 100 letters, and EOS
    longest = len("[rationale] row 00") + 100 + 1
    assert line == (
        "data: 29 training rows, 3 for validation, 2 for the test; 8 of 40 dropped (no_answer 6, "
        "no teacher label 2); 1 without a gold label not tested; 16 without a rationale; "
        f"inputs cut: 4 (11.8%), INPUT_LENGTH = {longest} holds all; targets cut: none"
    )
    for text in (
        "8 of 40 (20.0%) training rows have no label that LABEL_SOURCE = 'teacher' can use",
        "16 of 32 (50.0%) training rows have no rationale: METHOD = 'step_by_step'",
        f"longer than INPUT_LENGTH = 64 and are cut; INPUT_LENGTH = {longest} would hold all",
        "1 of 3 (33.3%) test rows have no gold label",
        "1 of 2 (50.0%) test inputs also occur among the training rows",
    ):
        assert sum(text in warning for warning in warnings) == 1, text
    assert len(warnings) == 5 and all(w.startswith("warning: ") for w in warnings)
    held, _ = _told(_spec(tmp_path, train, test, label_source="teacher", input_length=longest))
    assert held["sequences"]["input"]["cut"] == 0 < summary["sequences"]["input"]["cut"]


def test_sound_data_gets_one_line_and_no_warning(tmp_path):
    rows = [{"input": f"row {i}", "label": "ab"[i % 2], "rationale": "so"} for i in range(20)]
    _, lines = _told(_spec(tmp_path, rows[:16], rows[16:]))
    assert lines == [
        "data: 15 training rows, 1 for validation, 4 for the test; none dropped; 0 without a "
        "rationale; inputs cut: none; targets cut: none"
    ]


def test_unknown_pieces_are_counted_by_field(tmp_path, shared_dir):
    rows = [
        {"input": "a cat", "label": "ab"[i % 2], "rationale": "\u0f40\u0f41 \u0f42"}
        for i in range(10)
    ]
    (model,) = (shared_dir / "data" / "vocab").glob("*.model")
    spec = _spec(tmp_path, rows, rows, vocabulary="sentencepiece", vocabulary_path=str(model))
    summary, (line, *warnings) = _told(spec)
    found = summary["sequences"]
    assert found["input"]["unknown"] == found["label"]["unknown"] == 0
    share = found["rationale"]["unknown"] / found["rationale"]["tokens"]
    assert 0.2 < share < 1 and f"unknown tokens: {share:.1%} of rationales" in line
    (told,) = (w for w in warnings if "unknown" in w)
    assert "rationale tokens are unknown to VOCABULARY = 'sentencepiece'" in told
    assert told.endswith("VOCABULARY = 'bytes' with VOCAB_SIZE = 264 writes every text")


def test_copies_contradictions_and_classes_are_counted():
    survey = RowSurvey("gold")
    for text, label in [("a", "x"), ("a", "y"), ("b", "x"), ("b", "x"), ("c", "z"), ("a", "x")]:
        survey.add("train", Example(id="0", input=text, label=label))
    for text in ("a", "d", "c", "a"):
        survey.add("test", Example(id="0", input=text, label="x"))
    assert survey.counts() == {
        "test_inputs_in_training": 3,
        "contradicting_rows": 3,
        "classes": 3,
        "without_rationale": 6,
    }


def test_one_class_and_contradicting_copies_are_warned_of(tmp_path):
    rows = [{"input": f"row {i}", "label": "a"} for i in range(10)]
    _, (_, *warnings) = _told(
        _spec(tmp_path, rows, [{"input": "x", "label": "a"}], method="finetune")
    )
    assert warnings == ["warning: all 10 training rows have the same label"]
    rows += [row | {"label": "b"} for row in rows]
    _, (_, *warnings) = _told(
        _spec(tmp_path, rows, [{"input": "x", "label": "a"}], method="finetune")
    )
    assert warnings == [
        "warning: 20 of 20 (100.0%) training rows have an input that occurs with another label too"
    ]


def test_held_out_rows_are_a_function_of_their_input(tmp_path):
    rows = [Example(id=str(i), input=f"row {i % 100}", label="a") for i in range(200)]
    train, test = hold_out(rows, 0.2, 0)
    assert not {row.input for row in train} & {row.input for row in test}
    assert len(train) + len(test) == 200 and 20 <= len(test) <= 60
    again = hold_out(rows[::-1], 0.2, 0)[1]
    assert {row.id for row in again} == {row.id for row in test}
    assert {row.id for row in hold_out(rows, 0.2, 1)[1]} != {row.id for row in test}
    options = {"test_fraction": 0.2}
    spec = _spec(tmp_path, [row.to_dict() for row in rows], options=options, data_seed=3)
    splits = datasets.load_splits(spec)
    assert [row.id for row in splits.test] == [row.id for row in test]


@pytest.mark.parametrize(
    ("options", "source", "message"),
    [
        ({}, "gold", r"TEST_FILE is not set.*--gin.TEST_FRACTION=0.2.*LABEL_SOURCE = 'teacher'"),
        ({"test_fraction": 0.2, "test_file": "x"}, "gold", "expected one of them"),
        ({"test_fraction": 1}, "gold", "got TEST_FRACTION = 1.0, expected more than 0"),
        ({"test_fraction": "few"}, "gold", "got TEST_FRACTION = 'few', expected a number"),
        ({"test_fraction": 1e-9}, "gold", "gave 0 test rows"),
        ({"test_fraction": 0.5}, "teacher", "none has a gold label"),
    ],
)
def test_a_test_that_cannot_be_made_is_refused(options, source, message, tmp_path):
    label = "label" if source == "gold" else "teacher_label"
    rows = [{"input": f"row {i}", label: "a"} for i in range(20)]
    with pytest.raises(UserError, match=message):
        datasets.load_splits(_spec(tmp_path, rows, options=options, label_source=source))


def test_no_test_is_needed_to_train_on_the_teacher(tmp_path):
    rows = [{"input": f"row {i}", "teacher_label": "ab"[i % 2]} for i in range(20)]
    spec = _spec(tmp_path, rows, label_source="teacher", method="distill_labels")
    splits = datasets.load_splits(spec)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (18, 2, 0)
    tokens = caches.load_cache(spec)
    assert len(tokens.tokens["test", "label", "inputs"]) == 0
    assert np.all(tokens.tokens["train", "label", "targets"].lengths > 0)
