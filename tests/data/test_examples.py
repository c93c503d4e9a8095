"""Examples survive their files, and bad files are named to the line."""

from __future__ import annotations

import ast
import json
import re
import tempfile

import pytest
from etils import epath
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data.examples import Example, Failure, read_jsonl, write_jsonl
from distill.data.mapping.row_mapping import mapping_of_settings
from distill.data.row_file import index_jsonl
from distill.errors import UserError

TEXT = st.text(min_size=1, max_size=20).filter(str.strip)
MAYBE = st.none() | TEXT


@st.composite
def rows(draw) -> Example:
    choices = draw(st.lists(TEXT, max_size=3, unique=True).map(tuple))
    label = st.sampled_from(choices) if choices else TEXT
    return Example(
        id=draw(TEXT),
        input=draw(TEXT),
        label=draw(st.none() | label),
        teacher_label=draw(st.none() | label),
        rationale=draw(MAYBE),
        failure=draw(st.none() | st.sampled_from(Failure)),
        choices=choices,
        split="train",
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(rows(), min_size=1, max_size=4, unique_by=lambda row: row.id))
def test_written_rows_are_read_back_the_same(examples):
    with tempfile.TemporaryDirectory() as folder:
        path = epath.Path(folder) / "new" / "rows.jsonl"
        write_jsonl(path, examples)
        assert read_jsonl(path, "train") == examples
        assert [p.name for p in path.parent.iterdir()] == ["rows.jsonl"]


def test_line_separators_inside_a_text_do_not_split_the_row(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"input": "a\u2028b\x85c"}, ensure_ascii=False) + "\n")
    assert read_jsonl(file, "train")[0].input == "a\u2028b\x85c"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [Example(id="a", input="old")])

    def broken():
        yield Example(id="b", input="new")
        raise RuntimeError("the machine stops")

    with pytest.raises(RuntimeError):
        write_jsonl(path, broken())
    assert read_jsonl(path, "")[0].input == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_ids_default_to_stem_split_row_and_blank_lines_do_not_count(tmp_path):
    file = tmp_path / "tickets.jsonl"
    file.write_bytes(
        b'\xef\xbb\xbf{"input": "a"}\r\n\n{"input": "b", "id": "mine"}\n{"input": "c"}'
    )
    found = read_jsonl(file, "test")
    assert [row.id for row in found] == ["tickets/test/0", "mine", "tickets/test/2"]
    assert {row.split for row in found} == {"test"}


def test_a_teacher_label_outside_the_set_is_a_stored_failure(tmp_path):
    file = tmp_path / "a.jsonl"
    row = {"input": "a", "label": "yes", "teacher_label": "perhaps", "rationale": "r"}
    file.write_text(json.dumps(row))
    (read,) = read_jsonl(file, "train", labels=["yes", "no"])
    assert (read.teacher_label, read.failure) == (None, "label_outside_set")
    assert (read.label, read.rationale, read.choices) == ("yes", "r", ("yes", "no"))


def test_a_gold_label_outside_the_set_names_the_set_and_the_closest(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"input": "a", "label": "bilding"}))
    expected = (
        r"a\.jsonl:1: gold label 'bilding' is not one of LABELS \(billing, other\); closest: "
        "billing; correct the label or LABELS$"
    )
    for read in (read_jsonl, index_jsonl):
        with pytest.raises(UserError, match=expected):
            read(file, "train", labels=["billing", "other"])
    file.write_text(json.dumps({"input": "a", "label": "x", "choices": ["billing", "other"]}))
    with pytest.raises(UserError, match=r"'x' is not one of `choices` \(billing, other\); correct"):
        read_jsonl(file, "train", labels=["x"])


def test_a_row_without_input_is_told_its_fields_and_how_to_map_them(tmp_path):
    file = tmp_path / "a.jsonl"
    expected = (
        r"a\.jsonl:1: no field `input`, only {}; rename one, or map one of a file with --field "
        r"'input=\{{{}\}}' \(macro FIELDS = (\{{'input': '\{{{}\}}'\}})\)$"
    )
    rows = [
        ({"n": 1, "text": "late", "category": "shipping"}, "'n', 'text', 'category'", "text"),
        ({"n": 1}, "'n'", "NAME"),
        ({f"f{i:02}": "x" for i in range(12)}, ".*'f09', ...", "f00"),
    ]
    for row, names, slot in rows:
        file.write_text(json.dumps(row))
        for read in (read_jsonl, index_jsonl):
            with pytest.raises(UserError, match=expected.format(names, slot, slot)) as error:
                read(file, "train")
            macro = re.search(expected.format(names, slot, slot), str(error.value))[1]
            assert mapping_of_settings(ast.literal_eval(macro), ()).templates.keys() == {"input"}
    file.write_text('{"n": 1, "input": null}')  # it has the field
    with pytest.raises(UserError, match="`input` is missing or empty, expected text"):
        read_jsonl(file, "train")


