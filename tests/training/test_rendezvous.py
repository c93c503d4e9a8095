"""The processes of a run find each other, and those that are missing are named."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from distill.errors import HostMissing, UserError
from distill.training import rendezvous


@pytest.fixture
def port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(rendezvous, "PERIOD", 0.2)
    monkeypatch.setattr(rendezvous, "_FIRST", 0.1)


class Meeting:
    """Processes as threads; what each returned or raised, and said."""

    def __init__(self, port):
        self.port, self.found, self.said, self._threads = port, {}, {}, []

    def start(self, index, count=3, timeout=5.0, names=None, key=None):
        key = index if key is None else key
        self.said[key] = []

        def run():
            address = ("127.0.0.1", self.port)
            say = self.said[key].append
            try:
                self.found[key] = rendezvous.meet(address, count, index, timeout, say, names)
            except UserError as error:
                self.found[key] = error

        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()

    def end(self):
        for thread in self._threads:
            thread.join(timeout=20)
            assert not thread.is_alive()
        return self.found


@pytest.fixture
def meeting(port):
    meeting = Meeting(port)
    yield meeting
    for found in meeting.found.values():
        for link in found if isinstance(found, list) else ():
            link.close()


def test_processes_meet_in_any_order(meeting):
    meeting.start(2)
    time.sleep(0.3)
    meeting.start(0)
    time.sleep(0.3)
    meeting.start(1)
    found = meeting.end()
    assert {index: len(links) for index, links in found.items()} == {0: 2, 1: 1, 2: 1}
    assert found[0][0].name.startswith("process ") and found[1][0].name.startswith("process 0 at")
    # The port is free for jax while the connections stay open.
    socket.create_server(("127.0.0.1", meeting.port)).close()
    found[0][0].send(end=0)
    other = found[int(found[0][0].name.split()[1])][0]
    assert other.receive() == [{"end": 0}]


def test_all_are_told_which_processes_are_missing(meeting):
    names = {0: "a", 1: "b", 2: "c", 3: "d"}
    for index in (0, 2):
        meeting.start(index, count=4, timeout=1.0, names=names)
    found = meeting.end()
    for index in (0, 2):
        assert isinstance(found[index], HostMissing)
        assert "2 of 4 processes: 1 (b), 3 (d) did not connect within 1 s" in str(found[index])
        assert any(
            line.startswith("waiting for 2 of 4 processes: 1 (b), 3 (d) ...")
            for line in meeting.said[index]
        )


def test_many_missing_processes_are_not_all_listed(meeting):
    meeting.start(0, count=64, timeout=0.3)
    assert "63 of 64 processes: 1, 2, 3, 4, 5, 6, 7, 8 and 55 more" in str(meeting.end()[0])


def test_a_missing_first_process_is_named(meeting):
    meeting.start(1, timeout=1.0)
    error = meeting.end()[1]
    assert isinstance(error, HostMissing)
    assert f"process 0 at 127.0.0.1:{meeting.port} did not answer within 1 s" in str(error)
    assert "refused" in meeting.said[1][0] and "1 s" in meeting.said[1][0]


def test_a_process_that_restarts_meanwhile_takes_its_place_again(meeting):
    meeting.start(0)
    time.sleep(0.2)
    with socket.create_connection(("127.0.0.1", meeting.port)) as gone:
        gone.sendall(b'{"process": 1, "count": 3, "host": "x"}\n')
        time.sleep(0.2)
    meeting.start(1)
    meeting.start(2)
    assert all(isinstance(links, list) for links in meeting.end().values())


def test_strangers_at_the_port_are_ignored(meeting):
    meeting.start(0)
    time.sleep(0.2)
    strangers = []
    for content in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b'{"process": "1"}\n', b"x" * 70_000):
        strangers.append(socket.create_connection(("127.0.0.1", meeting.port)))
        strangers[-1].sendall(content)
    meeting.start(1)
    meeting.start(2)
    assert all(isinstance(links, list) for links in meeting.end().values())
    for stranger in strangers:
        stranger.close()


def test_two_processes_with_one_index_are_refused(meeting):
    for key, index in (("a", 0), ("b", 1), ("c", 1)):
        meeting.start(index, key=key)
    found = meeting.end()
    texts = [str(found[key]) for key in "abc"]
    assert sum("two processes have --process_id=1" in text for text in texts) >= 2, texts
    assert not any(isinstance(error, HostMissing) for error in found.values())


def test_processes_that_expect_other_numbers_are_refused(meeting):
    meeting.start(0, count=2)
    meeting.start(1, count=3)
    for error in meeting.end().values():
        assert "was started with --num_processes=3, process 0 with 2" in str(error)


def test_a_port_in_use_is_named(meeting):
    with socket.create_server(("", meeting.port)):
        meeting.start(0)
        error = meeting.end()[0]
    assert f"cannot listen on port {meeting.port}" in str(error)
    assert "--coordinator_port" in str(error)
