"""Which fields `distill new` takes for what, in records of many shapes."""

from __future__ import annotations

import json

import pytest

from distill.data.formats.record_files import open_records
from distill.errors import UserError
from distill.new.shape import Shape, find_shape


def shape_of(tmp_path, records: list[dict], **names: str) -> Shape:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return find_shape(open_records(path, "train"), **names)


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
    ],
)
def test_what_is_not_clear_is_asked_for_by_name(tmp_path, fields, message):
    with pytest.raises(UserError, match=message):
        shape_of(tmp_path, repeated(**fields))


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