def test_a_rows_own_choices_go_before_the_files(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"input": "a", "label": "c", "choices": ["c", "d"]}))
    assert read_jsonl(file, "train", labels=["yes", "no"])[0].choices == ("c", "d")


@pytest.mark.parametrize("blank", ["", "  \n"])
def test_blank_teacher_fields_count_as_missing(tmp_path, blank):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"input": "a", "teacher_label": blank, "rationale": blank}))
    (row,) = read_jsonl(file, "train")
    assert row.teacher_label is None and row.rationale is None


def test_whole_numbers_as_ids_become_texts(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"id": 7, "input": "a"}\n{"id": "x", "input": "b"}\n{"id": 0, "input": "c"}')
    assert [row.id for row in read_jsonl(file, "train")] == ["7", "x", "0"]
    file.write_text('{"id": 7, "input": "a"}\n{"id": "7", "input": "b"}')
    with pytest.raises(UserError, match=r":2: duplicate id '7', already used in line 1"):
        read_jsonl(file, "train")


GOOD = '{"id": "x", "input": "a"}'
BAD_LINES = {
    "misspelled field": (
        '{"input": "a", "ratoinale": "b"}',
        "unknown field 'ratoinale'",
        "rationale",
    ),
    "an id that is no number of a row": (
        '{"id": 1.5, "input": "a"}',
        "got 1.5 for `id`",
        "integer",
    ),
    "a truth value as id": ('{"id": true, "input": "a"}', "got True for `id`", "integer"),
    "no input": ('{"id": "a"}', "`input` is missing or empty", "expected text"),
    "an object of several lines": ("{", "not JSON", "this one goes on in the next line"),
    "blank input": ('{"input": " "}', "`input` is blank", "expected text"),
    "number as label": (
        '{"input": "a", "label": 1}',
        "got 1 for `label`",
        'expected a string ("1")',
    ),
    "blank label": ('{"input": "a", "label": ""}', "`label` is blank", "expected text"),
    "gold outside": ('{"input": "a", "label": "maybe"}', "gold label 'maybe'", "yes, no"),
    "broken JSON": ('{"input": "a"', "not JSON", "column"),
    "a list": ('["a"]', "JSON list", "expected an object"),
    "choices text": ('{"input": "a", "choices": "ab"}', "'ab' for `choices`", "list of strings"),
    "choices twice": ('{"input": "a", "choices": ["b", "b"]}', "contains a duplicate", "`choices`"),
    "failure": ('{"input": "a", "failure": "no_anwser"}', "'no_anwser'", "no_answer"),
    "same id": (GOOD, "duplicate id 'x', already used in line 1", "ids must be unique"),
    "other split": ('{"input": "a", "split": "test"}', "split 'test'", "read as 'train'"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_named_with_file_and_line(tmp_path, case):
    line, got, expected = BAD_LINES[case]
    file = tmp_path / "rows.jsonl"
    file.write_text(f"{GOOD}\n\n{line}\n")
    with pytest.raises(UserError) as error:
        read_jsonl(file, "train", labels=["yes", "no"])
    message = str(error.value)
    assert message.startswith(f"{file}:3: ")
    assert got in message and expected in message


def test_bytes_that_are_not_utf8_are_named(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"input": "caf\xe9"}\n')
    with pytest.raises(UserError, match=r"rows\.jsonl:1: not UTF-8"):
        read_jsonl(file, "train")


def test_missing_empty_and_folder_paths_say_what_is_there(tmp_path):
    (tmp_path / "train.jsonl").write_text("\n")
    with pytest.raises(
        UserError, match=r"trian\.jsonl does not exist; closest in its folder: train\.jsonl"
    ):
        read_jsonl(tmp_path / "trian.jsonl", "train")
    with pytest.raises(
        UserError, match=r"a\.jsonl does not exist; the folder .*nowhere does not exist"
    ):
        read_jsonl(tmp_path / "nowhere" / "a.jsonl", "train")
    with pytest.raises(UserError, match="has no rows"):
        read_jsonl(tmp_path / "train.jsonl", "train")
    with pytest.raises(UserError, match="is a folder"):
        read_jsonl(tmp_path, "train")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lable", "label"),
        ("inptu", "input"),
        ("inputs", "input"),
        ("Label", "label"),
        ("ID", "id"),
        ("teacher label", "teacher_label"),
        ("teachr_labl", "teacher_label"),
        ("rationals", "rationale"),
        *((name, None) for name in ("idx", "uid", "level", "text", "customer", "source", "title")),
    ],
)
def test_a_field_is_extra_unless_it_looks_like_one_of_ours(name, meant):
    fields = {"id": "1", "input": "a", name: [1]}
    if meant is None:
        assert Example.from_dict(fields).to_dict() == fields
        return
    with pytest.raises(UserError, match=f"unknown field '{name}'; closest: {meant}"):
        Example.from_dict(fields)
