"""`distill new`: a field of the file has one role, and rows to check can be named."""

from __future__ import annotations

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
