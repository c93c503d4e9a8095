"""The store: nothing is lost, nothing counts twice, one writer at a time."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from distill.errors import UserError
from distill.teacher.storage.store import Store


def _record(number, ok=True, **more):
    fields = {"key": f"{number:032x}", "ok": ok, "id": f"row/{number}"}
    return fields | ({"completion": f"text {number} é \ud800"} if ok else {"failure": "f"}) | more


def _fill(store, numbers):
    for number in numbers:
        store.append(_record(number))


@pytest.fixture(params=[False, True], ids=["local", "remote"])
def remote(request):
    return request.param


def test_records_come_back_across_openings_and_shards(tmp_path, remote):
    settings = {"remote": remote, "sync_records": 3, "shard_records": 4}
    with Store(tmp_path / "s", **settings) as store:
        _fill(store, range(10))
        assert store.get(_record(9)["key"]) == _record(9)
    with Store(tmp_path / "s", **settings) as store:
        _fill(store, range(10, 13))
    with Store(tmp_path / "s", **settings) as store:
        assert [r["id"] for r in store.records()] == [f"row/{n}" for n in range(13)]
        assert all(store.get(_record(n)["key"]) == _record(n) for n in range(13))
        assert store.state(_record(3)["key"]) is True
        assert store.state(_record(99)["key"]) is None and store.get(_record(99)["key"]) is None
    shards = sorted(p.name for p in (tmp_path / "s").glob("shard-*"))
    assert shards == [f"shard-{n:05d}.jsonl" for n in range(len(shards))] and len(shards) > 2


def test_an_answer_goes_before_failures_whatever_came_first(tmp_path):
    with Store(tmp_path / "s") as store:
        store.append(_record(1, ok=False))
        assert store.state(_record(1)["key"]) is False
        store.append(_record(1))
        store.append(_record(1, ok=False))
        assert store.state(_record(1)["key"]) is True
    with Store(tmp_path / "s") as store:
        assert store.get(_record(1)["key"]) == _record(1)
        assert len([*store.records()]) == 1


@pytest.mark.parametrize("cut", [1, 2, 30, 70])
def test_a_torn_last_line_heals(tmp_path, cut, capsys):
    with Store(tmp_path / "s") as store:
        _fill(store, range(5))
    shard = tmp_path / "s" / "shard-00000.jsonl"
    os.truncate(shard, shard.stat().st_size - cut)
    with Store(tmp_path / "s", read_only=True):
        assert capsys.readouterr().err == ""
    with Store(tmp_path / "s") as store:
        told = "the last record was cut off when its writer was killed; its row is requested again"
        assert capsys.readouterr().err == f"{shard}: {told}\n"
        assert len([*store.records()]) == 4
        assert store.state(_record(4)["key"]) is None
        _fill(store, [4, 5])
    with Store(tmp_path / "s") as store:
        assert [r["id"] for r in store.records()] == [f"row/{n}" for n in range(6)]
    assert capsys.readouterr().err == ""


def test_a_bad_line_elsewhere_is_named(tmp_path):
    with Store(tmp_path / "s") as store:
        _fill(store, range(5))
    shard = tmp_path / "s" / "shard-00000.jsonl"
    lines = shard.read_bytes().split(b"\n")
    shard.write_bytes(b"\n".join([*lines[:2], lines[2][:-9], *lines[3:]]))
    with pytest.raises(UserError, match=r"shard-00000.jsonl:3: not a record"):
        Store(tmp_path / "s")


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path):
    code = (
        "import sys\nfrom distill.errors import UserError\n"
        "from distill.teacher.storage.store import Store\n"
        "try: Store(sys.argv[1])\n"
        "except UserError as e: sys.exit(f'refused: {e}')\n"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "s")]
    with Store(tmp_path / "s"):
        done = subprocess.run(argv, capture_output=True, text=True)
        assert done.returncode == 1
        assert f"in use by process {os.getpid()}" in done.stderr
        with Store(tmp_path / "s", read_only=True) as reader:  # reading is free
            assert not [*reader.records()]
    assert subprocess.run(argv).returncode == 0


def test_the_second_of_two_processes_is_refused_on_an_object_store(tmp_path):
    with Store(tmp_path / "s", remote=True):
        with pytest.raises(UserError, match=r"s is in use by process \d+ on .* since 2"):
            Store(tmp_path / "s", remote=True)
        with Store(tmp_path / "s", remote=True, read_only=True) as reader:
            assert not [*reader.records()]
    with Store(tmp_path / "s", remote=True):
        pass


def test_an_object_of_another_process_is_not_overwritten(tmp_path):
    store = Store(tmp_path / "s", remote=True, sync_records=100)
    _fill(store, [1])
    (tmp_path / "s" / "shard-00000.jsonl").write_text("of the other\n")
    with pytest.raises(UserError, match=r"another process wrote .*shard-00000.jsonl"):
        store.sync()
    with pytest.raises(UserError, match="another process wrote"):
        store.close()
    assert (tmp_path / "s" / "shard-00000.jsonl").read_text() == "of the other\n"


def test_each_sync_writes_the_newest_object_again(tmp_path):
    shards = []
    with Store(tmp_path / "s", remote=True, sync_records=2, shard_records=4) as store:
        for number in range(9):
            _fill(store, [number])
            files = sorted((tmp_path / "s").glob("shard-*.jsonl"))
            shards.append([file.read_bytes().count(b"\n") for file in files])
    assert shards == [[], [2], [2], [4], [4], [4, 2], [4, 2], [4, 4], [4, 4]]
    with Store(tmp_path / "s", remote=True) as store:
        assert [*store.records()] == [_record(number) for number in range(9)]


def test_objects_are_read_once_though_rows_cross_their_bounds(tmp_path, monkeypatch):
    with Store(tmp_path / "s", remote=True, shard_records=10) as store:
        _fill(store, range(101))
        reads = []

        class Counted:
            def __init__(self, path):
                self.path, self.name = path, path.name

            def read_bytes(self):
                reads.append(self.path.name)
                return self.path.read_bytes()

        monkeypatch.setattr(store, "_shards", [Counted(path) for path in store._shards])
        for number in [n + step for n in range(0, 90, 10) for step in (9, 10, 8, 11)]:
            assert store.get(_record(number)["key"]) == _record(number)
        assert len(reads) == len(set(reads)) == 10


def test_a_full_disk_is_said_and_leaves_no_half_line(tmp_path, monkeypatch):
    write = os.write

    def half_then_full(fd, data):
        if len(data) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[: len(data) // 2])

    with Store(tmp_path / "s") as store:
        _fill(store, [1])
        monkeypatch.setattr(os, "write", half_then_full)
        with pytest.raises(UserError, match=r"shard-00000.jsonl: cannot be written \(No space"):
            _fill(store, [2])
        monkeypatch.setattr(os, "write", write)
        assert store.state(_record(2)["key"]) is None
        _fill(store, [3])
    with Store(tmp_path / "s") as store:
        assert [r["id"] for r in store.records()] == ["row/1", "row/3"]


def test_very_long_completions_come_back_and_a_shard_cut_meanwhile_is_named(tmp_path):
    long = _record(1, completion="x" * 3_000_000)
    with Store(tmp_path / "s") as store:
        store.append(long)
        assert store.get(long["key"]) == long
        os.truncate(tmp_path / "s" / "shard-00000.jsonl", 1_000_000)
        with pytest.raises(UserError, match=r"shard-00000.jsonl was truncated"):
            store.get(long["key"])


def test_schemas_and_folders_that_are_no_store_are_refused(tmp_path):
    with Store(tmp_path / "s") as store:
        _fill(store, [1])
    (tmp_path / "s" / "store.json").write_text('{"schema": 3}')
    with pytest.raises(UserError, match="got schema 3, expected 2"):
        Store(tmp_path / "s")
    (tmp_path / "s" / "store.json").unlink()
    with pytest.raises(UserError, match=r"no store.json"):
        Store(tmp_path / "s")
    with Store(tmp_path / "t"):  # a refused opening lets the lock go
        pass


def test_what_is_appended_is_in_the_file_at_once(tmp_path):
    store = Store(tmp_path / "s", sync_records=1000, sync_seconds=1000)
    _fill(store, range(3))
    assert (tmp_path / "s" / "shard-00000.jsonl").read_bytes().count(b"\n") == 3
    store.close()
