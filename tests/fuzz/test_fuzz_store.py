"""Any lines in a store of answers give records or a UserError, never another exception."""

import json
import shutil

import hypothesis
from hypothesis import strategies as st

from distill.errors import UserError
from distill.teacher.storage.store import Store

KEY = "0" * 31
SOUND = {"key": KEY + "1", "ok": True, "id": "a", "digest": "d", "sample": 0, "completion": "x"}
values = st.one_of(st.none(), st.integers(), st.text(max_size=4), st.lists(st.integers()))
records = st.dictionaries(st.sampled_from([*SOUND, "failure", "usage"]), values, max_size=4).map(
    lambda changes: json.dumps({**SOUND, **changes}).encode()
)
HEAD = b'{"key": "' + KEY.encode() + b'2", "ok": true, '
lines = st.one_of(
    records,
    st.binary(max_size=30),
    st.binary(max_size=30).map(lambda rest: HEAD + rest + b"}"),
    st.sampled_from(
        [HEAD + b'"id": ' + b"[" * 100_000 + b"}", HEAD + b'"id": ' + b"9" * 6000 + b"}"]
    ),
)
names = st.sampled_from(["shard-00000.jsonl", "shard-00003.jsonl", "shard-99999999.jsonl", "x"])


@hypothesis.given(
    st.dictionaries(names, st.lists(lines, max_size=3), max_size=3),
    st.one_of(st.just(b'{"schema": 1}'), st.binary(max_size=12)),
    st.booleans(),
)
@hypothesis.example({"shard-99999999.jsonl": []}, b'{"schema": 1}', True)
@hypothesis.example({"shard-00000.jsonl": [HEAD + b"}", b"{}"]}, b'{"schema": 1}', True)
@hypothesis.example(
    {"shard-00000.jsonl": [HEAD + b'"completion": 3}', b""]}, b'{"schema": 1}', False
)
@hypothesis.example({}, b"[" * 100_000, True)
def test_a_store_is_read_or_refused(count, tmp_path_factory, shards, header, remote):
    count()
    folder = tmp_path_factory.getbasetemp() / "fuzz.store"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "store.json").write_bytes(header)
    (folder / "asked-x.json").write_bytes(header)
    for name, content in shards.items():
        (folder / name).write_bytes(b"\n".join([*content, b""]))
    try:
        with Store(folder, remote=remote) as store:
            for record in store.records():
                assert isinstance(record["completion" if record["ok"] else "failure"], str)
                assert store.get(record["key"])
            store.described()
    except UserError as error:
        assert str(error)
