"""Which fields `distill new` takes for what, in records of many shapes."""

from __future__ import annotations

import json

import pytest

from distill.errors import UserError
from distill.new.create import shape_of_request
from distill.new.shape import Shape
from distill.new.task import Request


def shape_of(tmp_path, records: list[dict], *field: str, **flags: str) -> Shape:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return shape_of_request(Request(str(tmp_path / "task"), str(path), field=field, **flags))


def repeated(**fields) -> list[dict]:
    """20 records; a field that is a list takes its values in turn."""
    return [
        {name: value[n % len(value)] for name, value in fields.items()} | {"n": n + 0.5}
        for n in range(20)
    ]


TEXTS = [f"the {word} of this text is long enough" for word in ("first", "second", "third")]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"input": TEXTS, "label": ["a", "b"]}, {}),
        ({"input": TEXTS, "label": [0, 1]}, {"input": "input", "label": "label"}),
        ({"text": TEXTS, "label": ["a", "b"]}, {"input": "text", "label": "label"}),
        (
            {"Subject": TEXTS, "Body": TEXTS, "class": [0, 1]},
            {"input": "{Subject}: {Body}", "label": "class"},
        ),
        (
            {"premise": TEXTS, "hypothesis": TEXTS, "gold_label": ["yes", "no"]},
            {"input": "premise: {premise} hypothesis: {hypothesis}", "label": "gold_label"},
        ),
        # No name tells the label: the only field of few short values is it.
        ({"Wortlaut": TEXTS, "Fach": ["x", "y"]}, {"input": "Wortlaut", "label": "Fach"}),
        ({"review": [{"body": TEXTS[0]}], "meta": [{"stars": 1}, {"stars": 5}]}, None),
        ({"text": TEXTS}, {"input": "text"}),
    ],
)
def test_fields_are_found_by_name_and_by_value(tmp_path, fields, expected):
    if expected is None:
        expected = {"input": "review/body", "label": "meta/stars"}
    assert shape_of(tmp_path, repeated(**fields)).fields == expected


def test_choices_are_listed_in_the_input_and_places_become_texts(tmp_path):
    options = [{"text": ["red", "blue"], "label": ["A", "B"]}]
    found = shape_of(tmp_path, repeated(question=TEXTS, choices=options, answerKey=["A", "B", "A"]))
    assert found.fields == {
        "input": "{question} Choices: (a) {choices/text/0} (b) {choices/text/1}",
        "label": "answerKey",
        "choices": "choices/text",
    }
    assert found.label_names == "choices"


def test_the_text_of_a_choice_is_no_place(tmp_path):
    rows = repeated(question=TEXTS, choices=[["red", "blue"]], answer=["red", "blue"])
    assert shape_of(tmp_path, rows).label_names == ""


def test_given_names_are_kept(tmp_path):
    rows = repeated(text=TEXTS, label=[0, 1])
    assert shape_of(tmp_path, rows, label_names="no,yes").label_names == "no,yes"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"text": TEXTS, "body": TEXTS, "label": ["a"]}, "2 fields may be the input: text, body;"),
        (
            {"text": TEXTS, "topic": ["a"], "queue": ["b"]},
            "2 fields may be the label: topic, queue",
        ),
        ({"text": TEXTS, "f": ["a", "b"], "g": ["c", "d"]}, "may be the label: f, g; say which wi"),
        ({"f": [1, 2], "label": ["a", "b"]}, "no field looks like a text to label, among f"),
        (
            {"title": TEXTS, "text": TEXTS, "topic": ["a"], "queue": ["b"]},
            "--field label=topic, or --field label= for none of them$",
        ),
        ({"Wort": TEXTS, "Grund": TEXTS, "Fach": ["a", "b"]}, "say which with --field input=Wort$"),
    ],
)
def test_what_is_not_clear_is_asked_for_by_name(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        shape_of(tmp_path, repeated(**fields))


TICKETS = {"title": TEXTS, "text": TEXTS, "topic": ["a", "b"], "queue": ["x", "y"]}
QUESTIONS = {"question": TEXTS, "note": TEXTS, "options": [["red", "blue"]], "place": ["A", "B"]}
LISTED = "{question} Choices: (a) {options/0} (b) {options/1}"


@pytest.mark.parametrize(
    ("fields", "given", "expected", "label_names"),
    [
        (TICKETS, ["label=topic"], {"label": "topic", "input": "{title}: {text}"}, ""),
        (TICKETS, ["label="], {"input": "{title}: {text}"}, ""),
        (TICKETS, ["input={text}!", "label=queue"], {"input": "{text}!", "label": "queue"}, ""),
        # The label is not looked for among the fields of the input.
        (
            {"text": TEXTS, "topic": ["a", "b"], "queue": ["x", "y"]},
            ["input={topic}: {text}"],
            {"input": "{topic}: {text}", "label": "queue"},
            "",
        ),
        (
            QUESTIONS,
            ["label=place"],
            {"label": "place", "input": LISTED, "choices": "options"},
            "choices",
        ),
        (QUESTIONS, ["choices="], {"input": "question", "label": "place"}, ""),
        ({"text": TEXTS, "label": ["a", "b"], "id": ["same"]}, ["label="], {"input": "text"}, ""),
    ],
)
def test_fields_that_are_not_given_are_found(tmp_path, fields, given, expected, label_names):
    found = shape_of(tmp_path, repeated(**fields), *given)
    assert (found.fields, found.label_names) == (expected, label_names)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["lable=topic"], "unknown field 'lable' .*closest: label"),
        (["input="], "got 'input=', expected e.g. label=label"),
        (["label"], "got 'label', expected e.g. label=label"),
        (["label=topic", "label="], "got two templates for `label`, expected one"),
    ],
)
def test_bad_templates_are_named(tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        shape_of(tmp_path, repeated(**TICKETS), *given)


def test_a_field_of_some_records_can_be_given(tmp_path):
    records = repeated(text=TEXTS, tag=["a", "b"])
    del records[0]["tag"]
    assert shape_of(tmp_path, records, "label=tag").fields["label"] == "tag"


def test_an_unique_id_is_kept(tmp_path):
    rows = [row | {"id": f"r{n}"} for n, row in enumerate(repeated(text=TEXTS, label=["a", "b"]))]
    assert shape_of(tmp_path, rows).fields["id"] == "id"
    assert "id" not in shape_of(tmp_path, [row | {"id": "same"} for row in rows]).fields


def test_rows_that_a_teacher_has_annotated_are_not_taken_for_others(tmp_path):
    records = repeated(input=TEXTS, customer=["a", "b"], teacher_label=["x", "y", ""])
    with pytest.raises(UserError, match=r"annotated already.*LABEL_SOURCE=teacher.*--field label="):
        shape_of(tmp_path, records)
    labeled = [{**record, "label": "z"} for record in records]
    assert shape_of(tmp_path, labeled).fields.get("label", "label") == "label"


def test_rationales_of_the_file_are_kept(tmp_path):
    records = repeated(text=TEXTS, label=["a", "b"], rationale=TEXTS, teacher_label=["a", "b"])
    found = shape_of(tmp_path, records).fields
    assert found == {name: name for name in ("label", "rationale", "teacher_label")} | {
        "input": "text"
    }
