"""Rows of files and stdin: how their format is detected, and the messages about bad rows."""

from __future__ import annotations

import pytest

from distill.data.examples import read_jsonl
from distill.data.mapping.row_mapping import mapping_of
from distill.errors import UserError
from distill.inference import inputs
from distill.teacher.sources import from_file

BOM = b"\xef\xbb\xbf"


def _texts(source: inputs.RowSource) -> list[str]:
    return [row.input for row in source.rows]


def test_a_format_that_is_given_goes_before_the_name(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('input\n{"a"\n')
    assert _texts(inputs.of_file(str(path), "text")) == ["input", '{"a"']
    with pytest.raises(UserError, match=r"rows\.jsonl:1: not JSON"):
        inputs.of_file(str(path))
    (tmp_path / "rows.txt").write_text("input,id\na,1\n")
    assert _texts(inputs.of_file(str(tmp_path / "rows.txt"), "csv")) == ["a"]


TWICE = [b'{"input": "a"}\n', b'{"input": "b", "note": {"x": 1, "x": 1}}\n', b'{"input": "c"}\n']


@pytest.mark.parametrize("read", [inputs.of_file, read_jsonl, from_file, inputs.labeled_of_file])
@pytest.mark.parametrize("line", [b'{"input": "a", "input": "b", "label": "c"}', TWICE[1]])
def test_a_field_stands_once(read, line, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(TWICE[0] + line)
    arguments = (path, "train") if read in (read_jsonl, from_file) else (str(path),)
    with pytest.raises(UserError, match=r"rows.jsonl:2: the field '(input|x)' occurs twice in one"):
        read(*arguments)
    with pytest.raises(UserError, match=r"stdin:2: the field '(input|x)' occurs twice in one"):
        _texts(inputs.of_stdin([TWICE[0], line]))


def test_all_texts_are_read_before_the_first_is_answered(tmp_path):
    path = tmp_path / "rows.txt"
    path.write_bytes(b"one\n" * 50 + b"caf\xe9\n")
    with pytest.raises(UserError, match=r"rows\.txt:51: not UTF-8"):
        inputs.of_file(str(path))


def test_other_texts_are_other_rows(tmp_path):
    """A file of answers is gone on with only if its rows are the same."""
    path = tmp_path / "rows.txt"
    described = []
    for content in ("one\n", "two\n", "one\n"):
        path.write_text(content)
        described.append(inputs.of_file(str(path)).described)
    assert described[0] == described[2] != described[1]


@pytest.mark.parametrize("start", [b"", BOM, b"\n\n", BOM + b"\n"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_line_numbers_of_stdin_count_every_line(start, end):
    before = start.count(b"\n")

    def of(*lines):
        content = start + b"".join(line + end for line in lines)
        return inputs.of_stdin(content.splitlines(keepends=True))

    with pytest.raises(UserError, match=rf"^stdin:{before + 3}: got 1 cell, expected 2"):
        of(b"input,id", b"a,1", b"b")
    with pytest.raises(UserError, match=rf"^stdin:{before + 2}: not JSON"):
        _texts(of(b'{"input": "a"}', b"b"))
    source = of(b"a b", b"", b"c")
    assert [(row.id, row.input) for row in source.rows] == [
        (f"stdin:{before + 1}", "a b"),
        (f"stdin:{before + 3}", "c"),
    ]
    assert source.blank_lines == [*range(1, before + 1), before + 2]
    json_rows = of(b'{"input": "a"}', b"", b'{"input": "b"}')
    assert _texts(json_rows) == ["a", "b"] and json_rows.blank_lines == []


def test_a_header_without_rows_is_refused():
    for given in (None, "csv"):
        with pytest.raises(UserError, match="stdin has no rows"):
            inputs.of_stdin([b"input,label\n"], given)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (b"text,label", "names columns (text, label), but no column `input`"),
        (b'"Question", "id"'.replace(b" ", b""), "names columns (Question, id), but no column"),
        (b"input\tlabel", "names columns separated by tabs (input, label), expected commas"),
    ],
)
def test_a_header_without_inputs_is_no_text(first, message, tmp_path):
    lines = [first + b"\n", b"my fan,repair\n"]
    with pytest.raises(UserError, match=r"stdin:1: the first line names columns") as refused:
        inputs.of_stdin(lines)
    assert message in str(refused.value) and "--format=text" in str(refused.value)
    assert len(_texts(inputs.of_stdin(lines, "text"))) == 2
    path = tmp_path / "rows.txt"
    path.write_bytes(b"\n" + b"".join(lines))
    with pytest.raises(UserError, match=r"rows.txt:2: the first line names columns"):
        inputs.of_file(str(path))


@pytest.mark.parametrize(
    "first", [b"hello, world", b"refund , please", b"text", b"a,b", b"my label"]
)
def test_texts_with_commas_are_texts(first):
    assert _texts(inputs.of_stdin([first + b"\n"])) == [first.decode()]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["ticket_text,customer_id", "hello,5"], "(ticket_text, customer_id), but no column"),
        (["ticket_text;customer_id"], "separated by semicolons (ticket_text, customer_id)"),
        (["ticket_text\tcustomer_id", "hello\t5"], "separated by tabs (ticket_text, customer_id)"),
        (["ticket_text|stars"], "separated by vertical bars (ticket_text, stars)"),
        (["review_text;stars", '"the app; it freezes";5'], "by semicolons (review_text, stars)"),
        (['"review_text","stars"', '"the app, it freezes",5'], "(review_text, stars), but no"),
        (["input;label"], "separated by semicolons (input, label), expected commas"),
        (["x,y", "hello,5", "the app,4"], "all lines have 2 cells separated by commas, but no"),
        (["x,y", '"hello, all",5'], "all lines have 2 cells separated by commas"),
        (["body;stars", "", "hello;5"], "all lines have 2 cells separated by semicolons"),
    ],
)
def test_a_header_of_other_names_or_separators_is_no_text(lines, message, tmp_path):
    content = "".join(f"{line}\n" for line in lines).encode()
    with pytest.raises(
        UserError, match=r"stdin:1: the first line (seems to name|names)"
    ) as refused:
        inputs.of_stdin(content.splitlines(keepends=True))
    assert message in str(refused.value) and "--format=text" in str(refused.value)
    path = tmp_path / "rows.txt"
    path.write_bytes(b"\xef\xbb\xbf\n" + content)
    with pytest.raises(UserError, match=r"rows\.txt:2: the first line") as refused:
        inputs.of_file(str(path))
    assert message in str(refused.value)
    texts = inputs.of_file(str(path), "text")
    assert _texts(texts) == [line for line in lines if line] and texts.name.endswith("per line)")


