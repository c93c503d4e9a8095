"""The lock that is an object: one holder at a time, whatever the store answers."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from distill.common import object_lock
from distill.common.object_lock import ConditionalStore, ObjectLock
from distill.errors import UserError

LOCK = "gs://bucket/run/lock"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A second stands for 40."""
    for name, seconds in (("RENEW", 0.5), ("LEASE", 3.0), ("POLL", 0.1)):
        monkeypatch.setattr(object_lock, f"{name}_SECONDS", seconds)
    retries = {"max_retries": 3, "initial_delay": "1ms", "max_delay": "2ms"}
    monkeypatch.setattr(object_lock, "RETRIES", retries)
    yield
    for lock in _locks:  # a renewal that outlives its test would be a request of the next one
        lock._ended.set()
        if lock._thread is not None:
            lock._thread.join()
    _locks.clear()


_locks: list[ObjectLock] = []  # of a test


def _lock():
    _locks.append(ObjectLock(LOCK, "wait for it"))
    return _locks[-1]


def _holder(objects, **changes):
    """Makes the lock's holder another process."""
    held = json.loads(objects.get("bucket/run/lock")) | changes
    objects.put("bucket/run/lock", json.dumps(held).encode())


def test_the_holder_is_named_and_followed_once_it_lets_go(objects):
    first, second = _lock(), _lock()
    first.take()
    who = rf"process \d+ on {socket.gethostname()} since 2.*: wait for it$"
    with pytest.raises(UserError, match=rf"^gs://bucket/run is in use by {who}"):
        second.take()
    first.release()
    assert objects.names() == []
    second.take()
    second.release()


def test_a_holder_elsewhere_is_seen_to_live(objects, monkeypatch):
    monkeypatch.setattr(object_lock, "is_running", lambda holder: None)
    first, second = _lock(), _lock()
    first.take()
    began = time.monotonic()
    with pytest.raises(UserError, match="is in use by process"):
        second.take()
    assert time.monotonic() - began < object_lock.LEASE_SECONDS
    first.check()
    first.release()


def test_a_holder_elsewhere_that_is_silent_is_followed_and_stops(objects, monkeypatch):
    monkeypatch.setattr(object_lock, "is_running", lambda holder: None)
    monkeypatch.setattr(object_lock, "RENEW_SECONDS", 1000.0)
    first, second = _lock(), _lock()
    first.take()
    second.take()
    with pytest.raises(UserError, match=r"another process took over gs://bucket/run/lock"):
        first.check()  # it has not renewed for a while, and so asks the store
    first.release()
    assert objects.names() == ["bucket/run/lock"]  # of the second, which nobody else deletes
    second.check()
    second.release()


def test_of_two_that_follow_one_wins(objects, monkeypatch):
    """Each finds the dead holder before any of them writes."""
    monkeypatch.setattr(object_lock, "RENEW_SECONDS", 1000.0)
    _lock().take()
    _holder(objects, pid=2**22 + 1)
    meet = threading.Barrier(8)
    write = ConditionalStore.write

    def together(self, name, content, generation):
        if generation != object_lock._ABSENT:
            meet.wait(10)
        return write(self, name, content, generation)

    monkeypatch.setattr(ConditionalStore, "write", together)
    locks, refused = [_lock() for _ in range(8)], []

    def take(lock):
        try:
            lock.take()
        except UserError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=take, args=(lock,)) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(lock.is_held for lock in locks) == 1 and len(refused) == 7
    assert all("is in use by process" in text for text in refused)


def test_a_dead_holder_on_this_machine_is_followed_at_once(objects, monkeypatch):
    for changes in ({"pid": 2**22 + 1}, {"ticks": 1}):  # no such process; its number is used again
        _lock().take()
        _holder(objects, **changes)
        monkeypatch.setattr(object_lock, "LEASE_SECONDS", 1000.0)
        lock = _lock()
        lock.take()
        lock.release()


@pytest.mark.parametrize("name", ["before", "after"])
def test_a_request_that_fails_is_repeated(objects, name):
    """503 instead of the answer: to each request in turn, carried out or not."""
    count = 0
    while True:
        objects.clear()
        count += 1
        setattr(objects, name, lambda r, n=count: 503 if r.number == n else None)
        lock = _lock()
        lock.take()
        with pytest.raises(UserError, match="in use by process"):
            _lock().take()
        lock._renew(lock._store)
        lock.check()
        done = len(objects.requests)
        lock.release()
        assert objects.names() == []
        if count > done:
            break
    assert count > 3


def test_a_renewal_whose_answer_never_came_still_holds(objects, monkeypatch):
    monkeypatch.setattr(object_lock, "RENEW_SECONDS", 1000.0)
    lock = _lock()
    lock.take()
    objects.after = lambda request: 503
    with pytest.raises(UserError, match="cannot be read or written"):
        lock._renew(lock._store)
    objects.after = lambda request: None
    lock._renew(lock._store)
    lock.check()
    lock.release()
    assert objects.names() == []


def test_a_holder_that_does_not_know_of_its_loss_deletes_nothing(objects, monkeypatch):
    monkeypatch.setattr(object_lock, "is_running", lambda holder: False)
    monkeypatch.setattr(object_lock, "RENEW_SECONDS", 1000.0)
    first, second = _lock(), _lock()
    first.take()
    second.take()
    first.release()
    assert objects.names() == ["bucket/run/lock"]
    second.release()


def test_a_store_that_refuses_is_named(objects):
    for code, reason in ((403, "PERMISSION_DENIED"), (503, "All 3 retry attempts failed")):
        objects.before = lambda request, code=code: code
        with pytest.raises(UserError, match=rf"^{LOCK} cannot be read or written: .*{reason}"):
            _lock().take()


def test_what_cannot_be_parsed_is_held_until_it_is_silent(objects, monkeypatch):
    monkeypatch.setattr(object_lock, "LEASE_SECONDS", 0.3)
    for content in (b"", b"[1]", b"{", b"[" * 100_000, b'{"pid": "x", "ticks": "y"}'):
        objects.put("bucket/run/lock", content)
        lock = _lock()
        lock.take()
        lock.release()
