"""Each check of `distill data check` finds a planted fault, and nothing in sound rows."""

from __future__ import annotations

import dataclasses
import json

import pytest

from distill import cli
from distill.data.check.page import render_page
from distill.data.check.report import Settings, check_rows, render_text
from distill.data.examples import Example
from distill.data.vocabularies import make_vocabulary
from distill.errors import UserError

LABELS = ("billing", "shipping")


def _rows(count=40, **changes):
    """Sound rows: two classes, distinct inputs and rationales."""
    return [
        Example(
            id=f"r{number}",
            input=f"message {number}",
            label=LABELS[number % 2],
            rationale=f"reason {number} of it",
            **changes,
        )
        for number in range(count)
    ]


def _replace(rows, number, **changes):
    return [dataclasses.replace(r, **changes) if i == number else r for i, r in enumerate(rows)]


def _check(train, test=(), **settings):
    splits = {"train": lambda: train} | ({"test": lambda: test} if test else {})
    return check_rows("rows", splits, Settings(**settings))


def _found(report, level=None):
    return {f["check"]: f for f in report["findings"] if level in (None, f["level"])}


TEST = [Example(id=f"t{n}", input=f"new {n}", label=LABELS[n % 2]) for n in range(8)]


def test_sound_rows_have_no_warning():
    report = _check(_rows(), TEST, vocabulary=make_vocabulary("bytes"))
    assert report["counts"]["problem"] == report["counts"]["warning"] == 0
    assert report["rows"] == {"train": 40, "test": 8}
    assert report["classes"] == {"billing": 20, "shipping": 20}
    assert report["tokens"]["input"]["longest"] == len("message 39") + 1
    assert report["tokens"]["input"]["percentile_95"] == len("message 39") + 1


def _with_classes(*labels):
    return [
        Example(id=f"r{n}", input=f"message {n}", label=label) for n, label in enumerate(labels)
    ]


EQUAL = [Example(id=f"c{n}", input="Message  0", label=LABELS[n % 2]) for n in range(2)]
FAULTS = {
    "no_label": (
        _replace(_rows(), 3, label=None),
        (),
        "problem|warning",
        1,
        r"1 of 40 training rows",
    ),
    "one_class": (_with_classes(*["a"] * 9), (), "problem", 9, "all 9 labeled training rows"),
    "class_balance": (_with_classes(*["a"] * 38, "b", "b"), (), "warning", 38, r"right in 95\.0%"),
    "rare_classes": (_with_classes(*["a"] * 50, *["b"] * 4), (), "warning", 1, r"'b' 4"),
    "test_only_classes": (
        _rows(),
        [TEST[0], Example("t9", "x", "claims")],
        "warning",
        1,
        "'claims'",
    ),
    "labels_alike": (
        _with_classes(*["yes"] * 20, *["Yes "] * 20, *["no"] * 20),
        (),
        "warning",
        2,
        "'yes' 20",
    ),
    "label_prefixes": (
        _with_classes(*["ship"] * 20, *["shipping"] * 20),
        (),
        "note",
        1,
        "'ship' of 'shipping'",
    ),
    "teacher_accuracy": (
        _rows(teacher_label="billing")[::2] + _rows(60, teacher_label="no such")[40:],
        (),
        "note|warning",
        20,
        r"right in 20 of 40 rows \(50\.0%\)",
    ),
    "no_rationale": (
        [
            *_replace(_rows(), 3, rationale=None),
            Example(id="unlabeled", input="no row to train on"),
        ],
        (),
        "warning",
        1,
        "1 of 40 labeled training row",
    ),
    "one_rationale": (
        _rows()[:5]
        + [r for n in range(5, 30) for r in _replace([_rows()[n]], 0, rationale="because")],
        (),
        "warning",
        25,
        r"25 of 30 .* 'because'",
    ),
    "repeated_rationales": (
        _replace(_rows(), 3, rationale="reason 4 of it"),
        (),
        "note",
        2,
        "39 of all are different",
    ),
    "rationale_is_label": (
        _replace(_rows(), 3, rationale="Shipping."),
        (),
        "warning",
        1,
        "only the",
    ),
    "rationale_is_input": (
        _replace(_rows(), 3, rationale="message 3"),
        (),
        "warning",
        1,
        "the input again",
    ),
    "short_rationales": (_replace(_rows(), 3, rationale="it is"), (), "warning", 1, "fewer than 3"),
    "rationales_name_label": (
        _replace(_rows(), 3, rationale="so the SHIPPING is late"),
        (),
        "note",
        1,
        r"1 of 40 rat",
    ),
    "rationale_names_another": (
        _replace(
            _replace(_rows(), 3, rationale="about billing it is"),
            5,
            rationale="shipping, no billing",
        ),
        (),
        "note",
        1,
        "another label",
    ),
    "test_in_training": (
        _rows(),
        [*TEST, Example("t9", "MESSAGE 7", "billing")],
        "warning",
        1,
        r"1 of 9 test rows",
    ),
    "contradicting_labels": ([*_rows()[1:], *EQUAL], (), "warning", 2, r"2 of 41 training rows"),
    "repeated_inputs": ([*_rows(), *EQUAL[:1]], (), "note", 2, r"2 of 41 training rows"),
    "repeated_test_inputs": (_rows(), [*TEST, *TEST[:1]], "note", 2, r"2 of 9 test rows"),
    "test_among_exemplars": (_rows(), TEST, "problem", 1, "1 of 8 test rows .* is an exemplar"),
    "training_among_exemplars": (_rows(), TEST, "note", 1, "1 of 40 training rows"),
}


