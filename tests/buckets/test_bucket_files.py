"""Files of a run and of a store on gs://: written whole, without appends and renames."""

from __future__ import annotations

import json

import pytest
from etils import epath

from distill.common import object_lock
from distill.common.atomic import atomic_file, write_json, write_text
from distill.common.digests import describe_files, find_damage, sha256
from distill.errors import UserError
from distill.teacher.storage.store import Store
from distill.training import run_folder
from distill.training.run_folder import MetricsLog

RUN = epath.Path("gs://bucket/run")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    retries = {"max_retries": 3, "initial_delay": "1ms", "max_delay": "2ms"}
    monkeypatch.setattr(object_lock, "RETRIES", retries)


def _kinds(objects, path):
    return [request.kind for request in objects.requests if request.path == path]


def test_a_file_is_written_at_once_or_not_at_all(objects):
    path = RUN / "a.txt"
    write_text(path, "one")
    write_json(path, {"two": 2})
    assert json.loads(objects.get("bucket/run/a.txt")) == {"two": 2}
    kinds = {request.kind for request in objects.requests}
    assert "copy" not in kinds and "delete" not in kinds
    with pytest.raises(RuntimeError), atomic_file(path) as file:
        file.write("three")
        raise RuntimeError
    assert json.loads(objects.get("bucket/run/a.txt")) == {"two": 2}
    assert objects.names() == ["bucket/run/a.txt"]


def test_digests_are_of_the_object(objects):
    objects.put("bucket/run/b.bin", bytes(range(256)) * 40_000)  # more than one block
    described = describe_files(RUN, ["b.bin"])
    assert find_damage(RUN, described, contents=True) is None
    objects.put("bucket/run/b.bin", bytes(256 * 40_000))
    assert find_damage(RUN, described) is None  # in a bucket only the size, unless asked
    damage = find_damage(RUN, described, contents=True)
    assert damage == "the content of file b.bin has changed"
    assert sha256(RUN / "b.bin") != described["b.bin"]["sha256"]


def test_metrics_wait_for_the_next_checkpoint(objects, monkeypatch):
    """A run writes a line a step; the object is written again before each checkpoint."""
    monkeypatch.setattr(run_folder, "_BUCKET_SECONDS", 1e9)
    RUN.mkdir(parents=True, exist_ok=True)
    with MetricsLog(RUN, 0, print) as log:
        for step in range(1, 101):
            log.write(step, {"loss": 1.0 / step})
            if step % 50 == 0:
                log.flush()
                lines = objects.get("bucket/run/metrics.jsonl").splitlines()
                assert [json.loads(line)["step"] for line in lines] == [*range(1, step + 1)]
    assert _kinds(objects, "bucket/run/metrics.jsonl").count("write") == 3  # one when opened
    with MetricsLog(RUN, 50, print):
        pass
    assert len(objects.get("bucket/run/metrics.jsonl").splitlines()) == 50
    import tensorflow as tf

    names = [name for name in objects.names() if "tfevents" in name]
    assert len(names) == 2
    steps = [
        tf.compat.v1.Event.FromString(record).step
        for record in tf.compat.v1.io.tf_record_iterator(f"gs://{names[0]}")
    ]
    assert steps == [0, 1, *range(1, 101)]


def test_a_run_without_google_cloud_storage_is_told_what_to_install(monkeypatch):
    import importlib.util

    from distill.training.saved_checkpoints import SavedCheckpoints

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = r"^gs://bucket/run needs the package google-cloud-storage.*pip install 'distill.*\[gcs\]"
    with pytest.raises(UserError, match=said):
        SavedCheckpoints(RUN)
    SavedCheckpoints("run")


def _record(number):
    return {"key": f"{number:032x}", "ok": True, "id": f"r/{number}", "completion": f"c {number}"}


def test_a_store_keeps_what_was_synced(objects):
    store = Store("gs://bucket/store", sync_records=3, shard_records=6)
    for number in range(11):
        store.append(_record(number))
    # The process is killed here: what waits for the next sync is lost, and nothing else.
    shards = objects.names("bucket/store/shard")
    assert [objects.get(name).count(b"\n") for name in shards] == [6, 3]
    objects.objects.pop("bucket/store/lock")
    with Store("gs://bucket/store") as resumed:
        assert [*resumed.records()] == [_record(number) for number in range(9)]
        resumed.append(_record(20))
    assert len(objects.names("bucket/store/shard")) == 3  # an object of before is never touched
    # If it was not killed but stood still, it keeps its own answers, and writes no other object.
    lock, store._lock = store._lock, None
    lock.release()
    with pytest.raises(UserError, match=r"another process wrote .*shard-00002.jsonl"):
        for number in range(11, 16):
            store.append(_record(number))
    lines = b"".join(objects.get(name) for name in objects.names("bucket/store/shard"))
    ids = [json.loads(line)["id"] for line in lines.splitlines()]
    assert ids == [f"r/{number}" for number in [*range(12), 20]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["before", "after"])
def test_a_store_survives_a_failure_of_each_request(objects, name):
    """503 instead of one answer, whether the request was carried out or not."""
    count = 0
    while True:
        count += 1
        objects.clear()
        setattr(objects, name, lambda r, n=count: 503 if r.number == n else None)
        folder = f"gs://bucket/{name}-{count}"
        with Store(folder, sync_records=2) as store:
            for number in range(3):
                store.append(_record(number))
        done = len(objects.requests)
        setattr(objects, name, lambda r: None)
        with Store(folder, read_only=True) as store:
            assert [*store.records()] == [_record(number) for number in range(3)]
        if count > done:
            return
