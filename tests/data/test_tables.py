"""CSV rows are those of JSONL, and what is wrong in a file is named to the line."""

from __future__ import annotations

import csv
import json
import tempfile

import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config.data import DataSpec
from distill.data.examples import FIELDS, Example, write_jsonl
from distill.data.tables import read_table
from distill.errors import UserError
from tasks import jsonl

# No NUL, which CSV files do not hold, and no lone surrogates, which UTF-8 does not.
TEXT = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12
).filter(str.strip)


@st.composite
def rows(draw) -> Example:
    choices = draw(st.lists(TEXT, max_size=3, unique=True).map(tuple))
    label = draw(st.none() | (st.sampled_from(choices) if choices else TEXT))
    rationale = draw(st.none() | TEXT)
    return Example(
        id=draw(TEXT),
        input=draw(TEXT),
        label=label,
        teacher_label=label,
        rationale=rationale,
        choices=choices,
        split="train",
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(rows(), min_size=1, max_size=4, unique_by=lambda row: row.id))
def test_csv_and_jsonl_of_the_same_rows_are_the_same(examples):
    with tempfile.TemporaryDirectory() as folder:
        path = epath.Path(folder) / "rows.CSV"
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            for row in examples:
                fields = row.to_dict()
                if row.choices:
                    fields["choices"] = json.dumps(list(row.choices))
                writer.writerow(fields)
        write_jsonl(epath.Path(folder) / "rows.jsonl", examples)
        assert read_table(path, "train") == examples
        assert read_table(epath.Path(folder) / "rows.jsonl", "train") == examples


def test_ids_empty_cells_blank_lines_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(b'\xef\xbb\xbfinput, label\r\n"a, ""b""\nc",yes\r\n\r\nd,\r\n')
    first, second = read_table(path, "test", labels=["yes", "no"])
    assert (first.id, first.input, first.label) == ("mine/test/0", 'a, "b"\nc', "yes")
    assert (second.id, second.label, second.choices) == ("mine/test/1", None, ("yes", "no"))


BAD = {
    "input;label\na;b\n": r"rows\.csv:1: the columns \(input;label\) seem to be separated by semi",
    "input\tlabel\na\tb\n": r"seem to be separated by tabs; expected commas: rename it to \.tsv",
    "": r"rows\.csv has no rows",
    "input,label\n": r"rows\.csv has no rows",
    "inptu,label\na,b\n": r"rows\.csv:1: unknown column 'inptu'; closest: input",
    "input,label,\na,b,c\n": r"rows\.csv:1: column 3 has no name",
    "input,Teacher Label\na,b\n": r"unknown column 'Teacher Label'; closest: teacher_label",
    "label,rationale\na,b\n": r"rows\.csv:1: no column `input`",
    f"{'x' * 500}\na\n": r"rows\.csv:1: no column `input`.* has 'x{199}\.\.\.$",
    "input,input\na,b\n": r"rows\.csv:1: duplicate column 'input'",
    "input,label\na,b\nc,d,e\n": r"rows\.csv:3: got 3 cells, expected 2",
    "input,label\n\na\n": r"rows\.csv:3: got 1 cell, expected 2",
    'input,label\n"a\nb",c\n"d\ne"\n': r"rows\.csv:4: got 1 cell,",
    'input,label\na,b\n"c,d\n': r"rows\.csv:3: not CSV .*double quote",
    'input,label\n"a" b,c\n': r"rows\.csv:2: not CSV",
    "input,choices\na,yes|no\n": r"rows\.csv:2: got 'yes\|no' for `choices`, expected a JSON",
    'input,choices\na,"[1]"\n': r"rows\.csv:2: got \[1\] for `choices`",
    "input,label\n,b\n": r"rows\.csv:2: `input` is missing or empty",
    "input,other\n,b\n": r"rows\.csv:2: `input` is missing or empty",
    "id,input\n1,a\n1,b\n": r"rows\.csv:3: duplicate id '1', already used in line 2",
    "input\na\n\xff\n": r"rows\.csv:3: not UTF-8",
}


@pytest.mark.parametrize("text", BAD)
def test_what_is_wrong_is_named_to_the_line(tmp_path, text):
    (tmp_path / "rows.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=BAD[text]):
        read_table(tmp_path / "rows.csv", "train")


def test_the_dataset_takes_a_csv_and_a_jsonl_file(tmp_path):
    (tmp_path / "train.csv").write_text("input,label\na,yes\n")
    (tmp_path / "test.jsonl").write_text('{"input": "b", "label": "no"}\n')
    options = {"train_file": tmp_path / "train.csv", "test_file": tmp_path / "test.jsonl"}
    train, test = jsonl.DATASET.load(DataSpec("jsonl", "finetune", dataset_options=options))
    assert [(row.input, row.label) for row in [*train, *test]] == [("a", "yes"), ("b", "no")]


def test_other_columns_are_carried_through(tmp_path):
    (tmp_path / "rows.csv").write_text("idx,input,customer\n7,a,\n8,b,ann\n")
    first, second = read_table(tmp_path / "rows.csv", "train")
    assert (dict(first.extra), dict(second.extra)) == (
        {"idx": "7"},
        {"idx": "8", "customer": "ann"},
    )
    write_jsonl(tmp_path / "rows.jsonl", [first, second])
    assert read_table(tmp_path / "rows.jsonl", "train") == [first, second]
    assert hash(first) != hash(second)