@pytest.mark.parametrize("check", FAULTS)
def test_a_planted_fault_is_found_and_counted(check):
    train, test, levels, count, text = FAULTS[check]
    labels = LABELS if train and train[0].label == "billing" else ()
    report = _check(train, test, labels=labels, exemplars=("NEW: 3!", "message 5"))
    finding = _found(report)[check]
    assert finding["level"] in levels.split("|") and finding["count"] == count
    import re

    assert re.search(text, finding["text"]), finding["text"]
    if check in ("test_in_training", "contradicting_labels", "test_among_exemplars"):
        expected = {"test_in_training": ["t9"], "contradicting_labels": ["c0", "c1"]}
        assert finding["rows"] == expected.get(check, ["t3"])


def test_faults_are_not_found_where_they_are_not():
    """What a fault is planted for is absent from the sound rows, so that each finding means it."""
    sound = set(_found(_check(_rows(), TEST, labels=LABELS)))
    assert sound == {"class_balance", "rationales_name_label"}


def test_the_reasons_for_missing_teacher_labels_add_up():
    rows = [dataclasses.replace(r, label=None, teacher_label=r.label) for r in _rows()]
    rows = _replace(rows, 3, teacher_label=None)
    rows = _replace(rows, 4, teacher_label=None, failure="label_outside_set", outside_label="x")
    text = _found(_check(rows, labels=LABELS, label_source="teacher"))["no_label"]["text"]
    assert text == (
        "2 of 40 training rows (5.0%) have no teacher label: 'label_outside_set' 1, not given 1"
    )


def test_rows_without_any_label_name_their_other_fields(tmp_path, capsys):
    """Whose labels train is not known then; a field that holds them is easily left unmapped."""
    path = tmp_path / "rows.csv"
    path.write_text("text,topic\n" + "".join(f"a text {n},yes\n" for n in range(20)))
    assert cli.main(["data", "check", f"--input={path}", "--field", "input=text"]) == 0
    told = "20 of 20 training rows (100.0%) have no gold label; map the one that holds it with "
    assert f"{told}FIELDS or --field (other fields: 'topic')" in capsys.readouterr().out


def test_a_teacher_below_a_constant_answer_is_a_warning():
    rows = [r for r in _rows(40) if r.label == "billing"] + _rows(4)[1:2]
    wrong = [e for r in rows for e in _replace([r], 0, teacher_label="shipping")]
    assert _found(_check(wrong, labels=LABELS), "warning")["teacher_accuracy"]["count"] == 1


def test_the_characters_behind_unknown_pieces_and_what_the_vocabulary_folds(shared_dir):
    (model,) = (shared_dir / "data" / "vocab").glob("*.model")
    vocabulary = make_vocabulary("sentencepiece", str(model))
    rows = _replace(_rows(), 3, input="if (a < b) { x~y }", rationale="中文 is\nthe reason")
    rows = _replace(rows, 5, label="two  spaces")
    rows = _replace(rows, 7, label="a\\b")
    report = _check(rows, vocabulary=vocabulary, limits={"INPUT_LENGTH": 6, "TARGET_LENGTH": 40})
    found = _found(report)
    assert {*report["tokens"]["input"]["characters"]} == {"<", "{", "}", "~"}
    assert {*report["tokens"]["rationale"]["characters"]} == {"中", "文"}
    assert (
        found["unknown_in_input"]["rows"] == ["r3"] and "'<' 1" in found["unknown_in_input"]["text"]
    )
    assert found["unknown_in_label"]["rows"] == ["r7"]
    assert found["spaces_in_rationale"]["rows"] == ["r3"]
    assert found["changed_labels"]["level"] == "problem" and found["changed_labels"]["rows"] == [
        "r5"
    ]
    longest = max(len(vocabulary.encode(row.input)) for row in rows) + 1
    assert (
        found["input_lengths"]["count"] == 1
        and f"INPUT_LENGTH = {longest} would" in (found["input_lengths"]["text"])
    )
    assert found["label_lengths"]["count"] == 0


