"""What a user is told of their data, on files whose faults are known."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

import tasks  # registers the datasets  # noqa: F401
from distill.common.safe_points import registered
from distill.config.data import DataSpec
from distill.data import cache as caches
from distill.data.counts.data_line import _sequence_facts as sequence_facts
from distill.data.counts.data_line import data_lines, input_lines, summarize_data
from distill.data.counts.sequence_counts import SequenceCounts
from distill.data.counts.survey import RowSurvey
from distill.data.examples import Example
from distill.inference.evaluator import Evaluator
from distill.training import assets as run_assets


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
            "rationale": f"because {i:02}" if i % 2 else "",
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
        "data: 29 training rows, 3 for validation, 2 for the test; no label or rationale cut"
    )
    assert warnings == [
        f"warning: {text}"
        for text in (
            "8 of 40 rows (20.0%) have no label for LABEL_SOURCE = 'teacher' and are left out "
            "(no_answer: 6, no teacher label: 2)",
            "1 of 3 test rows (33.3%) has no gold label and is left out of the test",
            "16 of 32 labeled rows (50.0%) have no rationale: METHOD = 'step_by_step' trains on "
            "only their label",
            "1 of 2 test inputs (50.0%) also appears in the training rows: test accuracy may "
            "overstate accuracy on new rows",
            "4 of 34 inputs (11.8%) are longer than INPUT_LENGTH = 64 tokens and are cut; "
            f"INPUT_LENGTH = {longest} would fit all",
        )
    ]
    held, _ = _told(_spec(tmp_path, train, test, label_source="teacher", input_length=longest))
    assert held["sequences"]["input"]["cut"] == 0 < summary["sequences"]["input"]["cut"]


def test_rows_that_a_limit_leaves_out_are_counted_with_the_limit(tmp_path):
    rows = [{"input": f"row {i:02}", "label": "ab"[i % 2], "rationale": "so"} for i in range(40)]
    for settings in ({"num_labels": 10}, {"label_fraction": 0.25}):
        _, (line, *_) = _told(_spec(tmp_path, rows, rows[:1], **settings))
        (name, value), *_ = settings.items()
        assert f"30 rows not used ({name.upper()} = {value})" in line


def test_an_input_that_is_cut_for_one_task_only_is_counted(tmp_path):
    """It fits with the prefix `[label] `, not with `[rationale] `, which is longer."""
    text = "x" * (64 - len("[label] ") - 1)
    inputs = [*(f"{i:02}{text[2:]}" for i in (8, 9)), *(f"{i:02}" for i in range(10, 30))]
    rows = [
        {"input": x, "label": "ab"[i % 2], "rationale": f"so {i:02}"} for i, x in enumerate(inputs)
    ]
    summary, (_, warning) = _told(_spec(tmp_path, rows[:20], rows[20:], input_length=64))
    assert summary["sequences"]["input"]["cut"] == 2
    assert warning.endswith(
        f"INPUT_LENGTH = {64 + len('[rationale] ') - len('[label] ')} would fit all"
    )


def test_labels_outside_the_set_are_named_with_the_setting(tmp_path):
    labels = ["a"] * 30 + ["no such"] * 6 + ["B"] * 5 + ["x" * 50] * 4 + ["rare"] * 3
    rows = [{"input": f"row {i}", "teacher_label": label} for i, label in enumerate(labels)]
    rows += [{"input": "none"}]
    labels = {"labels": ("a", "b")}
    settings = {"label_source": "teacher", "method": "distill_labels"}
    summary, (_, warning, *_) = _told(_spec(tmp_path, rows, options=labels, **settings))
    assert warning == (
        "warning: 19 of 49 rows (38.8%) have no label for LABEL_SOURCE = 'teacher' and are left "
        "out (label_outside_set: 18, no teacher label: 1); most frequent labels outside LABELS: "
        f"'no such' (6), 'B' (5), '{'x' * 40}' (4); add them to LABELS if valid"
    )
    assert summary["outside_labels"] == {"no such": 6, "B": 5, "x" * 50: 4}
    choices = [{**row, "choices": ["a", "b"]} for row in rows]
    _, (_, warning, *_) = _told(_spec(tmp_path, choices, **settings))
    assert "most frequent labels outside the rows' `choices`: 'no such' (6), " in warning
    known, lines = _told(_spec(tmp_path, rows[:30], options=labels, **settings))
    assert "outside_labels" not in known and "outside LABELS" not in "".join(lines)


def test_sound_data_gets_one_line_and_no_warning(tmp_path):
    rows = [
        {"input": f"row {i}", "label": "ab"[i % 2], "rationale": f"so {i:02}"} for i in range(20)
    ]
    _, lines = _told(_spec(tmp_path, rows[:16], rows[16:]))
    assert lines == [
        "data: 15 training rows, 1 for validation, 4 for the test; no row left out; no row without "
        "a rationale; no input, label or rationale cut"
    ]


def test_the_checks_of_rows_are_one_line_each(tmp_path, shared_dir):
    """Faults that only `distill.data.check` looks for, in a run with T5's vocabulary."""
    (model,) = (shared_dir / "data" / "vocab").glob("*.model")
    labels = ["yes", "no", "Yes ", "two  words"]
    rows = [
        {
            "input": f"is {i:02} < {i + 1} ?",
            "label": labels[min(i % 20, 3)] if i % 20 > 3 else labels[i % 4],
            "teacher_label": "no such",
            "rationale": "because it is" if i % 10 else f"yes {i}",
        }
        for i in range(60)
    ]
    test = [rows[0] | {"input": "is this new ?", "label": "maybe"}]
    settings = {"vocabulary": "sentencepiece", "vocabulary_path": str(model)}
    summary, (_, *warnings) = _told(_spec(tmp_path, rows, test, **settings))
    expected = [
        r"of input tokens are not in VOCABULARY .*unknown token, e\.g\. '<'; VOCABULARY = 'bytes'",
        r"1 of 1 test row \(100\.0%\) has a label that no training row has: 'maybe' 1",
        r"labels that differ only in case, spaces or punctuation .*'Yes ' 3, 'yes' 3",
        r"the teacher's label is right in 0 of 60 rows .*less often than a constant answer \(85",
        r"54 of 60 rationales \(90\.0%\) are 'because it is', which says nothing",
        r"the vocabulary changes 1 label .*'two  words' 51",
    ]
    assert len(warnings) == len(expected), warnings
    for warning, pattern in zip(warnings, expected, strict=True):
        assert re.search(f"^warning: .*{pattern}", warning), warning
    assert summary["unknown_characters"] == {"input": ["<"]}
    assert [f"warning: {text}" for text in summary["warnings"]] == warnings[1:]


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
    assert 0.2 < share < 1 and line.endswith("no unknown token in inputs or labels")
    (told,) = (w for w in warnings if "unknown" in w)
    assert f"{share:.1%} of rationale tokens are not in VOCABULARY = 'sentencepiece'" in told
    assert told.endswith("VOCABULARY = 'bytes' with VOCAB_SIZE = 264 can represent any text")


