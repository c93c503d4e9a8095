"""Any bytes of a file of rows give rows or a UserError, never another exception."""

import json

import hypothesis
from hypothesis import strategies as st

from distill.data import tables
from distill.data.examples import FIELDS
from distill.errors import UserError
from distill.inference import inputs

values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=6),
        st.sampled_from(["yes", "\ud800", "\x1b]0;owned\x07", "no_answer", "test", "  "]),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
objects = st.dictionaries(st.sampled_from([*FIELDS, "lable"]), values, max_size=5)
lines = st.one_of(
    objects.map(lambda fields: json.dumps(fields).encode()),
    values.map(lambda value: json.dumps(value).encode()),
    st.binary(max_size=30),
    st.sampled_from(
        [
            b"[" * 100_000,
            b'{"input": ' * 100_000,
            b'{"input": ' + b"9" * 6000 + b"}",
            b"\xef\xbb\xbf",
        ]
    ),
)
cells = st.one_of(
    st.sampled_from([*FIELDS, '"', '""', "[", "9" * 6000, "[" * 50_000, '["a", "a"]', "\x00"]),
    st.text(max_size=6),
)
csv_text = st.lists(st.lists(cells, max_size=4).map(",".join), max_size=4).map("\n".join)
contents = st.one_of(st.lists(lines, max_size=4).map(b"\n".join), st.binary(max_size=60))


def _read(function, *arguments):
    try:
        for row in function(*arguments):
            assert row.input.strip() and row.id.strip()
    except UserError as error:
        assert str(error)


@hypothesis.given(contents)
@hypothesis.example(b"\xef\xbb\xbf")
@hypothesis.example("\u2003\n".encode())
@hypothesis.example(b"[" * 100_000)
@hypothesis.example(b'{"input": ' + b"9" * 6000 + b"}")
@hypothesis.example(b'{"input": "x", "choices": [[]]}')
def test_jsonl_rows_are_read_or_refused(count, tmp_path_factory, content):
    count()
    path = tmp_path_factory.getbasetemp() / "fuzz.jsonl"
    path.write_bytes(content)
    _read(tables.read_table, path, "test", ("yes", "no"))
    _read(tables.open_table, path, "test")
    _read(lambda: inputs.of_stdin(content.splitlines(keepends=True)).rows)


@hypothesis.given(
    st.one_of(csv_text.map(lambda text: text.encode("utf-8")), st.binary(max_size=60))
)
@hypothesis.example(b"input,choices\nx," + b"[" * 50_000)
@hypothesis.example(b"input,choices\nx," + b"9" * 6000)
@hypothesis.example(b'input\n"' + b"x" * 200_000 + b'"\n')
def test_csv_rows_are_read_or_refused(count, tmp_path_factory, content):
    count()
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes(content)
    _read(tables.read_table, path, "test", ("yes", "no"))