@pytest.mark.parametrize(
    "lines",
    [
        ["yes, no", "no, maybe", "well, yes"],
        ["yes,no", "the fan is broken, i think", "i bought it in march"],
        ["x,y"],
        ["hello; my app freezes", "and now; it does not"],
        ["please open my_file, it is stuck on step_two of the list"],
        ["my_file, it is stuck on step two of the list"],
        ["my answer is no; text"],
        ["3,5", "4,6"],
        ["fan|broken", "the kettle"],
        ["fan,broken", 'the "kettle, too', "i mean it"],
    ],
)
def test_prose_with_separators_is_text(lines, tmp_path):
    content = "".join(f"{line}\n" for line in lines).encode()
    source = inputs.of_stdin(content.splitlines(keepends=True))
    assert _texts(source) == lines and source.name == "stdin (one text per line)"
    (tmp_path / "rows.txt").write_bytes(content)
    assert _texts(inputs.of_file(str(tmp_path / "rows.txt"))) == lines


@pytest.mark.parametrize("name", ["text", "Question", "review_text"])
def test_a_first_text_that_may_be_a_column_is_named(name, tmp_path):
    source = inputs.of_stdin([f"{name}\n".encode(), b"\n", b"hello\n"])
    assert source.name == f"stdin (one text per line, the first is '{name}')"
    assert _texts(source) == [name, "hello"] and source.blank_lines == [2]
    path = tmp_path / "rows.txt"
    path.write_text(f"{name}\nhello\n")
    assert inputs.of_file(str(path)).name.endswith(f"(one text per line, the first is '{name}')")


def test_rows_of_another_split_are_refused_in_a_file_and_on_stdin(tmp_path):
    line = b'{"input": "a", "split": "train"}\n'
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line)
    message = r":1: the row has split 'train', but is read as 'test'; give the right rows"
    with pytest.raises(UserError, match=rf"rows\.jsonl{message}"):
        inputs.of_file(str(path))
    with pytest.raises(UserError, match=f"stdin{message}"):
        _texts(inputs.of_stdin([line]))
    assert _texts(inputs.of_stdin([line.replace(b"train", b"test")])) == ["a"]


def test_texts_with_fields_are_told_to_have_none(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("my screen is wrong , please help\nmy fan seems burnt .\n")
    mapping = mapping_of(["input=message"])
    with pytest.raises(
        UserError, match=r"unknown column 'message'.*texts.txt has one text per line"
    ):
        inputs.of_file(str(path), mapping=mapping)
