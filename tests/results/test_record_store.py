"""records.jsonl: nothing is lost by a kill or by several writers; every damage has a message."""

from __future__ import annotations

import json
import os
import re
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import UserError
from distill.results import store
from distill.results.record import FIELDS, FORMAT, from_json


def test_what_is_appended_is_read(tmp_path, make_record, make_failure):
    given = [make_record(), make_failure(run="b"), make_record(run="b", attempt=2)]
    for record in given:
        store.append(tmp_path / "out", record)
    assert store.read_all(tmp_path / "out") == given
    assert store.read(tmp_path / "out" / "records.jsonl") == [given[0], given[2]]


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.text()
        | st.integers(-(2**53), 2**53)
        | st.booleans()
        | st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_axes_come_back_in_their_order(make_record, axes):
    record = make_record(axes=axes)
    again = from_json(json.loads(json.dumps(record.to_json())), "x")
    assert again == record and list(again.axes) == list(axes)


def test_a_line_cut_off_at_any_byte_is_reported_and_replaced(tmp_path, make_record):
    first, second = make_record(), make_record(run="é")
    store.append(tmp_path, first)
    path = tmp_path / "records.jsonl"
    before = path.read_bytes()
    store.append(tmp_path, second)
    line = path.read_bytes()[len(before) :]
    for length in (1, 2, len(line) // 2, line.index("é".encode()) + 1, len(line) - 2):
        path.write_bytes(before + line[:length])
        said: list[str] = []
        assert store.read(tmp_path, said.append) == [first]
        assert len(said) == 1 and "records.jsonl:2: cut off" in said[0]
        store.append(tmp_path, second, said.append)
        assert len(said) == 2 and "removing" in said[1]
        assert path.read_bytes() == before + line
    path.write_bytes(before + line[:-1])  # whole, without its line break
    assert store.read(tmp_path, pytest.fail) == [first, second]
    store.append(tmp_path, first, pytest.fail)
    assert store.read_all(tmp_path, pytest.fail) == [first, second, first]


def test_a_line_that_is_longer_than_a_block_is_removed_whole(tmp_path, make_record, monkeypatch):
    monkeypatch.setattr(store, "_BLOCK", 16)
    store.append(tmp_path, make_record())
    path = tmp_path / "records.jsonl"
    before = path.read_bytes()
    path.write_bytes(before + b"x" * 100)
    store.append(tmp_path, make_record(), lambda line: None)
    assert path.read_bytes() == before * 2


def _append_many(folder, records):
    for record in records:
        store.append(folder, record)


def test_two_writers_append_at_once_and_lose_nothing(tmp_path, make_record):
    """Threads stand for processes: the kernel locks per opened file."""
    given = [
        [make_record(run=f"{name}{number}", error=None) for number in range(60)] for name in "ab"
    ]
    writers = [threading.Thread(target=_append_many, args=(tmp_path, records)) for records in given]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = store.read(tmp_path, pytest.fail)
    for records in given:
        assert [each for each in found if each.run[0] == records[0].run[0]] == records


def test_a_full_disk_leaves_what_was_there(tmp_path, make_record, monkeypatch):
    store.append(tmp_path, make_record())
    path = tmp_path / "records.jsonl"
    before, write = path.read_bytes(), os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:20]))
    with pytest.raises(UserError, match="No space left"):
        store.append(tmp_path, make_record(run="b"))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "records.jsonl:1: got a record of format 2, expected 1: read the file"),
        ({"acuracy": 0.5}, "unknown field 'acuracy'; closest: accuracy"),
        ({"latency_ms": 2.0}, "unknown field 'latency_ms'"),
        ({"run": None}, "got None for the field 'run', expected a string"),
        ({"accuracy": "0.5"}, "got '0.5' for the field 'accuracy', expected a number or null"),
        ({"accuracy": float("nan")}, "got nan for the field 'accuracy'"),
        ({"accuracy": 1.5}, "got accuracy 1.5, expected a number from 0 to 1"),
        ({"interval": [0.1]}, "expected a list of 2 numbers or null"),
        ({"axes": {"a": None}}, "an object whose values are each a string or an integer"),
        ({"gin_files": [1]}, "expected a list of strings"),
        ({"attempt": 0}, "got attempt 0, expected 1 or more"),
        ({"seed": True}, "got True for the field 'seed', expected an integer"),
        ({"status": "running"}, "got status 'running', expected 'done' or 'failed'"),
        ({"error": "x"}, "got error 'x' with status 'done'"),
    ],
)
def test_a_bad_record_has_a_message(changes, message, tmp_path, make_record):
    (tmp_path / "records.jsonl").write_text(json.dumps(make_record().to_json() | changes) + "\n")
    with pytest.raises(UserError, match=re.escape(message)):
        store.read(tmp_path)


def test_a_field_that_was_always_null_may_stand_in_old_records(make_record):
    record = make_record()
    assert from_json(record.to_json() | {"latency_ms": None}, "x") == record


def test_a_missing_field_and_a_missing_file_have_messages(tmp_path, make_record):
    with pytest.raises(UserError, match=r"does not exist.*`distill sweep` writes it"):
        store.read(tmp_path)
    with pytest.raises(UserError, match="gs://b/c, expected a local folder"):
        store.read("gs://b/c")
    content = make_record().to_json()
    assert next(iter(content)) == "format" and set(content) == set(FIELDS)
    del content["host"]
    with pytest.raises(UserError, match="x: the field 'host' is missing"):
        from_json(content, "x")
    (tmp_path / "records.jsonl").write_text("{]\n{}\n")
    with pytest.raises(UserError, match=r"records\.jsonl:1: not JSON"):
        store.read(tmp_path)
    assert FORMAT == 1
