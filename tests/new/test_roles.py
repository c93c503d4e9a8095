"""`distill new`: a field of the file has one role, and rows to check can be named."""

from __future__ import annotations

import json

import pytest

from distill.data.examples import Example, write_jsonl
from distill.errors import UserError


def rows_of(**fields) -> list[Example]:
    """Twenty rows with different inputs and two labels."""
    return [Example(f"r{n}", f"text number {n}", ("yes", "no")[n % 2], **fields) for n in range(20)]


@pytest.mark.parametrize(
    ("rows", "field", "message"),
    [
        (
            rows_of(rationale="so"),
            ("label=rationale",),
            r"rows.jsonl: the field rationale is used as the label and as the rationale \(found by "
            "its name\\), expected one field for each: .* or leave the rationale out with --field "
            "rationale=$",
        ),
        (
            rows_of(),
            ("input={input} {label}", "label=label"),
            "the field label is used as the input and as the label, .* --field label=$",
        ),
        (
            rows_of(),
            ("rationale=label", "teacher_label=label"),
            "the field label is used as the teacher_label and as the rationale, ",
        ),
    ],
)
def test_one_field_in_two_roles_is_refused(new, tmp_path, rows, field, message):
    write_jsonl(tmp_path / "rows.jsonl", rows)
    with pytest.raises(UserError, match=message):
        new(tmp_path / "rows.jsonl", field=field)


def test_a_field_that_is_left_out_of_its_role_may_have_another(new, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", rows_of(rationale="so"))
    field = ("label=label", "input={input} {rationale}", "rationale=")
    created, _ = new(tmp_path / "rows.jsonl", field=field)
    assert created["fields"] == {"label": "label", "input": "{input} {rationale}", "id": "id"}


def write_records(path, **fields):
    """30 records with a text, one of two topics, and further fields."""
    records = (
        {"text": f"text number {n} of many", "topic": ("yes", "no")[n % 2], **fields}
        for n in range(30)
    )
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("name", ["Rationale", "RATIONALE", "rationale"])
def test_rationales_are_found_in_any_spelling(new, tmp_path, name):
    fields = {name: "since it says so", "rationale_id": "x"}
    created, folder = new(write_records(tmp_path / "rows.jsonl", **fields))
    assert created["fields"]["rationale"] == name
    assert any("the file has rationales" in note for note in created["notes"])
    row = json.loads((folder / "train.jsonl").read_text().splitlines()[0])
    assert row["rationale"] == "since it says so"


def test_a_teachers_label_is_found_in_any_spelling(new, tmp_path):
    path = write_records(tmp_path / "others.jsonl", Teacher_Label="no")
    with pytest.raises(UserError, match=r"has the field `Teacher_Label`.*rename it to `teacher_l"):
        new(path)
    written = {"label": "yes", "Teacher_Label": "no", "Rationale": "so it is here"}
    created, folder = new(write_records(tmp_path / "rows.jsonl", **written))
    assert created["fields"]["teacher_label"] == "Teacher_Label"
    row = json.loads((folder / "train.jsonl").read_text().splitlines()[0])
    assert row["teacher_label"] == "no" and "row_Teacher_Label" not in row


def test_two_spellings_of_one_field_are_not_guessed_between(new, tmp_path):
    path = write_records(tmp_path / "rows.jsonl", Rationale="since it is", RATIONALE="as it is")
    with pytest.raises(UserError, match="2 fields may be the rationale: Rationale, RATIONALE"):
        new(path)


def test_rationales_of_a_list_of_objects_are_no_rationale(new, tmp_path):
    """No template names them all."""
    answers = [
        {"text": "one", "rationale": "since it is"},
        {"text": "two", "rationale": "as it is"},
    ]
    created, _ = new(write_records(tmp_path / "rows.jsonl", answers=answers))
    assert "rationale" not in created["fields"]


@pytest.mark.parametrize(
    ("name", "text", "is_named"),
    [
        ("Why", "since it says so", True),
        ("explanation", "since it says so", True),
        ("reason", "returned", False),  # a category
        ("source", "a mail of today", False),
    ],
)
def test_a_field_that_may_hold_rationales_is_named(new, tmp_path, name, text, is_named):
    created, _ = new(write_records(tmp_path / "rows.jsonl", **{name: text}))
    note = "no field is called `rationale`; if the file has rationales, give --field rationale="
    assert [each for each in created["notes"] if "rationale" in each] == [note + name] * is_named


def test_labels_that_are_no_closed_set_are_noted(new, tmp_path):
    path = tmp_path / "rows.jsonl"
    records = ({"input": f"text number {n}", "label": f"answer {n}"} for n in range(30))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    told = "30 different labels in 30 rows are no closed set, so answers are free text; for a "
    assert [note for note in new(path)[0]["notes"] if note.startswith(told)]


def test_rows_to_check_and_to_train_on_can_be_named(files, new, commands):
    _, folder = new(files / "tickets.csv")
    for rows, checked, trained in (
        ((), "train.jsonl", "rehearsal"),
        (("ROWS=rehearsal",), "rehearsal.jsonl", "rehearsal"),
        (("ROWS=more.jsonl",), "more.jsonl", "more"),
    ):
        (check, train) = commands(folder, "check", *rows)[-1], commands(folder, "train", *rows)[-1]
        assert f"--gin.TRAIN_FILE={checked}" in check
        assert {f"--gin.TRAIN_FILE={trained}.jsonl", f"--run_dir=runs/{trained}"} <= {*train}
    (folder / "annotated.jsonl").write_text("")
    assert "--gin.TRAIN_FILE=annotated.jsonl" in commands(folder, "check")[-1]


@pytest.mark.parametrize(
    ("name", "field", "said"),
    [
        (
            "llm_label",
            (),
            "from 'llm_label', as if it were gold; if a model wrote it, give",
        ),
        ("llm_label", ("label=llm_label",), None),
        ("emailed", (), None),
    ],
)
def test_a_label_that_a_model_may_have_written_is_told(new, tmp_path, name, field, said):
    lines = [f"text\t{name}", *(f"a text of number {n}\t{('no', 'yes')[n % 2]}" for n in range(20))]
    (tmp_path / "rows.tsv").write_text("\n".join(lines) + "\n")
    created, _ = new(tmp_path / "rows.tsv", field=field)
    assert created["fields"]["label"] == name
    found = [note for note in created["notes"] if "as if it were gold" in note]
    assert said in found[0] if said else found == []