def test_cut_targets_name_their_macro_and_what_they_lose():
    counts = SequenceCounts(sequences=10, cut=5, longest=99, tokens=500, unknown=0)
    whole = dataclasses.replace(counts, cut=0)
    spec = DataSpec("jsonl", "single_task", vocabulary="bytes", input_length=48, target_length=24)
    found = {}
    for name in ("input", "label", "target"):
        sequences = {"input": whole, name: counts}
        (found[name],) = (
            text for is_warning, text in sequence_facts(spec, sequences) if is_warning
        )
    assert found["input"].startswith("5 of 10 inputs (50.0%) ")
    assert "; INPUT_LENGTH = 99 " in found["input"]
    for name in ("label", "target"):
        assert "TARGET_LENGTH = 24 " in found[name]
        assert "; TARGET_LENGTH = 99 " in found[name]
        assert ("the label at the end" in found[name]) == (name == "target")


def test_a_length_beyond_the_bound_is_not_advised():
    counts = SequenceCounts(sequences=10, cut=5, longest=60_000_013, tokens=10**8, unknown=0)
    spec = DataSpec("jsonl", "finetune", vocabulary="bytes", input_length=48)
    _, warning = input_lines(spec, counts)
    assert "; the longest has 60,000,013, and INPUT_LENGTH is at most 65,536: shorten" in warning
    assert "would fit" not in warning