def _write(path, rows):
    path.write_text("".join(json.dumps(row.to_dict()) + "\n" for row in rows))
    return str(path)


def test_the_command_prints_text_json_and_a_page(tmp_path, capsys):
    label = "<script>alert(1)</script>"
    rows = [
        Example(f"r{n}", f"message {n}", label if n % 2 else "ok", rationale=f"why it is {n}")
        for n in range(40)
    ]
    train = _write(tmp_path / "train.jsonl", [*rows, *EQUAL])
    test = _write(tmp_path / "test.jsonl", [Example("t0", "message 1", "ok")])
    page = tmp_path / "out" / "page.html"
    argv = ["data", "check", f"--input={train}", f"--test_input={test}", f"--output={page}"]
    assert cli.main(argv) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith(f"{train}: 42 training rows, 1 test row; 0 problems, ")
    levels = [line.partition(":")[0] for line in shown[1:]]
    assert levels == sorted(levels, key=["problem", "warning", "note"].index)
    assert any("[test_in_training]" in line and "(rows t0)" in line for line in shown)
    html = page.read_text()
    assert "<script" not in html and "&lt;script&gt;" in html
    assert "http" not in html and "src=" not in html and html.count("<svg") >= 3
    assert cli.main([*argv, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert render_text(report).splitlines() == shown and render_page(report) == html
    assert cli.main([*argv, "--strict"]) == 2
    assert f"{train}: 0 problems and 3 warnings\n" in capsys.readouterr().err
    page.write_text("mine")
    assert cli.main(argv) == 2
    assert "did not write it" in capsys.readouterr().err and page.read_text() == "mine"


def test_the_command_refuses_what_does_not_fit_together(tmp_path, capsys):
    train = _write(tmp_path / "train.jsonl", _rows())
    for argv, message in (
        ([], "got no rows, expected --input=FILE"),
        (
            [f"--input={train}", "--gin_file=tickets_step_by_step"],
            "got both --input and --gin_file",
        ),
        (["--gin_file=tickets_step_by_step", "--labels=a,b"], "--labels works only with --input"),
        ([f"--input={train}", "--labels=a,b"], "is not one of --labels (a, b)"),
        ([f"--input={train}", "--gin.SEED=1"], "--gin.SEED works only with --gin_file"),
    ):
        assert cli.main(["data", "check", *argv]) == 2
        assert message in capsys.readouterr().err


def test_a_configuration_is_checked_with_its_lengths_and_mapping(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    lines = [f"message number {n},{n % 2},because of {n}" for n in range(60)]
    path.write_text("text,class,why\n" + "\n".join(lines) + "\n")
    fields = "{'input': 'text', 'label': 'class', 'rationale': 'why'}"
    argv = [
        *("data", "check", "--json", "--gin_file=jsonl_step_by_step", f"--gin.TRAIN_FILE={path}"),
        *("--gin.TEST_FRACTION=0.2", f"--gin.FIELDS={fields}", "--gin.LABELS=()"),
        *("--gin.LABEL_NAMES=('no','yes')", "--gin.INPUT_LENGTH=29"),
    ]
    assert cli.main(argv) == 0
    report = json.loads(capsys.readouterr().out)
    assert sum(report["rows"].values()) == 60 and set(report["classes"]) == {"no", "yes"}
    cut = _found(report)["input_lengths"]
    assert cut["count"] == 50 and "INPUT_LENGTH = 29" in cut["text"]  # the prefix counts too
    direct = ["data", "check", "--json", f"--input={path}", "--field", "input=text"]
    direct += ["--field", "label=class", "--field", "rationale=why", "--label_names=no,yes"]
    assert cli.main(direct) == 0
    assert set(json.loads(capsys.readouterr().out)["classes"]) == {"no", "yes"}


def test_an_empty_source_is_refused():
    with pytest.raises(UserError, match="rows has no rows to check"):
        _check([])