def test_rows_without_the_choices_of_training_are_warned_of():
    counts = SequenceCounts(sequences=200, cut=0, longest=9, tokens=999, unknown=0)
    spec = DataSpec("jsonl", "finetune", vocabulary="bytes")
    (line,) = input_lines(spec, counts, 0)
    assert "label, not scored" not in line
    assert "; 3 rows without a label, not scored" in input_lines(spec, counts, 3)[0]
    _, warning = input_lines(spec, counts, missing_choices=1)
    assert warning.startswith("warning: 1 of 200 rows (0.5%) ")
    assert "`choices`" in warning


def test_a_lost_signal_stops_at_the_next_row_that_is_prepared(tmp_path):
    """Every label while its length is checked, every row while stored, every sequence."""
    rows = [
        {"input": f"row {i}", "label": "ab"[i % 2], "rationale": f"so {i:02}"} for i in range(20)
    ]
    asked: list[int] = []
    with registered(lambda: asked.append(1)):
        meta = caches.load_cache(_spec(tmp_path, rows[:16], rows[16:])).meta
    sequences = sum(task["inputs"]["sequences"] for task in meta["tasks"].values())
    assert sequences >= 20 and len(asked) == 20 + 20 + sequences


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
    assert warnings == ["warning: all 10 labeled rows have the same label"]
    rows += [row | {"label": "b"} for row in rows]
    _, (_, *warnings) = _told(
        _spec(tmp_path, rows, [{"input": "x", "label": "a"}], method="finetune")
    )
    assert warnings == [
        "warning: 20 of 20 labeled rows (100.0%) have an input that also occurs with another label"
    ]


def test_few_faults_are_told_in_the_line_and_not_twice(tmp_path):
    """200 rows, one of each fault: half a percent, in the line; each number is told once."""
    rows = [
        {"input": f"row {i:03}", "label": "ab"[i % 2], "rationale": f"so {i:03}"}
        for i in range(200)
    ]
    rows[0] |= {"input": "x" * 100}
    rows[1].pop("rationale")
    rows[2].pop("label")
    _, lines = _told(_spec(tmp_path, rows, [rows[3] | {"input": "new"}], input_length=64))
    assert lines == [
        "data: 180 training rows, 19 for validation, 1 for the test; 1 of 200 rows (0.5%) left out "
        "(no gold label: 1); 1 of 199 labeled rows (0.5%) without a rationale; no label or "
        "rationale cut; 1 of 200 inputs (0.5%) cut, INPUT_LENGTH = 113 would fit all"
    ]


def test_unknown_words_of_answered_rows_are_a_warning_with_examples():
    spec = DataSpec("jsonl", method="finetune", vocabulary="words")
    counts = SequenceCounts(sequences=500, tokens=5000, longest=10, unknown=2)
    line, warning = input_lines(spec, counts, unknown_words={"where": "a-0", "what": "a-7"})
    assert "unknown" not in line
    assert "e.g. 'where' in row a-0, 'what' in row a-7; VOCABULARY = 'bytes'" in warning
    (line,) = input_lines(spec, counts)
    assert "0.0% of input tokens unknown" in line


@pytest.mark.parametrize("method", ["step_by_step", "finetune", "single_task"])
def test_scoring_names_the_length_that_training_names(method, resolved, tmp_path):
    rows = [
        {"input": f"row {i:02}" + "x" * 10 * i, "label": "yes", "rationale": "because"}
        for i in range(12)
    ]
    spec = _spec(tmp_path, rows, rows, method=method, input_length=64)
    _, trained = _told(spec)
    cache = caches.load_cache(spec)
    assets = run_assets.of_data(spec, cache.words)
    evaluator = Evaluator(spec, resolved.run.student, assets, 8)
    evaluator._inputs(spec.label_prefix, cache.rows["test"], evaluator.input_counts)
    scored = input_lines(spec, evaluator.input_counts)
    wanted, found = (
        re.findall(r"INPUT_LENGTH = (\d+) would fit all", str(lines)) for lines in (trained, scored)
    )
    assert len(wanted) == 1 and found == wanted
